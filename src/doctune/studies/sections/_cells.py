"""What the cells of a study show."""

from __future__ import annotations

from doctune.report.numbers import DASH, interval
from doctune.studies.results import CellJson, StudyJson

FIGURES_MEAN_NOTHING, CURVE = "smoke", "given"
"""Scales: that of the smoke test, and that of learning curves."""


def with_paper(study: StudyJson) -> bool:
    """Whether there is any figure of the paper to show."""
    return any(cell["paper"] is not None for cell in study["cells"])


def cell_at(study: StudyJson, row: str, column: str) -> CellJson | None:
    """The cell of a row in a column."""
    return next((c for c in study["cells"] if (c["row"], c["column"]) == (row, column)), None)


def shown(cell: CellJson | None) -> tuple[str, str]:
    """What a cell shows of itself and of the paper."""
    if cell is None:
        return DASH, DASH
    paper = DASH if cell["paper"] is None else f"{cell['paper']:.2f}"
    if cell["error_percent"] is None or cell["interval_percent"] is None:
        return cell["absent"] or DASH, paper
    low, high = cell["interval_percent"][:2]
    return interval(cell["error_percent"], low, high), paper


def interval_note(study: StudyJson) -> str:
    """What the intervals are over."""
    count = len(study["seeds"])
    if count > 1:
        return f"the 95 % interval of the mean over {count} seeds (Student's t)."
    return "the 95 % interval over the test documents (Wilson); one seed says nothing of other seeds."


def warnings(study: StudyJson) -> list[str]:
    """What a reader must know before believing the figures; all notes of a learning curve are of that kind."""
    if study["scale"] == FIGURES_MEAN_NOTHING:
        return ["A smoke test: these figures mean nothing."]
    return [*(study["notes"] if study["scale"] == CURVE else ()), *study.get("warnings", ())]
