"""A learning curve in words and files: what it says, its table on the terminal, and its plot.

`sentences` and `summary` read the `StudyJson` dictionary only, so that an older curve.json can be shown again.
"""

from __future__ import annotations

import itertools
import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from doctune.evaluation.comparison import (
    VALIDATION_FLATTERS,
    FinishedRun,
    PretrainingFacts,
    encoder_warnings,
    sentence,
    verdict,
)
from doctune.evaluation.stored import read_report
from doctune.report.lines import TABLE_WIDTH, clipped, wrapped
from doctune.runs.comparing import Planned
from doctune.runs.fit import FEWEST_TO_CHOOSE_BY, validation_documents
from doctune.studies.results import StudyJson
from doctune.studies.sections._cells import shown
from doctune.studies.sections._cells import warnings as study_warnings

STEM = "curve"
PAGE = f"{STEM}.html"
PLOT = f"{STEM}-1.svg"
IN_A_ROW = 3
"""Encoders side by side on the terminal."""


class Point(NamedTuple):
    """So many labels, and the error in percent that they leave."""

    labels: int
    error: float


def sentences(curve: StudyJson) -> list[str]:
    """For each size and adapted encoder whether it helped; then how many labels of the base encoder it is worth."""
    helped, worths = [], []
    base = _points(curve, curve["reference"])
    for column in curve["columns"]:
        for cell in curve["cells"]:
            if cell["column"] != column["name"] or "against_reference" not in cell or cell["error_percent"] is None:
                continue
            difference, low, high = cell["against_reference"]
            before, error = cell["error_percent"] - difference, cell["error_percent"]
            helped.append(f"{column['name']}, {cell['row']}: {sentence(before, error, (difference, low, high))}")
            worth = labels_worth(base, Point(int(column["x"] or 0), error))
            if worth is not None and verdict(low, high) == "helped":
                worths.append(f"{cell['row']} with {column['name']} errs as often as {curve['reference']} with {worth}")
    return helped + worths


def labels_worth(base: Sequence[Point], adapted: Point) -> str | None:
    """With how many labels the base encoder errs as often as an adapted one does with fewer.

    Between two sizes the error is taken to fall in a straight line over the logarithm of the number. None where the
    curve cannot tell: the adapted encoder does not err less, or the base encoder was not tried with more labels.
    """
    ahead = [point for point in base if point.labels >= adapted.labels]
    if len(ahead) < 2 or ahead[0].labels != adapted.labels or ahead[0].error <= adapted.error:
        return None
    for before, after in itertools.pairwise(ahead):
        if after.error <= adapted.error:
            share = (before.error - adapted.error) / (before.error - after.error)
            labels = before.labels * (after.labels / before.labels) ** share
            return f"about {_rounded(labels):,}, by interpolation."
    return f"more than {ahead[-1].labels:,}."


def warnings(
    curve: StudyJson, encoders: Sequence[Planned], facts: Sequence[PretrainingFacts | None], part: str
) -> list[str]:
    """What a reader must know before believing the curve."""
    said, runs = list[str](), list[FinishedRun]()
    validated = set[int]()
    for encoder, known in zip(encoders, facts, strict=True):
        cells = [cell for cell in curve["cells"] if cell["row"] == encoder.name and cell["runs"]]
        reports = [read_report(Path(run["run"]) / "report.json") for cell in cells for run in cell["runs"]]
        if reports:
            name, first = encoder.settings.encoder.encoder, reports[0]
            validated |= {report["data"]["validation"] for report in reports}
            runs.append(FinishedRun(encoder.name, name, encoder.folder, first, encoder.tokenizer, known))
    if runs and runs[0].name == curve["reference"]:
        said += encoder_warnings(runs[0], runs[1:])
    fewest = min(validated, default=FEWEST_TO_CHOOSE_BY)
    if fewest < FEWEST_TO_CHOOSE_BY and encoders[0].settings.training.select != "last":
        said.append(
            f"Where labels are fewest, {validation_documents(fewest, 'choose')} the epoch, which is little more than "
            f"chance; --select last keeps the last epoch instead."
        )
    if part == "validation":
        said += [VALIDATION_FLATTERS, "Each size may be judged on other documents: those held out of its labels."]
    return said


def summary(curve: StudyJson) -> str:
    """The plain text that the command line prints at the end: sizes by encoders, and what the curve says."""
    lines = [curve["title"], *textwrap.wrap(curve["about"], TABLE_WIDTH), ""]
    cells = {(cell["row"], cell["column"]): cell for cell in curve["cells"]}
    sizes = [f"{int(column['x'] or 0):,}" for column in curve["columns"]]
    first = max(map(len, ("labels", *sizes)))
    for start in range(0, len(curve["rows"]), IN_A_ROW):
        rows = curve["rows"][start : start + IN_A_ROW]
        lines.append(f"{'labels':>{first}}" + "".join(f"  {clipped(row, 26):>26}" for row in rows))
        for size, column in zip(sizes, curve["columns"], strict=True):
            values = [shown(cells.get((row, column["name"])))[0] for row in rows]
            lines.append(f"{size:>{first}}" + "".join(f"  {clipped(value, 26):>26}" for value in values))
        lines.append("")
    count = len(curve["seeds"])
    over = f"mean of {count} seeds with its 95 % interval" if count > 1 else "one seed, 95 % interval over documents"
    lines += [f"{curve['unit']}, {over}", ""]
    for said in curve.get("sentences", ()):
        lines += wrapped(said)
    for note in study_warnings(curve):
        lines += wrapped(f"warning: {note}")
    return "\n".join(line.rstrip() for line in lines).rstrip()


def _points(curve: StudyJson, row: str) -> list[Point]:
    """The points of one encoder, by the number of labels."""
    places = {column["name"]: int(column["x"] or 0) for column in curve["columns"]}
    return [
        Point(places[cell["column"]], cell["error_percent"])
        for cell in curve["cells"]
        if cell["row"] == row and cell["error_percent"] is not None
    ]


def _rounded(labels: float) -> int:
    """Two digits: the interpolation knows no more."""
    unit: int = 10 ** max(math.floor(math.log10(labels)) - 1, 0)
    return round(labels / unit) * unit
