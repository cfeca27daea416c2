"""`doctune compare`: fine-tunes with and without the adapted encoders, all else equal, and says whether they helped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doctune.config import merge, read_toml
from doctune.distributed import World
from doctune.errors import ConfigError
from doctune.evaluation.comparison import Comparison, FinishedRun, compare_runs, read_pretraining
from doctune.evaluation.schema import Report
from doctune.evaluation.stored import read_report
from doctune.readers import sources
from doctune.report.comparison import write_comparison
from doctune.runs import directory, finetuning
from doctune.runs.directory import COMPARE, FINETUNE, TOKENISED, RunDirectory
from doctune.runs.identity import Identity, documents_in, run_identity
from doctune.runs.resolve import resolve
from doctune.settings import FinetuneSettings, from_flat

BASE = "base"
# Folders of these names say nothing of what is in them, or are taken: the folder above gives its name, too.
NAMES_WITHOUT_MEANING = frozenset({BASE, TOKENISED, "model", "encoder"})


@dataclass(frozen=True, slots=True)
class Planned:
    """One run: what the comparison calls it, its resolved settings, its encoder's folder and its tokenizer's hash."""

    name: str
    settings: FinetuneSettings
    encoder: Path
    tokenizer: str

    @property
    def folder(self) -> Path:
        """The run directory."""
        return Path(self.settings.output).expanduser()

    def identity(self) -> Identity:
        """What the run is made of, now."""
        documents = {"": (self.settings.data, sources(self.settings.data))}
        return run_identity(World.single(), self.settings, FINETUNE.free, self.encoder, self.tokenizer, documents)


def compare(
    config: str | Path | None = None,
    *,
    adapted: Sequence[str | Path],
    base_run: str | Path | None = None,
    resume: bool = False,
    command: str = "doctune.compare",
    **settings: Any,
) -> Comparison:
    """Fine-tune `encoder` and each of the `adapted` folders, all else equal, and compare; also written to `output`.

    `config` and `settings` are those of `doctune.finetune`; `encoder` is the base. `base_run` is a finished run of the
    base encoder with these settings, used instead of a new one. `resume` goes on with a comparison that was killed.
    Raises `UserError` with one clear line for bad input.
    """
    tree = merge({} if config is None else read_toml(Path(config)), from_flat(settings))
    return run(FinetuneSettings.build(tree), [str(folder) for folder in adapted], base_run, command, resume)


def run(
    settings: FinetuneSettings, adapted: Sequence[str], base_run: str | Path | None, command: str, resume: bool = False
) -> Comparison:
    """Everything from settings to the comparison.

    Runs that are finished are not repeated; the one that was killed goes on from its checkpoint. After an error the
    finished runs stay.
    """
    output = Path(settings.output).expanduser()
    check_output(output, resume)
    require_adapted(adapted)
    planned = plan(settings, adapted, base_run)
    pretraining = [read_pretraining(one.encoder) for one in planned[1:]]
    place = RunDirectory(output, COMPARE, resume, World.single())
    with place.cleaned_up():
        reports = _fine_tune(planned, place, base_run is not None, command, resume)
        _check_same_documents(planned)
    base, *others = [
        FinishedRun(one.name, one.settings.encoder.encoder, one.folder, report, one.tokenizer, facts)
        for one, report, facts in zip(planned, reports, [None, *pretraining], strict=True)
    ]
    first, count = settings.training.seed, settings.training.seeds
    comparison = compare_runs(base, others, range(first, first + count), command)
    write_comparison(output, comparison)
    return comparison


def plan(settings: FinetuneSettings, adapted: Sequence[str], base_run: str | Path | None) -> list[Planned]:
    """The runs, the base first; checks every encoder, so that a bad one does not show after hours of the others.

    What depends on the encoder and was not given (learning rate, pooling, longest sequence) is resolved for the base
    encoder, and holds for all.
    """
    output = Path(settings.output)
    folders = check_adapted(adapted, settings.encoder.encoder)
    changes: dict[str, Any] = {"output": str(output / BASE) if base_run is None else str(base_run)}
    if settings.data.cache is None:
        changes["data"] = settings.data.model_copy(update={"cache": str(output / TOKENISED)})
    base, folder, tokenizer = resolve(settings.model_copy(update=changes))
    planned = [Planned(BASE, base, folder, tokenizer.hash)]
    for name, given in zip(names(folders), adapted, strict=True):
        tree = base.model_dump()
        tree["output"] = str(output / name)
        tree["encoder"] |= {"encoder": str(given), "revision": None}
        own, folder, tokenizer = resolve(FinetuneSettings.build(tree))
        planned.append(Planned(name, own, folder, tokenizer.hash))
    return planned


def require_adapted(adapted: Sequence[str]) -> None:
    """There must be something to compare with."""
    if not adapted:
        raise ConfigError("--adapted: must be given: one or more folders of further pre-trained encoders")


def check_adapted(adapted: Sequence[str], base: str) -> list[Path]:
    """The folders of the adapted encoders; `ConfigError` if one is no folder, or one is given twice."""
    known = {Path(base).expanduser().resolve(): "the base encoder itself"}
    folders = []
    for given in adapted:
        folder = Path(given).expanduser()
        if not folder.is_dir():
            found = "is a file" if folder.exists() else "no such folder"
            raise ConfigError(f"--adapted {given}: {found}; give folders of further pre-trained encoders")
        place = folder.resolve()
        if place in known:
            raise ConfigError(f"--adapted {given}: is {known[place]}; give each encoder once")
        known[place] = "given twice"
        folders.append(place)
    return folders


def names(folders: Sequence[Path]) -> list[str]:
    """What the runs are called: the names of their folders, with those above as far as it takes to tell them apart."""
    found: list[str] = []
    for folder in folders:
        above, name = folder.parent, folder.name
        while (name in NAMES_WITHOUT_MEANING or name in found) and above.name:
            above, name = above.parent, f"{above.name}-{name}"
        found.append(name if name not in found else f"{name}-{len(found) + 1}")
    return found


def check_output(output: Path, resume: bool) -> None:
    """The output directory must be new or empty, or hold a comparison to go on with."""
    if output.is_file():
        raise ConfigError(f"output: {output} is a file; give a new or empty directory")
    if not output.is_dir() or not any(output.iterdir()):
        return
    begun = any(output.glob("*/config.toml"))
    if not (resume and begun):
        raise directory.not_empty(output, "comparison" if begun else None)


def finished_run(one: Planned, base_given: bool = False) -> Report | None:
    """The report of a run that is there already, or None; `ConfigError` if it is of other settings, data or encoder."""
    path, config = one.folder / directory.REPORT, one.folder / directory.CONFIG
    if not path.is_file() or not config.is_file():
        return None
    leave_out = "compare with the same settings, or leave --base-run out" if base_given else None
    directory.check_same(one.settings, config, FINETUNE.free, leave_out)
    there, wanted = read_toml(config).get("training", {}).get("seeds", 1), one.settings.training.seeds
    if there > wanted:
        raise ConfigError(
            f"training.seeds: {wanted}, but the run in {one.folder} has {there}; compare with as many, or give a new "
            f"--output"
        )
    one.identity().check(one.folder, "leave --base-run out" if base_given else "give a new --output")
    return read_report(path) if there == wanted else None


def _fine_tune(
    planned: list[Planned], place: RunDirectory, base_given: bool, command: str, resume: bool
) -> list[Report]:
    reports = [finished_run(one, base_given and one is planned[0]) for one in planned]
    seeds = planned[0].settings.training.seeds
    if base_given and reports[0] is None:
        raise ConfigError(
            f"--base-run {planned[0].folder}: no finished run with {seeds} seed{'s' if seeds > 1 else ''} is there; "
            f"give a run directory of doctune finetune, or leave it out"
        )
    place.make()
    directory.check_space(place.output, planned[0].encoder, seeds * sum(report is None for report in reports))
    done: list[Report] = []
    for number, (one, report) in enumerate(zip(planned, reports, strict=True), 1):
        where = f"run {number} of {len(planned)}: {one.name} ({one.settings.encoder.encoder})"
        print(where if report is None else f"{where} is finished", file=sys.stderr)
        done.append(finetuning.run(one.settings, command, resume) if report is None else report)
    return done


def _check_same_documents(planned: Sequence[Planned]) -> None:
    """No file may have changed while the runs were made: their figures would be of different data."""
    base, *others = planned
    for one in others:
        if documents_in(one.folder) != documents_in(base.folder):
            raise ConfigError(
                f"data: the documents changed between {base.folder} and {one.folder}, so their figures do not compare; "
                f"compare again with a new --output"
            )


def describe_comparison(settings: FinetuneSettings, adapted: Sequence[str], base_run: str | Path | None) -> str:
    """What `--dry-run` adds to that of a single run: the runs, and which of them are finished."""
    require_adapted(adapted)
    lines = ["# all of this for each of these encoders:"]
    for one in plan(settings, adapted, base_run):
        state = "" if finished_run(one) is None else ", finished"
        lines.append(f"# {one.folder}: {one.settings.encoder.encoder}{state}")
    return "\n".join(lines)
