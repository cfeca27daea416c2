"""Charts of a study, as inline SVG in the style of the other pages; whatever comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from markupsafe import Markup, escape

from doctune.report.charts import DIGIT_WIDTH, short, svg_start, ticks
from doctune.studies.results import CellJson, StudyJson

LABEL_LENGTH = 30
MARKS = ("main", "other", "third", "fourth", "fifth", "sixth")
"""Styles of lines, in the order of the rows."""
TrainingFigure = Literal["train_loss", "validation_error_percent"]
TRAINING: dict[TrainingFigure, str] = {
    "train_loss": "training loss", "validation_error_percent": "validation error %",
}  # fmt: skip


class Point(NamedTuple):
    """A value with its interval at a place."""

    x: float
    y: float
    low: float
    high: float
    label: str


class Line(NamedTuple):
    """The points of one method."""

    name: str
    points: list[Point]


def differences(study: StudyJson, column: str) -> Markup:
    """A line for each row: its difference from the reference row with its interval, and the paper's as a ring."""
    cells = [c for c in study["cells"] if c["column"] == column and "against_reference" in c]
    if not cells:
        return Markup("")
    papers = {c["row"]: c["paper"] for c in study["cells"] if c["column"] == column}
    reference = papers.get(study["reference"])
    theirs = [None if None in (c["paper"], reference) else c["paper"] - reference for c in cells]  # type: ignore[operator]
    labels = [short(cell["row"], LABEL_LENGTH) for cell in cells]
    left = round(max(map(len, labels)) * DIGIT_WIDTH * 1.15) + 24
    row, top, right, width = 30, 12, 24, 680
    floor = top + row * len(cells)
    ours = [cell["against_reference"] for cell in cells]
    every = [0.0, *(v for one in ours for v in one), *(v for v in theirs if v is not None)]
    marks = ticks(min(every), max(every), 7)

    def at(value: float) -> float:
        return left + (value - marks[0]) / (marks[-1] - marks[0]) * (width - left - right)

    parts = [svg_start(width, floor + 48, f"{column}: difference from {study['reference']}", "steps")]
    for mark in marks:
        style = "zero" if mark == 0 else "grid"
        parts.append(f'<line class="{style}" x1="{at(mark):.1f}" x2="{at(mark):.1f}" y1="4" y2="{floor}"/>')
        sign = "" if mark == 0 else "+" if mark > 0 else "−"
        parts.append(_text(at(mark), floor + 17, f"{sign}{abs(mark):g}", "middle"))
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{floor}" y2="{floor}"/>')
    said = f"points of {study['unit']} against {short(study['reference'], LABEL_LENGTH)}; ring: the paper"
    parts.append(_text((left + width - right) / 2, floor + 38, said, "middle"))
    for number, (cell, label, (value, low, high), paper) in enumerate(zip(cells, labels, ours, theirs, strict=True)):
        y = top + row * number + row / 2
        tip = escape(f"{cell['row']}: {value:+.2f} points ({low:+.2f} to {high:+.2f})")
        parts.append(_text(left - 14, y + 4, label, "end", "legend"))
        parts.append(f'<line class="interval" x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(f'<circle class="dot main" cx="{at(value):.1f}" cy="{y}" r="5"><title>{tip}</title></circle>')
        if paper is not None:
            told = escape(f"the paper: {paper:+.2f} points")
            parts.append(f'<circle class="ring" cx="{at(paper):.1f}" cy="{y}" r="6"><title>{told}</title></circle>')
    return Markup("".join(parts) + "</svg>")


def error_lines(study: StudyJson) -> Markup:
    """Error with its interval over what the rows or the columns stand for."""
    if study["plot"] == "over rows":
        places = dict(zip(study["rows"], study["row_x"], strict=True))
        lines = [
            Line(c["name"], [_point(cell, places[cell["row"]]) for cell in study["cells"] if _in(cell, c["name"])])
            for c in study["columns"]
        ]
        return _lines(lines, study["unit"], study["axis"], False)
    across = {c["name"]: c["x"] for c in study["columns"]}
    lines = [
        Line(
            row,
            [
                _point(c, across[c["column"]])
                for c in study["cells"]
                if c["row"] == row and c["error_percent"] is not None
            ],
        )
        for row in study["rows"]
    ]
    return _lines(lines, study["unit"], study["axis"], True)


def training_lines(study: StudyJson, column: str, what: TrainingFigure) -> Markup:
    """The training loss or the validation error of the first seed, step by step, a line for each row."""
    lines = []
    for cell in study["cells"]:
        if cell["column"] == column and cell.get("curve"):
            values = [(point["step"], point[what]) for point in cell["curve"]]
            lines.append(Line(cell["row"], [Point(x, y, y, y, cell["row"]) for x, y in values]))
    return _lines(lines, TRAINING[what], study["axis"], False)


def _in(cell: CellJson, column: str) -> bool:
    return cell["column"] == column and cell["error_percent"] is not None


def _point(cell: CellJson, x: float | None) -> Point:
    value, (low, high) = cell["error_percent"], cell["interval_percent"] or (0.0, 0.0)
    assert value is not None
    return Point(x or 0.0, value, low, high, f"{cell['row']}, {cell['column']}: {value:.2f} ({low:.2f} to {high:.2f})")


def _lines(lines: Sequence[Line], what: str, over: str, stretched: bool) -> Markup:
    """Lines with whiskers; `stretched`: the places are evenly spaced, as their values grow by factors."""
    lines = [line for line in lines if line.points]
    if not lines:
        return Markup("")
    width, height, left, right, top, bottom = 680, 340, 56, 24, 26 + 18 * len(lines), 46
    every = [point for line in lines for point in line.points]
    xs = sorted({point.x for point in every})
    y_ticks = ticks(min(p.low for p in every), max(p.high for p in every), 6)
    floor, pad, apart = height - bottom, 14 + 4 * len(lines), 8 if stretched else 0

    def at_x(x: float) -> float:
        share = xs.index(x) / max(len(xs) - 1, 1) if stretched else (x - xs[0]) / ((xs[-1] - xs[0]) or 1)
        return left + pad + share * (width - left - right - 2 * pad)

    def at_y(y: float) -> float:
        return floor - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (floor - top)

    parts = [svg_start(width, height, f"{what} over {over}", "steps")]
    for y in y_ticks:
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>')
        parts.append(_text(left - 8, at_y(y) + 4, f"{y:g}", "end"))
    shown = xs if stretched else [x for x in ticks(xs[0], xs[-1], 7) if xs[0] <= x <= xs[-1]]
    for x in shown:
        parts.append(f'<line class="axis" x1="{at_x(x):.1f}" x2="{at_x(x):.1f}" y1="{floor}" y2="{floor + 5}"/>')
        parts.append(_text(at_x(x), floor + 19, f"{x:,.10g}", "middle"))
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{floor}" y2="{floor}"/>')
    parts.append(_text((left + width - right) / 2, height - 6, over, "middle"))
    parts.append(_text(left, 12, what, "start", "legend"))
    for number, line in enumerate(lines):
        kind, y = MARKS[number % len(MARKS)], 26 + 18 * number
        aside = apart * (number - (len(lines) - 1) / 2)  # so that no line's whisker hides another's
        parts.append(f'<line class="line {kind}" x1="{left}" x2="{left + 24}" y1="{y}" y2="{y}"/>')
        parts.append(_text(left + 32, y + 4, short(line.name, 60), "start", "legend"))
        path = " ".join(f"{at_x(p.x) + aside:.1f},{at_y(p.y):.1f}" for p in line.points)
        parts.append(f'<polyline class="line {kind}" points="{path}"/>')
        for p in line.points:
            place = f"{at_x(p.x) + aside:.1f}"
            if p.high > p.low:
                whisker = f'y1="{at_y(p.low):.1f}" y2="{at_y(p.high):.1f}"'
                parts.append(f'<line class="whisker {kind}" x1="{place}" x2="{place}" {whisker}/>')
            tip = escape(f"{p.label}: {p.x:,.10g}, {p.y:.4g}")
            parts.append(
                f'<circle class="dot {kind}" cx="{place}" cy="{at_y(p.y):.1f}" r="4"><title>{tip}</title></circle>'
            )
    return Markup("".join(parts) + "</svg>")


def _text(x: float, y: float, text: str, anchor: str, style: str = "tick") -> str:
    return f'<text class="{style}" text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
