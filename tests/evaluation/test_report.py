from __future__ import annotations

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from doctune.evaluation.report import Report, render_html, summary_table, write_report

MakeReport = Callable[..., Report]
FIFTY = tuple(f"COARSE{i // 10}:fine{i}" for i in range(50))
VOID = {"meta", "link", "br", "hr", "img", "input", "line", "rect", "circle", "path", "polyline"}


class Balance(HTMLParser):
    """Checks that every element is closed, and collects what a reader sees and what is loaded."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loaded += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def parse(report: Report) -> Balance:
    page = Balance()
    page.feed(render_html(report))
    assert page.open == []
    return page


@pytest.mark.parametrize(
    "special",
    [
        {},
        {"names": FIFTY},
        {"test": False},
        {"num_epochs": 1},
        {"seeds": (0.9, 0.92, 0.5), "warnings": ("The run with seed 44 collapsed.",)},
        {"seeds": (0.9,)},
        {"hardest": ()},
        {"names": ("好", "坏"), "accuracy": 1.0},
    ],
    ids=["plain", "fifty", "no test", "one epoch", "seeds", "one seed", "no errors", "perfect"],
)
def test_the_page_is_whole_and_self_contained(report: MakeReport, special: dict[str, object]) -> None:
    made = report(**special)
    page = parse(made)
    assert not [link for link in page.loaded if not link.startswith(("#", "data:"))]
    assert "script" not in page.tags
    shown = made["test"] or made["validation"]
    if "seeds" not in made:
        assert f"{shown['error_percent']:.2f}" in page.text
    for warning in made["warnings"]:
        assert warning in page.text
    assert ("Test error" in page.text) == (made["test"] is not None)


def test_what_users_wrote_is_escaped(report: MakeReport) -> None:
    evil = "<script>alert(1)</script>"
    made = report(names=(evil, "b&b"), hardest=((f"text {evil}", evil, "b&b"),), warnings=(evil,))
    made["title"] = made["command"] = evil
    html = render_html(made)
    assert "<script" not in html
    assert evil in parse(made).text


def test_files(report: MakeReport, tmp_path: Path) -> None:
    made = report()
    write_report(tmp_path, made)
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(made))
    assert (tmp_path / "report.html").read_text().startswith("<!")


def test_a_diverged_run_is_still_json(report: MakeReport, tmp_path: Path) -> None:
    made = report()
    made["epochs"][0]["train_loss"] = float("nan")
    write_report(tmp_path, made)
    assert json.loads((tmp_path / "report.json").read_text())["epochs"][0]["train_loss"] is None


def test_summary(report: MakeReport) -> None:
    made = report(warnings=("something " * 30,))
    text = summary_table(made)
    assert max(map(len, text.splitlines())) <= 100
    assert f"{made['test']['error_percent']:.2f} %" in text  # type: ignore[index]
    assert all(name in text for name in made["data"]["labels"])
    assert "fine7" not in summary_table(report(names=FIFTY))
    assert "3 seeds" in summary_table(report(seeds=(0.9, 0.91, 0.92)))
