"""From finished runs to the figures of a study: cells with intervals, and whether the paper's findings hold.

Keys of study.json are stable: an older one must stay readable. `_percent` is 0..100, differences are points of it.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Literal, NamedTuple, NotRequired, TypedDict

from doctune.errors import DataError
from doctune.evaluation.comparison import StoredAnswers, points, read_answers
from doctune.evaluation.intervals import Difference, is_collapsed, paired_bootstrap_over_seeds, seed_interval
from doctune.evaluation.schema import FORMAT, Report
from doctune.evaluation.stored import read_report
from doctune.metrics.single import Ends, Metrics
from doctune.studies.definition import Finding, Row, Scale, Study
from doctune.studies.plan import Cell, Plan
from doctune.version import __version__

Held = Literal["holds", "does not hold", "cannot tell", "not run"]


class RunJson(TypedDict):
    """One seed of a cell; `command` repeats it."""

    seed: int
    error_percent: float
    run: str
    command: str


class CurvePoint(TypedDict):
    """One evaluation during training."""

    step: int
    train_loss: float
    validation_error_percent: float


class CellJson(TypedDict):
    """A row in a column; `absent` says why there are no runs. `against_reference`: points, low, high."""

    row: str
    column: str
    error_percent: float | None
    interval_percent: Ends | None
    paper: float | None
    runs: list[RunJson]
    absent: str
    against_reference: NotRequired[list[float]]
    curve: NotRequired[list[CurvePoint]]


class FindingJson(TypedDict):
    """A finding of the paper in one column: the verdict, and the sentences behind it."""

    text: str
    column: str
    verdict: Held
    reasons: list[str]


class ReductionJson(TypedDict):
    """By how much a row has fewer errors than another one: the mean over so many columns of the share saved.

    `paper_percent` is over the same columns.
    """

    row: str
    against: str
    percent: float
    paper_percent: float | None
    columns: int


class ColumnJson(TypedDict):
    """A column: its data set and how much of it was used."""

    name: str
    data: str
    documents: str
    x: float | None


class StudyJson(TypedDict):
    """All of study.json. `sentences` say what a learning curve shows, `warnings` which runs learnt nothing."""

    format: int
    doctune: str
    created: str
    name: str
    title: str
    question: str
    unit: str
    scale: str
    about: str
    reference: str
    plot: str
    axis: str
    encoders: dict[str, str]
    seeds: list[int]
    rows: list[str]
    row_x: list[float | None]
    columns: list[ColumnJson]
    cells: list[CellJson]
    findings: list[FindingJson]
    notes: list[str]
    sentences: NotRequired[list[str]]
    warnings: NotRequired[list[str]]
    reductions: NotRequired[list[ReductionJson]]
    command: str


class Read(NamedTuple):
    """The runs of a cell, read: reports and answers by seed."""

    reports: list[Report]
    answers: list[StoredAnswers]


def gather(
    name: str, study: Study, scale_name: str, scale: Scale, plan: Plan, seeds: Sequence[int], cache: Path,
    failed: dict[str, str], notes: Sequence[str], command: str,
) -> StudyJson:  # fmt: skip
    """Read all runs of a plan; cells whose runs failed say why."""
    rows = {row.name: row for row in study.rows}
    found = {(cell.row, cell.column): _read(cell, cache, failed) for cell in plan.cells}
    cells = [_cell(cell, rows[cell.row], found, study, cache, failed) for cell in plan.cells]
    present = [column for column in study.columns if any(cell.column == column.name for cell in plan.cells)]
    return StudyJson(
        format=FORMAT, doctune=__version__, created=time.strftime("%Y-%m-%dT%H:%M:%S%z"), name=name, title=study.title,
        question=study.question, unit=study.unit, scale=scale_name, about=scale.about, reference=study.reference,
        plot=study.plot, axis=study.axis, encoders=dict(scale.encoders), seeds=list(seeds),
        rows=[row.name for row in study.rows], row_x=[row.x for row in study.rows],
        columns=[
            {"name": c.name, "data": c.data, "x": c.x,
             "documents": _documents([read for (_, column), read in found.items() if column == c.name and read])}
            for c in present
        ],
        cells=cells,
        findings=[_finding(one, column.name, found) for one in study.findings for column in present
                  if one.columns is None or column.name in one.columns],
        notes=list(notes), warnings=_collapsed(cells, found),
        reductions=reductions(study, cells), command=command,
    )  # fmt: skip


def _read(cell: Cell, cache: Path, failed: dict[str, str]) -> Read | None:
    if not cell.runs or any(run.job.key in failed for run in cell.runs):
        return None
    folders = [cache / run.place for run in cell.runs]
    return Read([read_report(f / "report.json") for f in folders], [read_answers(f) for f in folders])


def _cell(
    cell: Cell, row: Row, found: dict[tuple[str, str], Read | None], study: Study, cache: Path, failed: dict[str, str]
) -> CellJson:
    read = found[cell.row, cell.column]
    absent = cell.absent or next((f"failed: {failed[r.job.key]}" for r in cell.runs if r.job.key in failed), "")
    made = CellJson(row=cell.row, column=cell.column, error_percent=None, interval_percent=None,
                    paper=row.paper.get(cell.column), runs=[], absent=absent)  # fmt: skip
    if read is None:
        return made
    judged = [Metrics.from_json(report["test"] or report["validation"]) for report in read.reports]
    summary = seed_interval([metrics.error_percent for metrics in judged])
    low, high = judged[0].error_interval_percent
    if summary.low is not None and summary.high is not None:
        low, high = max(summary.low, 0.0), min(summary.high, 100.0)
    made["error_percent"], made["interval_percent"] = summary.mean, [low, high]
    for run, metrics in zip(cell.runs, judged, strict=True):
        config = cache / run.job.place / "config.toml"
        again = f"doctune {run.job.kind} --config {shlex.quote(str(config))} --output AGAIN"
        made["runs"].append({"seed": run.seed, "error_percent": metrics.error_percent,
                             "run": str(cache / run.place), "command": again})  # fmt: skip
    reference = found.get((study.reference, cell.column))
    if reference is not None and cell.row != study.reference:
        made["against_reference"] = list(_difference(read, reference))
    if study.plot == "training":
        made["curve"] = [
            {"step": e["step"], "train_loss": e["train_loss"],
             "validation_error_percent": e["validation"]["error_percent"]} for e in read.reports[0]["epochs"]
        ]  # fmt: skip
    return made


def reductions(study: Study, cells: Sequence[CellJson]) -> list[ReductionJson]:
    """The average reduction of the error of each row that was run, as the last column of the paper's table 6."""
    against = study.reduction_against
    if against is None:
        return []
    base = {cell["column"]: cell for cell in cells if cell["row"] == against}
    made = []
    for row in study.rows:
        pairs = [(cell, base[cell["column"]]) for cell in cells if cell["row"] == row.name != against
                 and cell["error_percent"] is not None]  # fmt: skip
        ours = [_saved(own["error_percent"], other["error_percent"]) for own, other in pairs]
        theirs = [_saved(own["paper"], other["paper"]) for own, other in pairs]
        known = [one for one in ours if one is not None]
        told = [one for one in theirs if one is not None]
        if known:
            paper = fmean(told) if len(told) == len(known) else None
            made.append(ReductionJson(row=row.name, against=against, percent=fmean(known), paper_percent=paper,
                                      columns=len(known)))  # fmt: skip
    return made


def _saved(error: float | None, base: float | None) -> float | None:
    """Percent of the errors of `base` that are saved; None where one is not known or there are none to save."""
    return None if error is None or not base else 100 * (base - error) / base


def _collapsed(cells: Sequence[CellJson], found: dict[tuple[str, str], Read | None]) -> list[str]:
    """A sentence that names the runs which learnt nothing, if there are any."""
    said = []
    for cell in cells:
        read = found[cell["row"], cell["column"]]
        judged = [Metrics.from_json(one["test"] or one["validation"]) for one in (read.reports if read else ())]
        seeds = [str(run["seed"]) for run, one in zip(cell["runs"], judged, strict=True) if is_collapsed(one)]
        if seeds:
            said.append(f"{cell['row']}, {cell['column']}: seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}")
    if not said:
        return []
    return [f"Runs that collapsed, that is, learnt nothing, and are part of their means: {'; '.join(said)}."]


def _difference(a: Read, b: Read) -> Difference:
    """Error of A minus error of B in points with its interval, paired over seeds and documents."""
    if any(one.ids != other.ids for one, other in zip(a.answers, b.answers, strict=True)):
        raise DataError("two runs of a study were not tested on the same documents; their tokenizers may differ")
    same = all(one.ids == a.answers[0].ids for one in a.answers)
    return paired_bootstrap_over_seeds([o.correct for o in a.answers], [o.correct for o in b.answers], same)


def _finding(finding: Finding, column: str, found: dict[tuple[str, str], Read | None]) -> FindingJson:
    better = found.get((finding.better, column))
    reasons: list[str] = []
    verdicts: list[Held] = []
    for name in finding.than:
        other = found.get((name, column))
        if better is None or other is None:
            continue
        difference, low, high = _difference(better, other)
        verdicts.append("holds" if high < 0 else "does not hold" if low > 0 else "cannot tell")
        reasons.append(f"{finding.better} minus {name}: {points(difference)} points ({points(low)} to {points(high)})")
    order: tuple[Held, ...] = ("not run", "holds", "cannot tell", "does not hold")  # the worst of them counts
    verdict: Held = max(verdicts, key=order.index, default="not run")
    return {"text": finding.text, "column": column, "verdict": verdict, "reasons": reasons}


def _documents(reads: Sequence[Read]) -> str:
    """How many documents the runs of a column had; a range where rows differ."""
    if not reads:
        return ""
    reports = [report for read in reads for report in read.reports]
    train = sorted({report["data"]["train"] + _held(report) for report in reports})
    test = sorted({report["data"]["test"] for report in reports})
    whole = max((r["data"]["test_examples"]["of"] for r in reports if "test_examples" in r["data"]), default=None)
    many = f"{train[0]:,}" if len(train) == 1 else f"{train[0]:,} to {train[-1]:,}"
    if test == [0]:
        return f"{many} labelled for training and validation, none to test"
    tested = f"{test[0]:,}" if len(test) == 1 else f"{test[0]:,} to {test[-1]:,}"
    return f"{many} labelled for training and validation, {tested} tested" + (f" of {whole:,}" if whole else "")


def _held(report: Report) -> int:
    return 0 if report["data"]["validation_from"] == "given" else report["data"]["validation"]
