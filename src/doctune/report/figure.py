"""The one system of axes that every chart is drawn with: scales, ticks, labels, legend, as inline SVG.

No plotting library, no script; colours come from the page's style sheet. A figure works out its margins from its
labels and moves or shortens what would leave the picture, so no text is cut off. Whatever comes from the user is
escaped here. Lengths are pixels of the view box.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from markupsafe import Markup, escape

FONT = 12.0
CHARACTER = 0.66
"""Width of a character in ems, on the generous side: which font the reader's machine has is not known."""
WIDE = 1.1
EDGE, GAP, LINE = 4.0, 8.0, 18.0
"""Free space at the border, between a label and the axis, and the height of a line of the legend."""
UPRIGHT = 3
"""Names above a field of cells that are upright at the most."""

Anchor = Literal["start", "middle", "end"]
Write = Callable[[float], str]


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


def text_width(text: str, size: float = FONT) -> float:
    """About how wide the text is in a font of `size` pixels, rather too wide than too narrow."""
    return size * sum(WIDE if ord(character) > 0x2E7F else CHARACTER for character in text)


class Mark(NamedTuple):
    """A place on an axis, and what is written beside it."""

    value: float
    label: str


@dataclass(frozen=True)
class Axis:
    """A scale from `low` to `high` with its marks; `pad` is kept free at both ends.

    `title` is written under a horizontal axis. A vertical axis of rows runs `down`, any other one up.
    """

    low: float
    high: float
    marks: Sequence[Mark]
    title: str = ""
    pad: float = 0.0
    down: bool = False

    @classmethod
    def of(cls, values: Sequence[float], write: Write, title: str = "", pad: float = 0.0) -> Axis:
        """The axis from the first to the last of these values, with a mark at each."""
        return cls(values[0], values[-1], [Mark(value, write(value)) for value in values], title, pad)

    @classmethod
    def rows(cls, names: Sequence[str]) -> Axis:
        """A row for each name, the first on top."""
        return cls(0.0, float(len(names)), [Mark(i + 0.5, name) for i, name in enumerate(names)], down=True)

    def share(self, value: float) -> float:
        """Where a value stands, from 0 at the start to 1 at the end."""
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return 1 - share if self.down else share


class Key(NamedTuple):
    """A line of the legend: the style that it explains, and the words."""

    kind: str
    label: str


class Figure:
    """A drawing with a horizontal axis and, where there is one, a vertical one, in a picture of so many pixels.

    `style` is the CSS class. `grid` says along which axis' marks lines are drawn: "y" for values that are read off
    at the left, "x" for values that are read off below, there with a strong line at `zero` if so asked. The field is
    `height` high; legend and labels come on top of that. Coordinates of the drawing methods are values of the axes.
    """

    def __init__(
        self, title: str, style: str, width: int, height: float, x: Axis, y: Axis | None = None,
        grid: Literal["x", "y"] = "y", legend: Sequence[Key] = (), upright: bool = False,
        zero: bool = False,
    ) -> None:  # fmt: skip
        self.width, self.x, self.y = width, x, y
        labels = [text_width(mark.label) for mark in y.marks] if y is not None else [0.0]
        ends = [text_width(mark.label) / 2 - x.pad for mark in x.marks[:1] + x.marks[-1:]] or [0.0]  # type: ignore[operator]
        self.left = max(EDGE + max(labels, default=0.0) + GAP, ends[0] + EDGE, 20.0)
        self.right = width - max(ends[-1] + EDGE, 18.0)
        keys, self.top = self._legend(legend, upright)
        self.floor = self.top + height
        said = self._title_lines()
        self.height = math.ceil(self.floor + 23 + LINE * len(said) + EDGE)
        self.parts: list[str] = [svg_start(width, self.height, title, style)]
        self._axes(grid, said, zero)
        self.parts += keys

    def at_x(self, value: float) -> float:
        """The horizontal place of a value."""
        return self.left + self.x.pad + self.x.share(value) * (self.right - self.left - 2 * self.x.pad)

    def at_y(self, value: float) -> float:
        """The vertical place of a value."""
        assert self.y is not None
        return self.floor - self.y.pad - self.y.share(value) * (self.floor - self.top - 2 * self.y.pad)

    def text(self, x: float, y: float, text: str, anchor: Anchor = "middle", style: str = "tick") -> None:
        """Write at a place of the picture; what would leave it is moved inside, and cut where it has no room at all."""
        self.parts.append(_text(x, y, text, anchor, style, self.width))

    def stroke(self, style: str, x1: float, y1: float, x2: float, y2: float) -> None:
        """A straight line between two places of the picture."""
        self.parts.append(_stroke(style, x1, y1, x2, y2))

    def line(self, points: Sequence[tuple[float, float]], kind: str, aside: float = 0.0) -> None:
        """A line through the points, moved `aside` by so many pixels."""
        path = " ".join(f"{self.at_x(x) + aside:.1f},{self.at_y(y):.1f}" for x, y in points)
        self.parts.append(f'<polyline class="line {kind}" points="{path}"/>')

    def whisker(self, x: float, low: float, high: float, kind: str, aside: float = 0.0) -> None:
        """An upright bar from `low` to `high`."""
        place = self.at_x(x) + aside
        self.stroke(f"whisker {kind}", place, self.at_y(low), place, self.at_y(high))

    def interval(self, low: float, high: float, y: float) -> None:
        """A bar from `low` to `high`, at a height of the picture."""
        self.stroke("interval", self.at_x(low), y, self.at_x(high), y)

    def dot(self, x: float, y: float, style: str, radius: float, tip: str) -> None:
        """A dot at a place of the picture; `tip` is what pointing at it tells."""
        self.parts.append(
            f'<circle class="{style}" cx="{x:.1f}" cy="{y:.1f}" r="{radius:g}"><title>{escape(tip)}</title></circle>'
        )

    def svg(self) -> Markup:
        """The drawing."""
        return Markup("".join(self.parts) + "</svg>")

    def _legend(self, legend: Sequence[Key], upright: bool) -> tuple[list[str], float]:
        """The legend, beside each other as long as there is room, or one under the other; and where it ends."""
        parts, x, y = list[str](), self.left, EDGE + 10.0
        for number, key in enumerate(legend):
            label = short(key.label, int((self.width - self.left - 30 - EDGE) / (CHARACTER * FONT)))
            wide = 26 + text_width(label) + 14
            if number and (upright or x + wide > self.width):
                x, y = self.left, y + LINE
            if key.kind:
                parts.append(_stroke(f"line {key.kind}", x, y, x + 20, y))
            parts.append(_text(x + (26 if key.kind else 0), y + 4, label, "start", "legend", self.width))
            x += wide
        return parts, (y + LINE if legend else 12.0)

    def _title_lines(self) -> list[str]:
        room = int((self.width - 2 * EDGE) / (CHARACTER * FONT))
        return textwrap.wrap(self.x.title, room)

    def _axes(self, grid: Literal["x", "y"], title: Sequence[str], zero: bool) -> None:
        if self.y is not None:
            for value, label in self.y.marks:
                if grid == "y":
                    self.stroke("grid", self.left, self.at_y(value), self.right, self.at_y(value))
                style = "tick" if grid == "y" else "legend"
                self.text(self.left - GAP, self.at_y(value) + 4, label, "end", style)
        for value, label in self.x.marks:
            place = self.at_x(value)
            if grid == "x":
                style = "zero" if zero and value == 0 else "grid"
                self.stroke(style, place, self.top - GAP, place, self.floor)
            else:
                self.stroke("axis", place, self.floor, place, self.floor + 5)
            self.text(place, self.floor + 19, label)
        self.stroke("axis", self.left, self.floor, self.right, self.floor)
        for number, line in enumerate(title, 1):
            self.text((self.left + self.right) / 2, self.floor + 21 + LINE * number, line)


class Cells:
    """A field of cells with a name at each row and above each column; the picture has a fixed size.

    Names are cut to `cut` characters; those above are upright where they are few and fit, else slanted. `side` and
    `above` say what rows and columns are, where that needs to be told.
    """

    def __init__(
        self, title: str, rows: Sequence[str], columns: Sequence[str], size: tuple[float, float],
        font: float = FONT, side: str = "", above: str = "", cut: int = 26,
    ) -> None:  # fmt: skip
        self.wide, self.high = size
        longest = max((text_width(short(name, cut), font) for name in columns), default=0.0)
        upright = len(columns) <= UPRIGHT and longest < 1.1 * self.wide
        slant = 0.0 if upright else longest * 0.72 + font
        self.left = math.ceil(
            max((text_width(short(name, cut), font) for name in rows), default=0.0) + 10 + EDGE + 20 * bool(side)
        )
        self.top = math.ceil((18 if upright else slant + 8) + 18 * bool(above) + EDGE)
        right = max(longest / 2 - self.wide / 2, 0) if upright else max(slant - self.wide / 2, 0)
        above_end = self.left + text_width(above)
        width = math.ceil(max(self.left + len(columns) * self.wide + right, above_end) + EDGE)
        self.bottom = self.top + len(rows) * self.high
        least = text_width(side) + 2 * EDGE if side else 0.0
        self.parts = [svg_start(width, math.ceil(max(self.bottom + 4, least)), title, "confusion", fixed=True)]
        if side:
            middle = max((self.top + self.bottom) / 2, least / 2)
            turned = f'transform="translate(13 {middle:.0f}) rotate(-90)"'
            self.parts.append(f'<text class="side" text-anchor="middle" {turned}>{escape(side)}</text>')
        if above:
            self.parts.append(f'<text class="side" x="{self.left}" y="14">{escape(above)}</text>')
        for j, name in enumerate(columns):
            x = self.left + (j + 0.5) * self.wide
            place = f'text-anchor="middle" x="{x:.1f}" y="{self.top - 9}"'
            if not upright:
                place = f'transform="translate({x + font / 3:.1f} {self.top - 7}) rotate(-45)"'
            self._name(name, cut, font, place)
        for i, name in enumerate(rows):
            y = self.top + (i + 0.5) * self.high + font / 3
            self._name(name, cut, font, f'text-anchor="end" x="{self.left - 8}" y="{y:.1f}"')

    def _name(self, name: str, cut: int, font: float, place: str) -> None:
        label = short(name, cut)
        tip = f"<title>{escape(name)}</title>" if label != name else ""
        self.parts.append(f'<text class="class" font-size="{font:g}" {place}>{escape(label)}{tip}</text>')

    def cell(
        self, row: int, column: int, text: str, shade: float, tip: str, style: str = "right", font: float = 13.0,
        framed: bool = False, turn: float = 0.61,
    ) -> None:  # fmt: skip
        """A cell with its text on a colour of the strength `shade` 0..1; above `turn` the text is light."""
        x, y = self.left + column * self.wide, self.top + row * self.high
        frame = ' stroke="var(--ink)" stroke-width="2"' if framed else ""
        self.parts.append(
            f'<g><title>{escape(tip)}</title><rect class="{style}" x="{x + 0.5:g}" y="{y + 0.5:g}" '
            f'width="{self.wide - 1:g}" height="{self.high - 1:g}" fill-opacity="{shade:.2f}"{frame}/>'
            f'<text class="{"on" if shade > turn else "off"}" font-size="{font:g}" text-anchor="middle" '
            f'x="{x + self.wide / 2:g}" y="{y + self.high / 2 + font * 0.36:.1f}">{escape(text)}</text></g>'
        )

    def svg(self) -> Markup:
        """The drawing."""
        return Markup("".join(self.parts) + "</svg>")


def svg_start(width: float, height: float, title: str, style: str, fixed: bool = False) -> str:
    """The opening tag of a chart; `style` is its CSS class, and `fixed` charts do not grow with the page."""
    size = f' width="{width:g}" height="{height:g}"' if fixed else ""
    return f'<svg class="{style}" role="img" aria-label="{escape(title)}" viewBox="0 0 {width:g} {height:g}"{size}>'


def standalone(svg: Markup, style: str) -> str:
    """The chart as a file of its own, with the colours and fonts that it otherwise has from the page."""
    start, _, rest = str(svg).partition(">")
    named = start.replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1)
    back = '<rect class="back" width="100%" height="100%"/>'
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{named}><style>{escape(style)}</style>{back}{rest}\n'


def _stroke(style: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{style}" x1="{x1:.1f}" x2="{x2:.1f}" y1="{y1:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, anchor: Anchor, style: str, width: float) -> str:
    """Text whose ends stay inside a picture of this width."""
    text = short(text, max(1, int((width - 2 * EDGE) / (CHARACTER * FONT))))
    wide = text_width(text)
    before = {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
    x = max(EDGE + before, min(x, width - EDGE - wide + before))
    return f'<text class="{style}" text-anchor="{anchor}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
