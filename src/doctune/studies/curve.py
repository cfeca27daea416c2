"""`doctune curve`: error over the number of labels, with and without further pre-training (the paper's figure 4).

A study in memory: a row for each encoder, a column for each number of labels; its runs are jobs like those of any
study, kept in OUTPUT/runs, so that a curve goes on where it was killed, and grows by sizes and seeds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doctune.commands import dry_run
from doctune.config import Tree, merge, read_toml
from doctune.distributed import World
from doctune.encoders.load import read_shape
from doctune.errors import ConfigError
from doctune.evaluation.comparison import PretrainingFacts, read_pretraining
from doctune.readers import Source, sources
from doctune.runs import comparing, directory
from doctune.runs.data import data_title, split
from doctune.runs.directory import CURVE, TOKENISED, RunDirectory
from doctune.runs.identity import encoder_content, source_content
from doctune.settings import DataSettings, FinetuneSettings, from_flat
from doctune.store.splits import number_of_examples
from doctune.studies.command import Prepared, check_failed, describe_plan, do_runs, result_of
from doctune.studies.curve_report import STEM, sentences, warnings
from doctune.studies.definition import Column, Row, Scale, Study
from doctune.studies.grid import Where, import_ray
from doctune.studies.jobs import Job, finished, read_documents
from doctune.studies.plan import UNNAMED, Cell, Plan, Run, finetune_job
from doctune.studies.report import write_study
from doctune.studies.results import StudyJson
from doctune.text.tokenizer import TextTokenizer

ALL = "all"
SEEDS = 3
RUNS = "runs"
Size = str | int | float


@dataclass(frozen=True, slots=True)
class Curve:
    """A curve that is ready to run: its study, its encoders (the base first), and what is known of them."""

    ready: Prepared
    encoders: tuple[comparing.Planned, ...]
    facts: tuple[PretrainingFacts | None, ...]
    part: str

    @property
    def left(self) -> list[Job]:
        """The jobs that are not done."""
        return [job for job in self.ready.plan.jobs if not finished(job, self.ready.cache)]


def curve(
    config: str | Path | None = None,
    *,
    sizes: Sequence[Size],
    adapted: Sequence[str | Path] = (),
    on: Where = "here",
    workers: int | None = None,
    keep_models: bool = False,
    command: str = "doctune.curve",
    **settings: Any,
) -> StudyJson:
    """Fine-tune `encoder` and the `adapted` folders with each of `sizes` labels; the curve, also written to `output`.

    A size is a number of labels, a share of them between 0 and 1, or "all". `config` and `settings` are those of
    `doctune.finetune`; `seeds` is 3 by default. `on` is here, processes or ray, with so many `workers`. Runs that are
    finished in `output` are not repeated. Raises `UserError` with one clear line for bad input.
    """
    tree = merge({} if config is None else read_toml(Path(config)), from_flat(settings))
    return run(build(tree), sizes, [str(one) for one in adapted], command, on, workers, keep_models)


def build(tree: Tree, flags: bool = False) -> FinetuneSettings:
    """The settings of a curve: as those of `doctune finetune`, with more seeds by default."""
    return FinetuneSettings.build(merge({"training": {"seeds": SEEDS}}, tree), flags)


def run(
    settings: FinetuneSettings,
    sizes: Sequence[Size],
    adapted: Sequence[str],
    command: str,
    on: Where = "here",
    workers: int | None = None,
    keep_models: bool = False,
) -> StudyJson:
    """Do the runs that are missing, and write curve.json, .csv, .md, .html and the plot.

    Runs that fail do not stop the others; after all of them a `TrainingError` names the first.
    """
    if on == "ray":
        import_ray()
    if workers is not None and workers < 1:
        raise ConfigError(f"--workers: {workers}; give 1 or more")
    one = prepare(settings, sizes, adapted)
    _check_documents(one, keep_models)
    failed = do_runs([one.ready], on, workers, keep_models)
    result = result_of(one.ready, "given", failed, command)
    result["notes"] += warnings(result, one.encoders, one.facts, one.part)
    result["sentences"] = sentences(result)
    write_study(one.ready.output, result, STEM)
    check_failed(failed, [one.ready])
    return result


def prepare(settings: FinetuneSettings, sizes: Sequence[Size], adapted: Sequence[str]) -> Curve:
    """The study and its runs; checks encoders, folders and sizes, and writes nothing."""
    if settings.data.train_examples is not None:
        raise ConfigError("data.train_examples: a curve has its numbers of labels from --sizes; leave it out")
    output = Path(settings.output).expanduser()
    _check_output(output)
    cache = Path(settings.data.cache or output / RUNS / TOKENISED).expanduser().resolve()
    data = settings.data.model_copy(update={"cache": str(cache)})
    planned = comparing.plan(settings.model_copy(update={"data": data}), adapted, None)
    facts = tuple(None if one is planned[0] else read_pretraining(one.encoder) for one in planned)
    found = sources(settings.data)
    columns = _columns(sizes, settings.data, found["train"])
    part = "test" if "test" in found else "validation"
    study = Study(
        title=f"Few labels: {data_title(settings.data)}",
        question="How many errors do so many labels leave"
        + (", and does further pre-training make up for those that are missing?" if adapted else "?"),
        unit=f"{part} error %", reference=comparing.BASE, plot="over columns", axis="labelled training documents",
        columns=columns, rows=tuple(Row(name=one.name) for one in planned),
    )  # fmt: skip
    training = planned[0].settings.training
    seeds = tuple(range(training.seed, training.seed + training.seeds))
    encoders = {one.name: one.settings.encoder.encoder for one in planned}
    scale = Scale(about=_about(planned[0].settings, encoders, seeds), seeds=len(seeds), encoders=encoders)
    content = {name: source_content(source) for name, source in found.items()}
    weights = {one.name: encoder_content(one.encoder) for one in planned}
    cells = tuple(
        Cell(one.name, column.name, tuple(_runs(one, column, seeds, content, weights[one.name])))
        for one in planned for column in columns
    )  # fmt: skip
    plan = Plan(cells, tuple({run.job.key: run.job for cell in cells for run in cell.runs}.values()))
    ready = Prepared(STEM, study, scale, {}, seeds, plan, output / RUNS, output)
    return Curve(ready, tuple(planned), facts, part)


def _check_output(output: Path) -> None:
    if output.is_file():
        raise ConfigError(f"output: {output} is a file; give a new or empty directory")
    begun = any((output / RUNS / name).is_dir() for name in ("finetune", TOKENISED))
    if output.is_dir() and any(output.iterdir()) and not begun:
        raise ConfigError(f"output: {output} is not empty, and holds no curve; give a new directory")


def _columns(sizes: Sequence[Size], data: DataSettings, train: Source) -> tuple[Column, ...]:
    """A column for each size, the smallest first; `ConfigError` for a size that cannot be."""
    if not sizes:
        raise ConfigError("--sizes: must be given: numbers of labels, shares of them between 0 and 1, or all")
    labels = Counter(example.label for example in train.read() if example.text.strip() or example.text_pair)
    of, columns = labels.total(), dict[int, Column]()
    for size in sizes:
        wanted = None if str(size) == ALL else _number_or_share(size, data)
        if wanted is not None and wanted > of:
            raise ConfigError(f"--sizes: {size}, but train has {of:,} documents; give {of:,} or less, or all")
        count = of if wanted is None else number_of_examples(wanted, of, len(+labels), setting="--sizes")
        if count in columns:
            raise ConfigError(f"--sizes: {size} and {columns[count].name} are the same; give each size once")
        name = f"{count:,} labels" + ("" if isinstance(wanted, int) else f" ({size})")
        chosen = {} if wanted is None else {"data": {"train_examples": count}}
        columns[count] = Column(name=name, data=data_title(data), x=count, set=chosen)
    return tuple(columns[count] for count in sorted(columns))


def _number_or_share(size: Size, data: DataSettings) -> int | float | None:
    try:
        return DataSettings.build({**data.model_dump(), "train_examples": size}).train_examples
    except ConfigError as error:
        raise ConfigError(f"--sizes:{str(error).partition(':')[2]}; or all") from None


def _runs(
    one: comparing.Planned, column: Column, seeds: Sequence[int], content: dict[str, str], encoder: str
) -> Iterator[Run]:
    """The runs of a cell, a job for each seed."""
    num_layers = read_shape(one.encoder).num_layers
    tree = one.settings.model_dump(mode="json", exclude_none=True, exclude={"output"})
    for name in ("train", "validation", "test", "data"):
        place = Path(tree["data"].get(name, "")).expanduser()
        if name in tree["data"] and place.exists():
            # The whole path: a run's settings must name the same file wherever they are used again.
            tree["data"][name] = str(place.resolve())
    if Path(one.settings.encoder.encoder).expanduser() == one.encoder:
        tree["encoder"]["encoder"] = str(one.encoder.resolve())
    for seed in seeds:
        own = merge(tree, column.set, {"training": {"seed": seed, "seeds": 1}})
        about = f"{one.name} · {column.name} · seed {seed}"
        yield Run(seed, finetune_job(own, content, encoder, num_layers, about))


def _about(settings: FinetuneSettings, encoders: dict[str, str], seeds: Sequence[int]) -> str:
    """What was compared, in a few sentences."""
    named = ", ".join(f"{name} is {encoder}" for name, encoder in encoders.items())
    each = "seeds, each of which draws its own labels" if len(seeds) > 1 else "seed, which draws the labels"
    training = settings.training
    chosen = "the last is kept" if training.select == "last" else "validation chooses one"
    return (
        f"{named}. {len(seeds)} {each}, the same for every encoder; those of a smaller size are among those of a "
        f"larger one. Epochs: {training.epochs:g}, of which {chosen}; batches of {training.batch_size}; learning rate "
        f"{settings.optimizer.learning_rate:g}; at most {settings.truncation.max_seq_len} tokens of a text."
    )


def _check_documents(one: Curve, keep_models: bool) -> None:
    """Read the documents and draw every run's labels, so that no error comes after hours of other runs.

    After one, an output directory that was new is as it was.
    """
    left = one.left
    if not left:
        return
    seen = set[str]()
    rows = {run.job.key: cell.row for cell in one.ready.plan.cells for run in cell.runs}
    place = RunDirectory(one.ready.output, CURVE, False, World.single())
    with place.cleaned_up():
        place.make()
        directory.check_space(place.output, one.encoders[0].encoder, len(left) if keep_models else 1)
        for encoder in one.encoders:
            jobs = [job for job in left if rows[job.key] == encoder.name]
            if not jobs or encoder.tokenizer in seen:
                continue
            seen.add(encoder.tokenizer)
            for job in jobs:
                settings = FinetuneSettings.build({**job.settings, "output": UNNAMED})
                documents = read_documents(settings.data, settings.target, TextTokenizer.load(encoder.encoder))
                split(settings, documents, settings.training.seed)


def describe_curve(settings: FinetuneSettings, sizes: Sequence[Size], adapted: Sequence[str]) -> str:
    """What `--dry-run` prints: settings and data with the most labels, and all runs."""
    one = prepare(settings, sizes, adapted)
    most = one.ready.study.columns[-1].set.get("data", {})
    largest = settings.model_copy(update={"data": settings.data.model_copy(update=most)})
    return f"{dry_run.describe_finetuning(largest)}\n\n{describe_plan(one.ready)}"
