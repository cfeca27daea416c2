from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree

import pytest

from doctune.report.charts import Dot, Series, confusion_matrix, learning_curve, seed_plot
from doctune.report.figure import short, ticks


def say(value: float) -> str:
    return f"{value:g}"


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0.0123, 0.0124), (91.2, 93.9), (-5, 40), (3, 3), (0, 0), (-2, -2), (1e-9, 5e6)]
)
def test_ticks_enclose_the_values_with_equal_steps(low: float, high: float) -> None:
    marks = ticks(low, high)
    assert marks[0] <= low <= high <= marks[-1]
    assert 2 <= len(marks) <= 9
    steps = [b - a for a, b in itertools.pairwise(marks)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)


def test_short_keeps_both_ends() -> None:
    assert short("brief", 10) == "brief"
    cut = short("intent about the exchange rate 17", 20)
    assert len(cut) <= 20
    assert cut.startswith("intent")
    assert cut.endswith("17")
    assert "…" in cut


def test_curve_marks_the_best_and_escapes() -> None:
    svg = learning_curve("a < b", [Series("x & y", [(1, 0.5), (2, 0.7)])], 2, say)
    ElementTree.fromstring(svg)
    assert "epoch 2: 0.7 (best)" in svg
    assert svg.count("chosen") == 1
    assert "x &amp; y" in svg
    assert "a &lt; b" in svg


def test_curve_of_one_point_of_none_and_at_the_limit() -> None:
    assert learning_curve("t", [Series("x", [])], None, say) == ""
    svg = learning_curve("t", [Series("x", [(1, 100.0)])], 1, say, 100.0)
    ElementTree.fromstring(svg)
    shown = [float(number) for number in re.findall(r'text-anchor="end"[^>]*>([0-9.]+)<', svg)]
    assert len(shown) >= 2
    assert max(shown) == 100.0


def test_curve_of_fractions_of_epochs_stays_inside() -> None:
    svg = learning_curve("t", [Series("x", [(i / 4, math.sin(i)) for i in range(1, 60)])], 3.25, say)
    root = ElementTree.fromstring(svg)
    _, _, width, height = (float(number) for number in root.attrib["viewBox"].split())
    circles = root.findall("circle")
    assert len(circles) == 59
    assert all(0 <= float(c.attrib["cx"]) <= width and 0 <= float(c.attrib["cy"]) <= height for c in circles)


def test_seed_plot_shows_every_seed_also_equal_ones() -> None:
    dots = [Dot("seed 1", 5.0), Dot("seed 2", 5.0), Dot("seed 3", 5.0), Dot("seed <4>", 50.0, collapsed=True)]
    svg = seed_plot(dots, 16.25, -19.6, 52.1, "test error")
    root = ElementTree.fromstring(svg)
    circles = root.findall("circle")
    assert len({(c.attrib["cx"], c.attrib["cy"]) for c in circles}) == 4
    assert sum("collapsed" in c.attrib["class"] for c in circles) == 1
    assert "seed &lt;4&gt;: 50.00 % (collapsed)" in svg
    width = float(root.attrib["viewBox"].split()[2])
    interval = next(line for line in root.findall("line") if line.attrib["class"] == "interval")
    assert 0 <= float(interval.attrib["x1"]) < float(interval.attrib["x2"]) <= width


def test_seed_plot_of_one_seed_has_no_interval() -> None:
    svg = seed_plot([Dot("seed 1", 0.0)], 0.0, None, None, "test error")
    ElementTree.fromstring(svg)
    assert 'class="interval"' not in svg


@pytest.mark.parametrize("size", [1, 2, 3, 14, 50])
def test_confusion_matrix_has_every_count(size: int) -> None:
    names = [f"a long name of the class {i}" for i in range(size)]
    confusion = [[90 if i == j else int((i + 1) % size == j) * 3 for j in range(size)] for i in range(size)]
    root = ElementTree.fromstring(confusion_matrix(names, confusion))
    counts = [int(cell.find("text").text or "") for cell in root.findall("g")]  # type: ignore[union-attr]
    assert sum(counts) == sum(map(sum, confusion))
    assert all(float(cell.find("text").attrib["font-size"]) >= 8 for cell in root.findall("g"))  # type: ignore[union-attr]
    assert len(root.findall("text")) == 2 * size + 2


def test_confusion_matrix_writes_large_counts_short_and_empty_rows_not_at_all() -> None:
    svg = confusion_matrix([f"c{i}" for i in range(50)], [[123_456] + [0] * 49, *[[0] * 50 for _ in range(49)]])
    assert ">123k<" in svg
    assert "123,456 (100.0 %)" in svg


def test_class_names_are_escaped() -> None:
    svg = confusion_matrix(["<script>", '"&'], [[1, 2], [3, 4]])
    ElementTree.fromstring(svg)
    assert "<script" not in svg
