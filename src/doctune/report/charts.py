"""Charts of the report, as inline SVG: no plotting library, no script, colours from the page's style sheet.

Every function returns `Markup`; whatever comes from the user is escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

DIGIT_WIDTH = 6.4  # of an 11 px system font, in px; a guess that only places labels


@dataclass(frozen=True)
class Series:
    """One line of a chart: (x, y) points in order, and whether it is the main line or a comparison."""

    name: str
    points: Sequence[tuple[float, float]]
    kind: str = "main"  # "main" or "other": CSS classes


@dataclass(frozen=True)
class Dot:
    """One seed of a seed plot."""

    label: str
    value: float
    collapsed: bool = False


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers (steps of 1, 2, 2.5 or 5 times a power of ten) that enclose [low, high]."""
    if high <= low:
        pad = abs(low) * 0.1 or 1.0
        low, high = low - pad, high + pad
    rough = (high - low) / max(about - 1, 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def short(text: str, length: int) -> str:
    """The text, cut in its middle to `length` characters: long names often differ at their end."""
    if len(text) <= length:
        return text
    tail = (length - 1) // 3
    return f"{text[: length - 1 - tail].rstrip()}…{text[len(text) - tail :].lstrip()}"


def learning_curve(
    title: str,
    series: Sequence[Series],
    best: float | None,
    say: Callable[[float], str],
    limit: float = math.inf,
    over: str = "epoch",
    say_x: Callable[[float], str] = lambda x: f"{x:g}",
) -> Markup:
    """Lines over epochs, or over what else is counted, with axes; nothing without points.

    `best` is the x to mark on the main series, `say` and `say_x` format values, and the y axis ends at `limit`, which
    no value may exceed.
    """
    width, height, left, right, top, bottom = 460, 270, 50, 18, 40, 42
    every = [point for one in series for point in one.points]
    if not every:
        return Markup("")
    y_ticks = ticks(min(y for _, y in every), max(y for _, y in every))
    y_ticks = [y for y in y_ticks if y <= limit]  # an accuracy has no room above 100
    y_low, y_high = y_ticks[0], y_ticks[-1]
    x_low, x_high = min(x for x, _ in every), max(x for x, _ in every)
    if x_low == x_high:
        x_low, x_high = x_low - 1, x_high + 1
    pad = 14

    def at_x(x: float) -> float:
        return left + pad + (x - x_low) / (x_high - x_low) * (width - left - right - 2 * pad)

    def at_y(y: float) -> float:
        return height - bottom - (y - y_low) / (y_high - y_low) * (height - top - bottom)

    parts = [svg_start(width, height, title, "curve")]
    for y in y_ticks:
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{at_y(y):.1f}" y2="{at_y(y):.1f}"/>')
        parts.append(
            f'<text class="tick" text-anchor="end" x="{left - 8}" y="{at_y(y) + 4:.1f}">{escape(say(y))}</text>'
        )
    whole = x_high - x_low <= 10
    for x in range(math.ceil(x_low), math.floor(x_high) + 1) if whole else ticks(x_low, x_high, 6):
        if x_low <= x <= x_high:
            parts.append(
                f'<line class="axis" x1="{at_x(x):.1f}" x2="{at_x(x):.1f}" y1="{height - bottom}" '
                f'y2="{height - bottom + 5}"/>'
            )
            parts.append(
                f'<text class="tick" text-anchor="middle" x="{at_x(x):.1f}" y="{height - bottom + 19}">'
                f"{escape(say_x(x))}</text>"
            )
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{height - bottom}" y2="{height - bottom}"/>')
    middle = (left + width - right) / 2
    parts.append(f'<text class="tick" text-anchor="middle" x="{middle:.1f}" y="{height - 5}">{escape(over)}</text>')
    parts.append(_legend(series, left))
    if best is not None and x_low <= best <= x_high:
        parts.append(
            f'<line class="best" x1="{at_x(best):.1f}" x2="{at_x(best):.1f}" y1="{top - 6}" y2="{height - bottom}"/>'
        )
    for one in series:
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in one.points)
        parts.append(f'<polyline class="line {one.kind}" points="{path}"/>')
        for x, y in one.points:
            chosen = one.kind == "main" and x == best
            label = f"{one.name}, {over} {say_x(x)}: {say(y)}" + (" (best)" if chosen else "")
            style = f"dot {one.kind} chosen" if chosen else f"dot {one.kind}"
            radius = 6 if chosen else 3 if len(one.points) < 30 else 1.5
            parts.append(
                f'<circle class="{style}" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="{radius}">'
                f"<title>{escape(label)}</title></circle>"
            )
    return Markup("".join(parts) + "</svg>")


def seed_plot(dots: Sequence[Dot], mean: float, low: float | None, high: float | None, what: str) -> Markup:
    """A dot for each seed on an axis in percent, with the mean and its interval below them."""
    width, left, right, radius = 480, 20, 20, 6
    values = [dot.value for dot in dots] or [mean]
    # A wide interval of two or three seeds may leave 0..100, where no error can lie: the drawing stops there.
    ends = [max(0.0, low), min(100.0, high)] if low is not None and high is not None else []
    marks = ticks(min([*values, *ends]), max([*values, *ends]), 6)

    def at(value: float) -> float:
        return left + (value - marks[0]) / (marks[-1] - marks[0]) * (width - left - right)

    placed: list[tuple[float, int, Dot]] = []
    for dot in sorted(dots, key=lambda one: one.value):
        x, row = at(dot.value), 0
        while any(abs(x - other) < 2 * radius + 2 and row == taken for other, taken, _ in placed):
            row += 1  # equal seeds are stacked, so that each is seen
        placed.append((x, row, dot))
    rows = max((row for _, row, _ in placed), default=0)
    base = 20 + rows * (2 * radius + 2)
    interval, axis = base + 24, base + 44
    title = f"{what} of {len(dots)} seeds, mean {mean:.2f} %"
    if ends:
        title += f", 95 % interval {low:.2f} to {high:.2f} %"
    parts = [svg_start(width, axis + 42, title, "seeds")]
    for mark in marks:
        parts.append(f'<line class="grid" x1="{at(mark):.1f}" x2="{at(mark):.1f}" y1="6" y2="{axis}"/>')
        parts.append(f'<text class="tick" text-anchor="middle" x="{at(mark):.1f}" y="{axis + 17}">{mark:g}</text>')
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{axis}" y2="{axis}"/>')
    parts.append(
        f'<text class="tick" text-anchor="middle" x="{width / 2}" y="{axis + 36}">{escape(what)}, percent</text>'
    )
    if ends:
        start, stop = at(ends[0]), at(ends[1])
        parts.append(f'<line class="interval" x1="{start:.1f}" x2="{stop:.1f}" y1="{interval}" y2="{interval}"/>')
    parts.append(f'<path class="mean" d="M{at(mean):.1f} {interval - 8}l6 8l-6 8l-6 -8z"/>')
    for x, row, dot in placed:
        style = "dot main collapsed" if dot.collapsed else "dot main seed"
        label = f"{dot.label}: {dot.value:.2f} %" + (" (collapsed)" if dot.collapsed else "")
        parts.append(
            f'<circle class="{style}" cx="{x:.1f}" cy="{base - row * (2 * radius + 2):.1f}" r="{radius}">'
            f"<title>{escape(label)}</title></circle>"
        )
    return Markup("".join(parts) + "</svg>")


def confusion_matrix(names: Sequence[str], confusion: Sequence[Sequence[int]]) -> Markup:
    """A heat map with the counts: rows are the true classes, columns the predicted ones.

    A cell's shade is its share of its row, correct answers in one colour and confusions in another. The drawing has
    a fixed size, so that counts stay readable; the page lets it scroll.
    """
    size = len(names)
    cell = max(18, min(72, 560 // max(size, 1)))
    font = 13.0 if cell >= 34 else 8.0
    label_font, cut = (12, 26) if cell >= 30 else (10, 22)
    labels = [short(name, cut) for name in names]
    longest = max((_columns(label) for label in labels), default=0) * label_font * 0.6
    upright = size <= 3 and longest < cell * 1.1
    slant = longest * 0.72
    left, top = math.ceil(longest) + 34, math.ceil(18 if upright else slant + 10) + 26
    width = left + size * cell + (8 if upright else math.ceil(slant))
    height = top + size * cell + 4
    right_answers = sum(confusion[i][i] for i in range(size))
    total = sum(sum(row) for row in confusion)
    title = f"Confusion matrix of {size} classes: {right_answers} of {total} documents are right"
    parts = [svg_start(width, height, title, "confusion", fixed=True)]
    middle = top + size * cell / 2
    parts.append(
        f'<text class="side" text-anchor="middle" transform="translate(12 {middle:.0f}) rotate(-90)">true class</text>'
    )
    parts.append(f'<text class="side" x="{left}" y="13">predicted class</text>')
    for i, label in enumerate(labels):
        x, y = left + (i + 0.5) * cell, top + (i + 0.5) * cell
        turn = "" if upright else f' transform="translate({x + label_font / 3:.1f} {top - 7}) rotate(-45)"'
        place = f' text-anchor="middle" x="{x:.1f}" y="{top - 9}"' if upright else turn
        tip = f"<title>{escape(names[i])}</title>" if label != names[i] else ""
        parts.append(f'<text class="class" font-size="{label_font}"{place}>{escape(label)}{tip}</text>')
        parts.append(
            f'<text class="class" font-size="{label_font}" text-anchor="end" x="{left - 8}" '
            f'y="{y + label_font / 3:.1f}">{escape(label)}{tip}</text>'
        )
    parts.append(f'<rect class="field" x="{left}" y="{top}" width="{size * cell}" height="{size * cell}"/>')
    for i in range(5, size, 5) if size > 20 else ():  # the eye needs a guide from a cell to its labels
        x, y = left + i * cell, top + i * cell
        parts.append(f'<line class="grid" x1="{x}" x2="{x}" y1="{top}" y2="{top + size * cell}"/>')
        parts.append(f'<line class="grid" x1="{left}" x2="{left + size * cell}" y1="{y}" y2="{y}"/>')
    for i, row in enumerate(confusion):
        whole = sum(row)
        for j, count in enumerate(row):
            if count:
                parts.append(
                    _cell(left + j * cell, top + i * cell, cell, font, count, count / whole, i == j, names[i], names[j])
                )
    return Markup("".join(parts) + "</svg>")


def _cell(x: int, y: int, cell: int, font: float, count: int, share: float, right: bool, true: str, said: str) -> str:
    # A root keeps rare confusions visible beside a diagonal near 1.
    shade = 0.08 + 0.92 * math.sqrt(share)
    text = _brief(count, cell, font)
    tip = f"{true} → {said}: {count:,} ({100 * share:.1f} %)"
    style = "on" if shade > 0.62 else "off"
    return (
        f'<g><title>{escape(tip)}</title><rect class="{"right" if right else "wrong"}" x="{x + 0.5}" y="{y + 0.5}" '
        f'width="{cell - 1}" height="{cell - 1}" fill-opacity="{shade:.2f}"/>'
        f'<text class="{style}" font-size="{font:g}" text-anchor="middle" x="{x + cell / 2}" '
        f'y="{y + cell / 2 + font * 0.36:.1f}">{text}</text></g>'
    )


def _brief(count: int, cell: int, font: float) -> str:
    """The count, or thousands of it where it would not fit its cell."""
    text = str(count)
    if len(text) * font * 0.58 <= cell - 1:
        return text
    return f"{count / 1e6:.0f}M" if count >= 1e6 else f"{count / 1000:.0f}k"


def _columns(text: str) -> float:
    """Width in characters of the Latin alphabet; Chinese ones are wider."""
    return sum(1.7 if ord(character) > 0x2E7F else 1.0 for character in text)


def _legend(series: Sequence[Series], left: float) -> str:
    parts, x = [], left
    for one in series:
        parts.append(f'<line class="line {one.kind}" x1="{x}" x2="{x + 20}" y1="14" y2="14"/>')
        parts.append(f'<text class="legend" x="{x + 26}" y="18">{escape(one.name)}</text>')
        x += 26 + len(one.name) * DIGIT_WIDTH + 22
    return "".join(parts)


def svg_start(width: int, height: int, title: str, style: str, fixed: bool = False) -> str:
    """The opening tag of a chart; `style` is its CSS class, and `fixed` charts do not grow with the page."""
    size = f' width="{width}" height="{height}"' if fixed else ""
    return f'<svg class="{style}" role="img" aria-label="{escape(title)}" viewBox="0 0 {width} {height}"{size}>'
