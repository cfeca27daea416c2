"""The plots that a study asks for."""

from __future__ import annotations

from typing import Any, Literal

from markupsafe import Markup

from doctune.report.charts import Gap, Line, Point, error_lines, gap_rows
from doctune.report.figure import short
from doctune.report.numbers import known
from doctune.report.page import Section
from doctune.studies.results import CellJson, StudyJson
from doctune.studies.sections._cells import interval_note

LABEL_LENGTH = 30
TrainingFigure = Literal["train_loss", "validation_error_percent"]
TRAINING: dict[TrainingFigure, str] = {
    "train_loss": "training loss", "validation_error_percent": "validation error %",
}  # fmt: skip

HTML = """
{% for caption, plot in plots %}
<h2 id="plot{{ "-%d" | format(loop.index) if not loop.first }}">{{ caption }}</h2>
<div class="plot">{{ plot }}
{% if report.plot == "differences" %}<p class="note">Dot and bar: the difference here, with its 95 % interval by a paired bootstrap over seeds and documents. Ring: the difference in the paper. A bar across zero: these runs cannot tell.</p>
{% elif report.plot == "training" %}<p class="note">Of the first seed.</p>
{% else %}<p class="note">Bars: {{ interval_note }}{% if report.plot == "over columns" %} The places below are evenly spaced, whatever their values.{% endif %}</p>{% endif %}</div>
{% endfor %}
"""


def plots(study: StudyJson) -> list[tuple[str, Markup]]:
    """The plots with their captions; those without points are left out."""
    names = [column["name"] for column in study["columns"]]
    if study["plot"] == "training":
        every = [(f"{n}, {words}", training_lines(study, n, what)) for n in names for what, words in TRAINING.items()]
    elif study["plot"] in ("over rows", "over columns"):
        every = [(f"{study['unit'].capitalize()} over {study['axis']}", lines_of_errors(study))]
    else:
        every = [(name, differences(study, name)) for name in names]
    return [(caption, plot) for caption, plot in every if plot]


def differences(study: StudyJson, column: str) -> Markup:
    """A line for each row: its difference from the reference row with its interval, and the paper's as a ring."""
    papers = {cell["row"]: cell["paper"] for cell in study["cells"] if cell["column"] == column}
    reference, gaps = papers.get(study["reference"]), []
    for cell in study["cells"]:
        if cell["column"] == column and "against_reference" in cell:
            ring = None if cell["paper"] is None or reference is None else cell["paper"] - reference
            points, low, high = cell["against_reference"][:3]
            gaps.append(Gap(cell["row"], points, low, high, ring))
    under = f"points of {study['unit']} against {short(study['reference'], LABEL_LENGTH)}; ring: the paper"
    return gap_rows(gaps, f"{column}: difference from {study['reference']}", under)


def lines_of_errors(study: StudyJson) -> Markup:
    """Error with its interval over what the rows or the columns stand for."""
    columns = {column["name"]: column["x"] for column in study["columns"]}
    over_rows = study["plot"] == "over rows"
    places = dict(zip(study["rows"], study["row_x"], strict=False)) if over_rows else columns
    lines: dict[str, list[Point]] = {name: [] for name in (columns if over_rows else study["rows"])}
    for cell in study["cells"]:
        line, place = (cell["column"], cell["row"]) if over_rows else (cell["row"], cell["column"])
        if line in lines and known(cell["error_percent"]) and place in places:
            lines[line].append(_point(cell, places[place]))
    drawn = [Line(name, points) for name, points in lines.items()]
    return error_lines(drawn, study["unit"], study["axis"], not over_rows)


def training_lines(study: StudyJson, column: str, what: TrainingFigure) -> Markup:
    """The training loss or the validation error of the first seed, step by step, a line for each row."""
    lines = []
    for cell in study["cells"]:
        if cell["column"] == column and cell.get("curve"):
            values = [(point["step"], point[what]) for point in cell["curve"]]
            points = [Point(x, y, y, y, cell["row"]) for x, y in values if known(x) and known(y)]
            lines.append(Line(cell["row"], points))
    return error_lines(lines, TRAINING[what], study["axis"], False)


def _point(cell: CellJson, x: float | None) -> Point:
    value, ends = cell["error_percent"], (cell["interval_percent"] or (0.0, 0.0))[:2]
    assert value is not None
    low, high = ends if all(map(known, ends)) else (value, value)
    return Point(x or 0.0, value, low, high, f"{cell['row']}, {cell['column']}: {value:.2f} ({low:.2f} to {high:.2f})")


def values(study: StudyJson) -> dict[str, Any] | None:
    """Nothing without a plot."""
    drawn = plots(study)
    return {"plots": drawn, "interval_note": interval_note(study)} if drawn else None


SECTION = Section(name="plot", place=20, html=HTML, values=values)
