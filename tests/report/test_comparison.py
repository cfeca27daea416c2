"""From finished runs to the answer: made-up predictions whose differences are known."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctune.errors import CheckpointError, DataError
from doctune.evaluation.comparison import (
    PRETRAINING_FILE,
    Comparison,
    FinishedRun,
    PretrainingFacts,
    compare_runs,
    read_pretraining,
    verdict,
)
from doctune.evaluation.intervals import paired_bootstrap_over_seeds, seed_interval
from doctune.metrics.single import compute
from doctune.report.charts import Gap, StepPoint, differences, error_by_steps
from doctune.report.comparison import markdown, render_html, steps_plot, summary_table, write_comparison

MakeRun = Callable[..., FinishedRun]
COUNT = 200


@pytest.fixture
def finished(report: Callable[..., Any], tmp_path: Path) -> MakeRun:
    """A run directory of which each seed errs on these documents."""

    def make(
        name: str,
        wrong: Sequence[Sequence[int]],
        facts: dict[str, Any] | None = None,
        test: bool = True,
        ids: str = "d",
        tokenizer: str = "t",
    ) -> FinishedRun:
        labels = np.arange(COUNT) % 2
        reports, folders = [], []
        for seed, errors in enumerate(wrong, 42):
            answers = labels.copy()
            answers[list(errors)] ^= 1
            folder = tmp_path / name / f"seed-{seed}" if len(wrong) > 1 else tmp_path / name
            folder.mkdir(parents=True)
            metrics = compute(np.eye(2)[answers] * 0.98 + 0.01, labels, ("neg", "pos"))
            made = report(names=("neg", "pos"), count=COUNT, test=test)
            made["test" if test else "validation"] = metrics.to_json()
            made["time"]["train_seconds"] = 60.0 * (seed - 41)
            (folder / "report.json").write_text(json.dumps(made))
            rows = [
                {"id": f"{ids}{i}", "label": ("neg", "pos")[said], "true_label": ("neg", "pos")[true]}
                for i, (said, true) in enumerate(zip(answers, labels, strict=True))
            ]
            (folder / "predictions.jsonl").write_text("\n".join(json.dumps(row) for row in rows) + "\n")
            reports.append(made)
            folders.append(folder)
        top = reports[0]
        if len(wrong) > 1:
            top = {**top, "seeds": {"runs": [{"dir": folder.name} for folder in folders]}}
        known = None if facts is None else PretrainingFacts.model_validate(facts)
        return FinishedRun(name, f"encoders/{name}", tmp_path / name, top, tokenizer, known)

    return make


def facts(steps: int | None, **corpus: Any) -> dict[str, Any]:
    return {"steps": steps, "tokens": 128_000, "seconds": 90.0, "base_encoder": "minilm", "corpus": corpus}


def compared(base: FinishedRun, *adapted: FinishedRun, seeds: int = 2) -> Comparison:
    return compare_runs(base, adapted, range(42, 42 + seeds), "doctune compare --adapted x")


def test_the_difference_is_that_of_hand(finished: MakeRun) -> None:
    base = finished("base", [range(40), range(20, 64)])
    made = compared(base, finished("adapted", [range(20), range(20, 44)]))
    one, versus = made["adapted"][0], made["adapted"][0]["against_base"]
    assert made["base"]["error_percent"]["values"] == pytest.approx([20.0, 22.0])
    assert one["error_percent"]["values"] == pytest.approx([10.0, 12.0])
    assert versus["points"] == pytest.approx(-10.0)
    assert versus["by_seed"] == pytest.approx([-10.0, -10.0])
    marks = [[np.isin(np.arange(COUNT), list(errors), invert=True) for errors in runs] for runs in (
        (range(20), range(20, 44)), (range(40), range(20, 64))
    )]  # fmt: skip
    _, low, high = paired_bootstrap_over_seeds(*marks)
    assert (versus["low"], versus["high"]) == (low, high)
    assert versus["sentence"] == (
        f"helped: error 21.00 % -> 11.00 %, difference -10.00 points (95 % interval {low:+.2f} to {high:+.2f})"
    )
    summary = seed_interval([10.0, 12.0])
    assert one["interval_percent"] == pytest.approx([summary.low, summary.high])
    assert one["train_seconds"] == [60.0, 120.0]


def test_swapping_flips_the_answer(finished: MakeRun) -> None:
    few, many = finished("few", [range(20), range(22)]), finished("many", [range(60), range(61)])
    there, back = compared(many, few)["adapted"][0], compared(few, many)["adapted"][0]
    assert there["against_base"]["points"] == -back["against_base"]["points"]
    assert (there["against_base"]["verdict"], back["against_base"]["verdict"]) == ("helped", "hurt")
    assert back["against_base"]["sentence"].startswith("hurt: error 10.50 % -> 30.25 %, difference +19.75 points (")


def test_equal_runs_differ_by_nothing(finished: MakeRun) -> None:
    one, other = finished("one", [range(20), range(9)]), finished("other", [range(20), range(9)])
    versus = compared(one, other)["adapted"][0]["against_base"]
    assert (versus["points"], versus["low"], versus["high"]) == (0.0, 0.0, 0.0)
    assert versus["verdict"] == "no difference"
    assert versus["sentence"] == (
        "no difference that these runs can tell: error 7.25 % -> 7.25 %, difference +0.00 points "
        "(95 % interval +0.00 to +0.00)"
    )


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(-2.0, -0.1, "helped"), (0.1, 2.0, "hurt"), (-1.0, 1.0, "no difference"), (-1.0, 0.0, "no difference")],
)
def test_a_verdict_needs_an_interval_on_one_side(low: float, high: float, said: str) -> None:
    assert verdict(low, high) == said


def test_one_seed_has_the_interval_of_its_documents_and_a_warning(finished: MakeRun) -> None:
    made = compared(finished("base", [range(40)]), finished("adapted", [range(30)]), seeds=1)
    assert made["base"]["interval_percent"] == list(made["base"]["interval_percent"])
    assert made["base"]["interval_percent"][0] < 20 < made["base"]["interval_percent"][1]
    assert any("one seed only" in warning for warning in made["warnings"])
    assert not any("one seed only" in warning for warning in two(finished)["warnings"])


def two(finished: MakeRun, **changes: Any) -> Comparison:
    return compared(finished("b", [range(40), range(41)]), finished("a", [range(30), range(31)], **changes))


def test_what_a_reader_must_know(finished: MakeRun) -> None:
    made = two(finished, facts=facts(1000, name="task", transductive=True), tokenizer="another")
    said = " ".join(made["warnings"])
    assert "a: further pre-trained on the texts of the test documents themselves (transductive)" in said
    assert "a: another tokenizer than that of the base encoder" in said
    for shown in (render_html(made), markdown(made), " ".join(summary_table(made).split())):
        assert "(transductive)" in shown
    assert "task, transductive" in render_html(made)


def test_what_was_seen_in_an_earlier_pretraining_stays_seen(finished: MakeRun) -> None:
    earlier = facts(500, name="first", transductive=True)
    later = {**facts(1000, name="second", transductive=False), "before": earlier}
    assert any("a: further pre-trained on the texts" in warning for warning in two(finished, facts=later)["warnings"])


def test_a_corpus_that_nobody_searched_for_test_texts(finished: MakeRun) -> None:
    never = finished("never", [range(3), range(4)], facts(1000, exclude=[], transductive=False))
    searched = finished("searched", [range(3), range(4)], facts(1000, exclude=[{"name": "test.csv", "texts": 9}]))
    nor = finished("nor", [range(3), range(4)], facts(1000, exclude=[]))
    made = compared(finished("base", [range(30), range(31)]), never, searched, nor)
    assert [w.split(":")[0] for w in made["warnings"] if "not searched for the test texts" in w] == ["never, nor"]


def test_the_plot_goes_by_the_step_whose_weights_were_kept(finished: MakeRun) -> None:
    best = finished("best", [range(3), range(4)], {**facts(1000), "kept_step": 600})
    last = finished("last", [range(3), range(4)], {**facts(1000), "kept_step": 1000})
    made = compared(finished("base", [range(30), range(31)]), best, last)
    assert "best, 600 steps" in steps_plot(made)
    assert "last, 1,000 steps" in steps_plot(made)
    assert "1,000, of which 600 kept" in markdown(made)
    assert made["adapted"][0].get("pretraining", {})["steps"] == 1000


def test_without_a_test_set_it_compares_on_validation_and_says_so(finished: MakeRun) -> None:
    base = finished("base", [range(40), range(41)], test=False)
    made = compared(base, finished("adapted", [range(30), range(31)], test=False))
    assert made["part"] == "validation"
    assert any("There is no test set" in warning for warning in made["warnings"])
    assert "There was no test set" in render_html(made)
    assert "Validation error, adapted minus base" in render_html(made)


def test_a_collapsed_run_is_named(finished: MakeRun) -> None:
    always_neg = range(1, COUNT, 2)
    made = compared(finished("base", [range(40), always_neg]), finished("adapted", [range(30), range(31)]))
    assert made["base"]["collapsed"] == [43]
    assert any("base: seed 43 collapsed" in warning for warning in made["warnings"])


def test_other_documents_cannot_be_compared(finished: MakeRun) -> None:
    with pytest.raises(DataError, match="adapted: its runs and those of the base encoder were not tested on the same"):
        compared(finished("base", [range(4)]), finished("adapted", [range(4)], ids="e"), seeds=1)


def test_predictions_that_are_gone(finished: MakeRun) -> None:
    base = finished("base", [range(4)])
    (base.folder / "predictions.jsonl").unlink()
    with pytest.raises(DataError, match=r"predictions\.jsonl: no such file"):
        compared(base, finished("adapted", [range(4)]), seeds=1)


def test_facts_of_pretraining(tmp_path: Path) -> None:
    assert read_pretraining(tmp_path) is None
    (tmp_path / PRETRAINING_FILE).write_text(
        '{"steps": 500, "later": 1, "corpus": {"name": "x", "left_out": {"a": 3}}}'
    )
    found = read_pretraining(tmp_path)
    assert found is not None
    assert (found.steps, found.tokens, found.corpus.name, found.corpus.transductive) == (500, None, "x", None)
    for content, message in (('{"steps": "many"}', "steps: Input should be"), ("{", "the file: Invalid JSON")):
        (tmp_path / PRETRAINING_FILE).write_text(content)
        with pytest.raises(CheckpointError, match=rf"doctune-pretraining\.json: {message}"):
            read_pretraining(tmp_path)
    (tmp_path / PRETRAINING_FILE).write_bytes(b'{"base_encoder": "caf\xe9"}')
    with pytest.raises(CheckpointError, match="not UTF-8"):
        read_pretraining(tmp_path)


@pytest.fixture
def checkpoints(finished: MakeRun) -> Comparison:
    """A base and four checkpoints, two of them with steps, one without, and one without any facts."""
    adapted = [
        finished("late", [range(20), range(25)], facts(20_000, name="imdb", documents=75_000)),
        finished("early", [range(30), range(31)], facts(5_000, name="imdb")),
        finished("no steps", [range(30), range(35)], facts(None)),
        finished("unknown", [range(30), range(33)]),
    ]
    return compared(finished("base", [range(40), range(44)]), *adapted)


def test_the_plot_has_a_point_for_each_checkpoint_and_the_base_at_zero(checkpoints: Comparison) -> None:
    root = ElementTree.fromstring(steps_plot(checkpoints))
    titles = [circle.findtext("title") or "" for circle in root.findall("circle")]
    assert [title.split(":")[0] for title in titles] == ["base, 0 steps", "late, 20,000 steps", "early, 5,000 steps"]
    assert "late, 20,000 steps: 11.25 % (" in titles[1]
    assert len(root.findall("line[@class='whisker main']")) == 2
    polyline = root.find("polyline")
    assert polyline is not None
    xs = [float(pair.split(",")[0]) for pair in polyline.attrib["points"].split()]
    assert xs == sorted(xs)
    assert len(xs) == 3
    assert "do not tell their steps: no steps, unknown" in render_html(checkpoints)


def test_one_checkpoint_has_no_plot(finished: MakeRun) -> None:
    assert steps_plot(two(finished, facts=facts(100))) == ""


def test_what_is_written(checkpoints: Comparison, tmp_path: Path) -> None:
    write_comparison(tmp_path / "out", checkpoints)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "compare.json", "compare.html", "compare.md", "error-by-steps.svg"
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "compare.json").read_text()) == json.loads(json.dumps(checkpoints))
    svg = ElementTree.fromstring((tmp_path / "out" / "error-by-steps.svg").read_text())
    assert svg.tag == "{http://www.w3.org/2000/svg}svg"
    table = [line for line in (tmp_path / "out" / "compare.md").read_text().splitlines() if line.startswith("| ")]
    assert len({line.count("|") for line in table}) == 1
    assert [line.split(" | ")[0] for line in table] == [
        "| encoder", "| ---", "| base", "| late", "| early", "| no steps", "| unknown"
    ]  # fmt: skip
    assert table[-1].count("not known") == 2
    assert "| 20,000 | 1 min 30 s | 1 min 30 s |" in table[3]


def test_no_line_of_the_terminal_is_too_wide(checkpoints: Comparison) -> None:
    checkpoints["adapted"][0]["name"] = "n" * 200
    assert all(len(line) <= 100 for line in summary_table(checkpoints).splitlines())


def test_the_page_is_well_formed_self_contained_and_escaped(checkpoints: Comparison, parse: Any) -> None:
    evil = "<script>alert('x')</script>&\"|"
    checkpoints["title"] = checkpoints["command"] = checkpoints["adapted"][0]["name"] = evil
    checkpoints["warnings"].append(evil)
    page = render_html(checkpoints)
    assert "<script" not in page
    parsed = parse(page)
    assert not {"script", "link", "img", "iframe"} & set(parsed.tags)
    assert not {"src", "href"} & {name for name, _ in parsed.attributes}
    assert "http" not in re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "url(" not in page


def test_checkpoints_of_two_corpora_are_two_lines() -> None:
    base = StepPoint("base", 0, 10.0, 9.0, 11.0)
    adapted = [StepPoint("a", 100, 9.0, 8.0, 10.0, "in <domain>"), StepPoint("b", 200, 12.0, -3.0, 130.0, "elsewhere")]
    svg = error_by_steps(base, adapted, "test error")
    root = ElementTree.fromstring(svg)
    assert len(root.findall("polyline")) == 2
    assert "in &lt;domain&gt;" in svg
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    for line in root.findall("line"):
        assert all(0 <= float(line.attrib[name]) <= (width if name[0] == "x" else height) for name in line.attrib
                   if name != "class")  # fmt: skip


def test_differences_stand_beside_zero() -> None:
    svg = differences([Gap("a & b", -3.3, -4.1, -2.6), Gap("c", 0.0, 0.0, 0.0)], "test error")
    root = ElementTree.fromstring(svg)
    zero = root.find("line[@class='zero']")
    assert zero is not None
    bars = root.findall("line[@class='interval']")
    assert float(bars[0].attrib["x2"]) < float(zero.attrib["x1"]) == float(bars[1].attrib["x1"])
    assert "a &amp; b: -3.30 points (-4.10 to -2.60)" in svg
