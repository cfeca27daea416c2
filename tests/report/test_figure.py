"""The axes that every chart has: no word of a chart leaves its picture, whatever is drawn."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable

import pytest
from markupsafe import Markup

from doctune.report.charts import (
    Dot,
    Gap,
    Line,
    Point,
    Series,
    StepPoint,
    confusion_matrix,
    differences,
    error_by_steps,
    error_lines,
    gap_rows,
    learning_curve,
    seed_plot,
    window_bars,
)
from doctune.report.figure import Axis, Cells, Figure, Key, Mark, text_width
from doctune.report.numbers import short_count

FONT = 12.0
LONG = "a name that is much longer than there is room for beside or below any picture, of 99 characters"


def width_of(text: str, size: float) -> float:
    """Wider than any sans-serif font that a reader is likely to have."""
    return size * sum(1.1 if ord(character) > 0x2E7F else 0.65 for character in text)


def percent(value: float) -> str:
    return f"{value:.4g} %"


def curve(low: float, high: float) -> Markup:
    points = [(i, low + (high - low) * i / 3) for i in range(4)]
    return learning_curve("t", [Series("validation accuracy", points), Series(LONG, points, "other")], 2, percent)


def lines(stretched: bool, count: int) -> Markup:
    places = (20, 100, 25_000, 1_000_000)
    made = [Line(LONG, [Point(x, 30.0 - n, 12.25, 1234.5, "p") for n, x in enumerate(places)]) for _ in range(count)]
    return error_lines(made, "test error %", LONG, stretched)


def heat(*names: str) -> Markup:
    field = Cells("t", [f"last layer, {n}" for n in range(3)], names, (108, 34), side="true", above="predicted class")
    for column in range(len(names)):
        field.cell(0, column, "12.34 %", 0.5, "tip")
    return field.svg()


CHARTS: dict[str, Callable[[], Markup]] = {
    "quarter percents": lambda: curve(22.75, 23.5),
    "wide percents": lambda: curve(98.123, 98.127),
    "small": lambda: curve(1e-9, 3e-9),
    "large": lambda: learning_curve("t", [Series("x", [(1e9, 0.5), (7e9, 123_456_789.0)])], None, str, over="tokens",
                                    say_x=short_count),
    "seeds": lambda: seed_plot([Dot("s", 22.75), Dot("s", 99.75)], 50.0, -20.0, 130.0, "validation error"),
    "seeds of large and small": lambda: seed_plot([Dot("s", 0.000125)], 0.000125, None, None, LONG),
    "steps": lambda: error_by_steps(StepPoint("b", 0, 22.75, 22.5, 23.0), [
        StepPoint("a", 100, 22.25, 22.0, 22.5, LONG), StepPoint("c", 1_000_000, 22.0, 21.75, 22.25, "语料库" * 20)
    ], "validation error"),
    "gaps": lambda: differences([Gap(LONG, -0.001, -0.002, 12.5), Gap("体" * 40, 1, 0, 2)], "error", base=LONG),
    "gaps of a paper": lambda: gap_rows([Gap("a", 1, 0, 2, -30.0)], "t", f"{LONG} {LONG}"),
    "rows": lambda: lines(False, 6),
    "columns": lambda: lines(True, 6),
    "one place": lambda: error_lines([Line("a", [Point(5, 1.0, 1.0, 1.0, "p")])], "e", "o", True),
    "two classes": lambda: confusion_matrix(["negative", "positive"], [[3, 1], [1, 3]]),
    "one class": lambda: confusion_matrix([LONG], [[3]]),
    "wide classes": lambda: confusion_matrix([LONG] * 14, [[5] * 14] * 14),
    "Chinese classes": lambda: confusion_matrix(["体育新闻" * 9] * 5, [[5] * 5] * 5),
    "fifty classes": lambda: confusion_matrix([f"intent {i}" for i in range(50)], [[123_456] * 50] * 50),
    "map": lambda: heat("cls", "mean", "max"),
    "map of long names": lambda: heat(LONG),
    "windows": lambda: window_bars([{"start": 0, "tokens": 5, "weight": 0.5}] * 3),
}  # fmt: skip


@pytest.mark.parametrize("name", CHARTS)
def test_no_word_leaves_the_picture(name: str) -> None:
    root = ElementTree.fromstring(CHARTS[name]())
    _, _, wide, high = map(float, root.attrib["viewBox"].split())
    for text in root.iter("text"):
        size = float(text.attrib.get("font-size", FONT))
        length = width_of(text.text or "", size)
        for x, y in corners(text, length, size):
            assert -0.5 <= x <= wide + 0.5, f"{text.text!r} ends at {x:.0f} of {wide:g}"
            assert -0.5 <= y <= high + 0.5, f"{text.text!r} reaches {y:.0f} of {high:g}"


def corners(text: ElementTree.Element, length: float, size: float) -> list[tuple[float, float]]:
    """Where a text begins and ends, on its line and at its height."""
    start = {"start": 0.0, "middle": -length / 2, "end": -length}[text.attrib.get("text-anchor", "start")]
    x, y = float(text.attrib.get("x", 0)), float(text.attrib.get("y", 0))
    turn = re.fullmatch(r"translate\(([\d.]+) ([\d.]+)\) rotate\((-\d+)\)", text.attrib.get("transform", ""))
    places = [
        (start + x, y),
        (start + x + length, y),
        (start + x, y - 0.7 * size),
        (start + x + length, y - 0.7 * size),
    ]
    if turn is None:
        return places
    left, top, angle = float(turn[1]), float(turn[2]), math.radians(float(turn[3]))
    return [(left + a * math.cos(angle) - b * math.sin(angle), top + a * math.sin(angle) + b * math.cos(angle))
            for a, b in places]  # fmt: skip


def test_a_label_that_has_room_is_whole() -> None:
    assert "22.75 %" in re.findall(r">([\d.]+ %)<", curve(22.5, 23.5))


@pytest.mark.parametrize("wide", [220, 640])
def test_a_legend_takes_the_lines_that_it_needs(wide: int) -> None:
    keys = [Key("main", f"the method number {i}") for i in range(5)]
    figure = Figure("t", "steps", wide, 100, Axis(0, 1, []), Axis(0, 1, [Mark(0, "0")]), legend=keys)
    heights = set(re.findall(r'class="legend"[^>]* y="([\d.]+)"', figure.svg()))
    room = wide - figure.left
    assert len(heights) >= sum(text_width(key.label) for key in keys) / room
    assert max(map(float, heights)) < figure.top


def test_values_stand_where_their_marks_are() -> None:
    figure = Figure("t", "steps", 400, 100, Axis.of([0, 5, 10], str, pad=10), Axis.of([-1, 0, 1], str))
    assert figure.at_x(5) == pytest.approx((figure.at_x(0) + figure.at_x(10)) / 2)
    assert figure.at_y(-1) == pytest.approx(figure.floor)
    assert figure.at_y(1) == pytest.approx(figure.top)
    rows = Figure("t", "steps", 400, 90, Axis(0, 1, []), Axis.rows(["a", "b", "c"]), grid="x")
    assert rows.at_y(0.5) < rows.at_y(1.5) < rows.at_y(2.5)
