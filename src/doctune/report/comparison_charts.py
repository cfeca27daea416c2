"""Charts of a comparison, as inline SVG in the style of `charts`: error by steps, and differences with intervals.

Every function returns `Markup`; whatever comes from the user is escaped here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup, escape

from doctune.report.charts import DIGIT_WIDTH, short, svg_start, ticks

LABEL_LENGTH = 26


class StepPoint(NamedTuple):
    """One encoder: error in percent with its interval after so many steps of pre-training; a line joins one corpus."""

    name: str
    steps: int
    error: float
    low: float
    high: float
    corpus: str | None = None


class Gap(NamedTuple):
    """The difference of one adapted encoder from the base, in points, with its interval."""

    name: str
    points: float
    low: float
    high: float


def error_by_steps(base: StepPoint, adapted: Sequence[StepPoint], what: str) -> Markup:
    """Error against steps of further pre-training, with interval bars; the base encoder stands at step 0.

    Encoders of one corpus are joined by a line that starts at the base; several such lines have the corpus' name at
    their end. The dashed line is the base encoder's error.
    """
    width, height, left, right, top, bottom = 640, 320, 56, 24, 40, 46
    every = [base, *adapted]
    # A wide interval of two or three seeds may leave 0..100, where no error can lie: the drawing stops there.
    bars = {point: (max(0.0, point.low), min(100.0, point.high)) for point in every}
    y_ticks = ticks(min(low for low, _ in bars.values()), max(high for _, high in bars.values()), 6)
    y_ticks = [y for y in y_ticks if 0 <= y <= 100]
    x_ticks = ticks(0, max(point.steps for point in every), 6)
    pad = 14

    def at_x(x: float) -> float:
        return left + pad + x / x_ticks[-1] * (width - left - right - 2 * pad)

    def at_y(y: float) -> float:
        return height - bottom - (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (height - top - bottom)

    parts = [svg_start(width, height, f"{what} against steps of further pre-training", "steps")]
    for y in y_ticks:
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>')
        parts.append(f'<text class="tick" text-anchor="end" x="{left - 8}" y="{at_y(y) + 4:.1f}">{y:g} %</text>')
    floor = height - bottom
    for x in x_ticks:
        parts.append(f'<line class="axis" x1="{at_x(x):.1f}" x2="{at_x(x):.1f}" y1="{floor}" y2="{floor + 5}"/>')
        parts.append(f'<text class="tick" text-anchor="middle" x="{at_x(x):.1f}" y="{floor + 19}">{_steps(x)}</text>')
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{floor}" y2="{floor}"/>')
    middle = (left + width - right) / 2
    under = f'x="{middle:.1f}" y="{height - 6}"'
    parts.append(f'<text class="tick" text-anchor="middle" {under}>steps of further pre-training</text>')
    parts.append(_legend(left, what))
    level = f"{at_y(base.error):.1f}"
    parts.append(f'<line class="line other" x1="{left}" x2="{width - right}" y1="{level}" y2="{level}"/>')
    corpora = list(dict.fromkeys(point.corpus for point in adapted))
    for corpus in corpora:
        line = [base, *sorted((point for point in adapted if point.corpus == corpus), key=lambda point: point.steps)]
        path = " ".join(f"{at_x(point.steps):.1f},{at_y(point.error):.1f}" for point in line)
        parts.append(f'<polyline class="line main" points="{path}"/>')
        if len(corpora) > 1:
            x, y = at_x(line[-1].steps) - 9, at_y(line[-1].error) - 7
            named = escape(short(corpus or "unknown corpus", LABEL_LENGTH))
            parts.append(f'<text class="legend" text-anchor="end" x="{x:.1f}" y="{y:.1f}">{named}</text>')
    for point in every:
        low, high = bars[point]
        kind, place = "other" if point is base else "main", f"{at_x(point.steps):.1f}"
        label = f"{point.name}, {point.steps:,} steps: {point.error:.2f} % ({point.low:.2f} to {point.high:.2f})"
        parts.append(
            f'<line class="whisker {kind}" x1="{place}" x2="{place}" y1="{at_y(low):.1f}" y2="{at_y(high):.1f}"/>'
        )
        parts.append(
            f'<circle class="dot {kind}" cx="{place}" cy="{at_y(point.error):.1f}" r="5">'
            f"<title>{escape(label)}</title></circle>"
        )
    return Markup("".join(parts) + "</svg>")


def differences(
    gaps: Sequence[Gap], what: str, minus: str = "adapted minus base", base: str = "the base encoder"
) -> Markup:
    """A row for each adapted encoder: its difference from the base with its interval, beside a line at zero.

    `minus` and `base` say what is compared, where it is something else.
    """
    labels = [short(gap.name, LABEL_LENGTH) for gap in gaps]
    left = round(max(map(len, labels)) * DIGIT_WIDTH * 1.15) + 24
    row, top, right, width = 34, 12, 24, 640
    floor = top + row * len(gaps)
    marks = ticks(min(0.0, *(gap.low for gap in gaps)), max(0.0, *(gap.high for gap in gaps)), 7)

    def at(value: float) -> float:
        return left + (value - marks[0]) / (marks[-1] - marks[0]) * (width - left - right)

    parts = [svg_start(width, floor + 48, f"difference in {what}, {minus}", "steps")]
    for mark in marks:
        style = "zero" if mark == 0 else "grid"
        parts.append(f'<line class="{style}" x1="{at(mark):.1f}" x2="{at(mark):.1f}" y1="4" y2="{floor}"/>')
        sign = "" if mark == 0 else "+" if mark > 0 else "−"
        parts.append(
            f'<text class="tick" text-anchor="middle" x="{at(mark):.1f}" y="{floor + 17}">{sign}{abs(mark):g}</text>'
        )
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{floor}" y2="{floor}"/>')
    middle = (left + width - right) / 2
    parts.append(
        f'<text class="tick" text-anchor="middle" x="{middle:.1f}" y="{floor + 38}">'
        f"← fewer errors than {escape(base)} · points of {escape(what)} · more →</text>"
    )
    for number, (gap, label) in enumerate(zip(gaps, labels, strict=True)):
        y = top + row * number + row / 2
        tip = f"{gap.name}: {gap.points:+.2f} points ({gap.low:+.2f} to {gap.high:+.2f})"
        parts.append(f'<text class="legend" text-anchor="end" x="{left - 14}" y="{y + 4:.1f}">{escape(label)}</text>')
        parts.append(f'<line class="interval" x1="{at(gap.low):.1f}" x2="{at(gap.high):.1f}" y1="{y}" y2="{y}"/>')
        parts.append(
            f'<circle class="dot main" cx="{at(gap.points):.1f}" cy="{y}" r="5"><title>{escape(tip)}</title></circle>'
        )
    return Markup("".join(parts) + "</svg>")


def standalone(svg: Markup, style: str) -> str:
    """The chart as a file of its own, with the colours and fonts that it otherwise has from the page."""
    start, _, rest = str(svg).partition(">")
    named = start.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    back = '<rect class="back" width="100%" height="100%"/>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{named}><style>{escape(style)}</style>{back}{rest}\n'


def _steps(x: float) -> str:
    return f"{x / 1000:g}k" if x >= 1000 else f"{x:g}"


def _legend(left: float, what: str) -> str:
    parts, x = [], left
    for kind, text in (("main", f"{what}, adapted encoder"), ("other", "base encoder")):
        parts.append(f'<line class="line {kind}" x1="{x}" x2="{x + 20}" y1="14" y2="14"/>')
        parts.append(f'<text class="legend" x="{x + 26}" y="18">{escape(text)}</text>')
        x += round(26 + len(text) * DIGIT_WIDTH + 22)
    return "".join(parts)
