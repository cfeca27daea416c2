from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from doctune.classifier.predictor import _windows
from doctune.report.charts import WINDOWS_HEIGHT, WINDOWS_WIDTH, deciding, window_bars
from doctune.report.finetuning import render_html


def windows(*weights: float) -> list[Any]:
    return [{"start": 500 * place, "tokens": 510, "weight": weight} for place, weight in enumerate(weights)]


@pytest.mark.parametrize(
    "weights", [(0.5, -0.2), (0.1, 0.3, 0.2), (-1.0, -3.0), (0.0, 0.0), tuple(i / 50 - 1 for i in range(100))]
)
def test_a_bar_for_every_window_inside_the_picture(weights: tuple[float, ...]) -> None:
    svg = ElementTree.fromstring(window_bars(windows(*weights)))
    bars = svg.findall("rect")
    assert len(bars) == len(weights)
    assert float(svg.attrib["width"]) <= WINDOWS_WIDTH
    for bar, weight in zip(bars, weights, strict=True):
        top, height = float(bar.attrib["y"]), float(bar.attrib["height"])
        assert top >= -0.1
        assert top + height <= WINDOWS_HEIGHT + 1.1
        assert (bar.attrib["class"] == "against") == (weight < 0)
        assert f"{weight:+.3f}" in (bar.findtext("title") or "")
    chosen = [place for place, bar in enumerate(bars) if bar.attrib["class"] == "decided"]
    assert chosen == ([deciding(windows(*weights))] if max(weights) >= 0 else [])


def test_the_first_of_equals_decides() -> None:
    assert deciding(windows(0.1, 0.4, 0.4)) == 1


def test_a_page_with_windows(report: Any, parse: Any) -> None:
    made = report()
    assert "Which window decided" not in render_html(made)
    example = {
        "id": "7", "prediction": "a<b", "probability": 0.9, "windows": windows(0.1, 2.5, -1.0), "text": "<i>so</i> bad",
    }  # fmt: skip
    made["windows"] = {"documents": 3, "decided": {"first": 1, "between": 2, "last": 0}, "examples": [example]}
    made["hardest"][0]["windows"] = windows(1.0, 0.0)
    html = render_html(made)
    page = parse(html)
    assert html.count('class="windows"') == 2
    assert "3 documents of the test set were read in several windows" in page.text
    assert "the first of 1, the last of 0, and one between of 2" in page.text
    assert "from token 500: <i>so</i> bad" in page.text
    assert "answered a<b with probability 0.900 · document 7 · 3 windows" in page.text
    assert "labelled" not in page.text[page.text.index("Which window decided") :]


def test_a_window_that_adds_nothing_has_no_sign() -> None:
    assert [str(one["weight"]) for one in _windows([(0, 5), (5, 5)], [-1e-9, -0.25])] == ["0.0", "-0.25"]
