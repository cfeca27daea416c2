"""`doctune study`: a table or figure of the paper, run anew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from doctune.config import did_you_mean
from doctune.errors import ConfigError, TrainingError
from doctune.files import no_space_is_one_line
from doctune.studies.datasets import StudyData, check_columns, find_data
from doctune.studies.definition import Scale, Study, described, load_study
from doctune.studies.grid import Where, import_ray, run_jobs
from doctune.studies.jobs import finished
from doctune.studies.plan import CITED, Plan, Planner
from doctune.studies.report import write_study
from doctune.studies.results import StudyJson, gather

FIRST_SEED = 42
DEFAULT_FOLDER = "runs/studies"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the command line asks for; None is the scale's own."""

    name: str
    scale: str = "small"
    data: str | None = None
    datasets: str | None = None
    columns: tuple[str, ...] | None = None
    encoders: tuple[tuple[str, str], ...] = ()
    seeds: int | None = None
    output: str | None = None
    cache: str | None = None
    on: Where = "here"
    workers: int | None = None
    keep_models: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A study that is ready to run."""

    name: str
    study: Study
    scale: Scale
    data: dict[str, StudyData]
    seeds: tuple[int, ...]
    plan: Plan
    cache: Path
    output: Path
    notes: tuple[str, ...] = ()


def study(name: str, command: str = "doctune.study", **asked: object) -> StudyJson:
    """Run a study of the paper (`table2` ... `figure4`, or a TOML file); its result, also written to `output`.

    `asked` are the names of `Asked`, for instance `scale="small", data="DATA", seeds=3, output="runs/table2"`. Raises
    `UserError` with one clear line for bad input.
    """
    known = [field.name for field in fields(Asked)]
    for unknown in (one for one in asked if one not in known):
        raise ConfigError(f"{unknown}: no such setting{did_you_mean(unknown, known)}")
    return run(Asked(name, **asked), command)  # type: ignore[arg-type]


def run(asked: Asked, command: str) -> StudyJson:
    """Do the runs that are missing, and write study.json, study.md, study.csv and study.html.

    Runs that fail do not stop the others; after all of them a `TrainingError` names the first.
    """
    return run_together([asked], command)[0]


def run_together(several: Sequence[Asked], command: str) -> list[StudyJson]:
    """As `run`, for studies whose runs are one grid: what several want is done once, and nobody waits for the others.

    They have the same cache, and are done in the same place.
    """
    first = several[0]
    if first.on == "ray":
        import_ray()
    made = [prepare(asked) for asked in several]
    failed = do_runs(made, first.on, first.workers, first.keep_models)
    results = []
    for asked, ready in zip(several, made, strict=True):
        results.append(result_of(ready, asked.scale, failed, command))
        write_study(ready.output, results[-1])
    check_failed(failed, made)
    return results


def do_runs(several: Sequence[Prepared], on: Where, workers: int | None, keep_models: bool) -> dict[str, str]:
    """Do the runs that are missing; what went wrong by the key of the run."""
    for ready in several:
        with no_space_is_one_line(ready.output):
            ready.output.mkdir(parents=True, exist_ok=True)
    jobs = {job.key: job for ready in several for job in ready.plan.jobs}
    return run_jobs(list(jobs.values()), several[0].cache, on, workers, keep_models)


def result_of(ready: Prepared, scale: str, failed: dict[str, str], command: str) -> StudyJson:
    """The result of the runs that there are."""
    notes = [
        *(f"{data.name}: {data.note}." for data in ready.data.values() if data.note),
        *ready.notes,
        *ready.plan.notes,
    ]
    return gather(
        ready.name, ready.study, scale, ready.scale, ready.plan, ready.seeds, ready.cache, failed, notes, command
    )


def check_failed(failed: dict[str, str], several: Sequence[Prepared]) -> None:
    """A `TrainingError` that names the first of the runs that failed."""
    if failed:
        first, jobs = next(iter(failed.values())), {job.key for ready in several for job in ready.plan.jobs}
        raise TrainingError(
            f"{len(failed)} of {len(jobs)} runs failed, the first: {first}. What there is of the study is "
            f"in {', '.join(str(ready.output) for ready in several)}; the same command does what is missing"
        )


def prepare(asked: Asked) -> Prepared:
    """Find the data, make the plan, and check everything that can be checked before any run."""
    name, definition, scale = load_study(asked.name, asked.scale)
    scale = scale.model_copy(update={"encoders": {**scale.encoders, **dict(asked.encoders)}})
    known = [column.name for column in definition.columns]
    chosen = check_columns(asked.columns or scale.columns or known, known)
    wanted = [c for c in definition.columns if c.name in chosen]
    # A column whose encoder this scale lacks needs no data.
    columns = tuple(c for c in wanted if c.encoder is None or scale.encoders.get(c.encoder))
    notes = tuple(f"{c.name} is left out: no encoder for its language (--{c.encoder}-encoder)." for c in wanted
                  if c not in columns)  # fmt: skip
    if not columns:
        raise ConfigError(f"--columns {' '.join(chosen)}: no encoder for their language; give --chinese-encoder")
    definition = definition.model_copy(update={"columns": columns})
    data = find_data((c.data for c in columns), asked.data, asked.datasets, scale.embedded)
    count = asked.seeds or scale.seeds
    seeds = tuple(range(FIRST_SEED, FIRST_SEED + count))
    cache = Path(asked.cache or f"{DEFAULT_FOLDER}/runs").expanduser()
    output = Path(asked.output or f"{DEFAULT_FOLDER}/{name}-{asked.scale}").expanduser()
    if output.is_file():
        raise ConfigError(f"output: {output} is a file; give a directory")
    plan = Planner(definition, scale, data, seeds, cache).plan()
    return Prepared(name, definition, scale, data, seeds, plan, cache, output, notes)


def describe_study(asked: Asked) -> str:
    """What would run, for `--dry-run`."""
    return describe_plan(prepare(asked))


def describe_plan(ready: Prepared) -> str:
    """The runs, those that are done already, and the cells that have none."""
    lines = [ready.study.title, ready.scale.about, ""]
    lines += [f"{job.kind:<10} {job.about}{' (done)' if finished(job, ready.cache) else ''}" for job in ready.plan.jobs]
    lines += [f"{'-':<10} {c.row} · {c.column}: {c.absent}" for c in ready.plan.cells if c.absent not in ("", CITED)]
    lines += ready.notes
    left = sum(not finished(job, ready.cache) for job in ready.plan.jobs)
    return "\n".join([*lines, "", f"{left} of {len(ready.plan.jobs)} runs to do; result: {ready.output}"])


def listing() -> str:
    """The studies that there are, for `--list`."""
    return "\n".join(f"{name:<9} {title}" for name, title in described())
