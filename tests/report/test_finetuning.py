from __future__ import annotations

import json
import math
import re
import unicodedata
from pathlib import Path

import pytest

from doctune.evaluation.intervals import seed_interval
from doctune.metrics.single import compute
from doctune.report.finetuning import render_html, summary_table, write_report

LONG_NAMES = tuple(f"A rather long class name, number {i}" for i in range(14))
INTENTS = tuple(f"intent_{i:02d}" for i in range(50))


CASES = {
    "two": {},
    "fourteen": {"names": LONG_NAMES, "count": 700},
    "fifty": {"names": INTENTS, "count": 2000, "accuracy": 0.8},
    "no test": {"test": False, "hardest": ()},
    "one epoch": {"num_epochs": 1},
    "seeds": {"seeds": (0.9, 0.91, 0.95), "warnings": ("something happened",)},
    "one seed": {"seeds": (0.9,)},
    "perfect": {"accuracy": 1.1, "num_epochs": 1},
    "chinese": {"names": ("好", "坏")},
}


@pytest.mark.parametrize("case", CASES)
def test_page_is_well_formed_and_self_contained(report, case: str, parse) -> None:
    made = report(**CASES[case])
    html = render_html(made)
    assert html.startswith("<!doctype html>")
    page = parse(html)
    assert all(warning in page.text for warning in made["warnings"])
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert not {name for name, _ in page.attributes} & {"src", "href", "srcset", "onload", "onclick"}
    assert "http" not in "".join(value or "" for _, value in page.attributes)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    assert {value for name, value in page.attributes if name == "aria-labelledby"} <= set(ids)


@pytest.mark.parametrize("case", CASES)
def test_styles_fetch_nothing(report, case: str) -> None:
    page = render_html(report(**CASES[case]))
    assert "@import" not in page
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page


def test_headline_is_the_test_error_with_its_interval(report, parse) -> None:
    made = report()
    text = parse(render_html(made)).text
    test = made["test"]
    low, high = test["error_interval_percent"]
    assert f"Test error {test['error_percent']:.2f} % 95 % interval {low:.2f} to {high:.2f} %" in text
    assert f"{test['macro_f1']:.3f}" in text


def test_without_a_test_set_the_headline_is_validation_and_says_so(report, parse) -> None:
    made = report(test=False)
    text = parse(render_html(made)).text
    assert f"Validation error {made['validation']['error_percent']:.2f} %" in text
    assert "There was no test set" in text
    assert "Test error" not in text


def test_order_of_the_sections(report, parse) -> None:
    text = parse(render_html(report(seeds=(0.9, 0.92), warnings=("careful",)))).text
    order = ["mean of 2 seeds", "Warning careful", "What was trained", "Learning curves", "Classes, test set",
             "Confusion matrix", "Most confident errors", "Peak learning rates", "Made by doctune"]  # fmt: skip
    assert [text.index(words) for words in order] == sorted(text.index(words) for words in order)


def test_markup_of_users_is_escaped_everywhere(report, parse) -> None:
    evil = "<script>alert('x')</script>&\"<b>"
    made = report(names=(evil, "b"), hardest=((evil, evil, "b"),), warnings=(evil,), seeds=(0.9, 0.92))
    made["title"] = made["command"] = made["encoder"]["name"] = evil
    made["recipe"]["truncation"] = evil
    made["seeds"]["runs"][0]["dir"] = made["seeds"]["runs"][0]["collapsed"] = evil
    page = render_html(made)
    assert "<script" not in page
    assert evil in parse(page).text


def test_long_texts_are_cut(report, parse) -> None:
    made = report(hardest=(("word " * 1000, "positive", "negative"), ("x" * 5000, "positive", "negative")))
    text = parse(render_html(made)).text
    assert text.count("word") <= 61
    assert "x" * 310 not in text
    assert "word …" in text


def test_one_class_predicted(report, parse) -> None:
    made = report()
    made["test"] = compute_majority(50).to_json()
    text = parse(render_html(made)).text
    assert "“positive” was taken for “negative” 20 times, 100.0 % of its documents." in text
    assert "negative 1.000" not in summary_table(made)


def compute_majority(count: int):  # type: ignore[no-untyped-def]
    import numpy as np

    return compute(np.tile([0.9, 0.1], (count, 1)), np.array([0] * 30 + [1] * (count - 30)), ("negative", "positive"))


def test_many_classes_start_with_the_weakest(report, parse) -> None:
    made = report(**CASES["fifty"])
    text = parse(render_html(made)).text
    weakest = min(made["test"]["per_class"], key=lambda row: row["f1"])["name"]
    table = text[text.index("In train") :]
    assert re.findall(r"intent_\d\d", table)[0] == weakest
    assert text.count("was taken for") == 8


def test_seeds_show_mean_interval_and_each_run(report, parse) -> None:
    made = report(seeds=(0.9, 0.91, 0.95))
    made["seeds"]["runs"][1]["collapsed"] = "it answers 'a' only"
    made["seeds"]["details_of"] = 44
    text = parse(render_html(made)).text
    summary = made["seeds"]["error_percent"]
    assert f"{summary['mean']:.2f} % ± {summary['high'] - summary['mean']:.2f}" in text
    assert all(run["dir"] in text for run in made["seeds"]["runs"])
    assert "collapsed: it answers 'a' only" in text
    assert "run with seed 44" in text


def test_an_interval_of_seeds_is_not_shown_below_zero(report, parse) -> None:
    made = report(seeds=(0.9, 0.91))
    made["seeds"]["error_percent"] = seed_interval([1.0, 9.0]).to_json()
    text = parse(render_html(made)).text
    assert "95 % interval over seeds 0.00 to 55.82 %" in text


def test_files_round_trip(report, tmp_path: Path) -> None:
    for case in CASES.values():
        made = report(**case)
        write_report(tmp_path, made)
        read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
        assert read == made
        assert render_html(read) == (tmp_path / "report.html").read_text(encoding="utf-8")
        assert summary_table(read) == summary_table(made)


def test_what_json_and_utf8_cannot_hold_costs_no_report(report, tmp_path: Path, parse) -> None:
    made = report(hardest=(("half a pair: \ud83d", "positive", "negative"),))
    made["epochs"][0]["train_loss"] = math.nan
    made["epochs"][1]["validation"]["loss"] = math.inf
    write_report(tmp_path, made)
    read = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert read["epochs"][0]["train_loss"] is None
    assert "half a pair: \ufffd" in read["hardest"][0]["text"]
    parse((tmp_path / "report.html").read_text(encoding="utf-8"))


def test_no_epochs_no_curves(report, parse) -> None:
    made = report()
    made["epochs"] = []
    assert "Learning curves" not in parse(render_html(made)).text


@pytest.mark.parametrize("case", CASES)
def test_summary_table_fits_100_columns(report, case: str) -> None:
    made = report(**CASES[case])
    made["encoder"]["name"] = "/a/very/long/path/" * 8
    made["warnings"] = ["a long warning " * 20]
    table = summary_table(made)
    assert all(len(line) <= 100 and line == line.rstrip() for line in table.splitlines())
    shown = made["test"] or made["validation"]
    assert f"{shown['error_percent']:.2f} %" in table
    assert ("test        error" in table) == (made["test"] is not None)
    assert ("precision" in table) == (len(shown["per_class"]) <= 10)
    assert len(shown["per_class"]) > 10 or all(f"\n{row['name']} " in table for row in shown["per_class"])


def test_summary_table_aligns_wide_characters(report) -> None:
    table = summary_table(report(names=("体育新闻", "财经", "sport", "a class with a name of some length")))
    rows = table.splitlines()[-5:]
    wide = [sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in row) for row in rows]
    assert len(set(wide)) == 1


def test_summary_table_of_seeds(report) -> None:
    made = report(seeds=(0.9, 0.91, 0.95))
    assert re.search(r"3 seeds\s+test error \d+\.\d\d ± \d+\.\d\d %, macro-F1 0\.\d{3} ± 0\.\d{3}", summary_table(made))
    assert "±" not in summary_table(report(seeds=(0.9,)))
