"""The report of a pre-training run, and what a report of fine-tuning says of the pre-training of its encoder."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doctune.errors import CheckpointError
from doctune.evaluation.pretraining_section import further_pretraining, pretraining_warnings
from doctune.report.finetuning import render_html, summary_table
from doctune.report.numbers import short_count
from doctune.report.pretraining import MOST_POINTS, make_report, write_pretraining_report

MakeFacts = Callable[..., dict[str, Any]]
MakeRun = Callable[..., Path]


@pytest.fixture
def facts() -> MakeFacts:
    """Facts of a made-up run of 200 steps, whose step 150 was kept."""

    def make(pairs: bool = True, held_out: bool = True, scratch: bool = False, **corpus: Any) -> dict[str, Any]:
        told = {"pair_loss": 0.5, "pair_accuracy": 0.8} if pairs else {}
        measured = {"held_out_loss": 3.5, "mlm_loss": 3.0, "mlm_accuracy": 0.41, **told}
        start = {"encoder": None if scratch else "minilm", "from_scratch": "mini" if scratch else None}
        return {
            "doctune": "0.1.0", "base_encoder": "from scratch: mini" if scratch else "minilm", "before": None,
            "encoder": {"hidden_size": 384, "num_layers": 6, "num_parameters": 22_900_000, "packing": "packed"},
            "objective": "nsp" if pairs else "none", "steps": 200, "tokens": 1_234_567, "seconds": 754.3,
            "kept_step": 150, "new_heads": ["masked words"], "head_warmup": 0.05,
            "held_out": measured if held_out else None,
            "corpus": {
                "name": "reviews", "documents": 900, "sentences": 8000, "tokens": 150_000, "kept": {},
                "sources": [
                    {"name": "task.csv", "weight": 2.0, "left_out": 5, "documents": 300, "sentences": 3000,
                     "tokens": 50_000},
                    {"name": "domain", "weight": 0.5, "left_out": 2, "documents": 600, "sentences": 5000,
                     "tokens": 100_000},
                ],
                "exclude": [{"name": "test.csv", "texts": 400}], "left_out": {"exact": 4, "near-duplicate": 3},
                "transductive": False, **corpus,
            },
            "settings": {
                "corpus": "corpora/reviews", "start": start, "pairs": {"sequence_len": 128, "duplication": None},
                "masking": {"masked_lm_prob": 0.15, "masking": "token"},
                "optimizer": {"learning_rate": 5e-5, "betas": [0.9, 0.999]},
                "training": {"batch_size": 32, "accumulation": 2, "steps": 200},
            },
        }  # fmt: skip

    return make


@pytest.fixture
def run(tmp_path: Path) -> MakeRun:
    """A run directory with a metrics.jsonl."""

    def make(steps: int = 10, pairs: bool = True, held_out: bool = True) -> Path:
        folder = tmp_path / "run"
        folder.mkdir(exist_ok=True)
        records: list[dict[str, Any]] = []
        for number in range(steps):
            both = {"mlm": 5.0 - number / steps, "pair": 0.6} if pairs else {}
            records.append({
                "kind": "step", "step": 20 * number + 1, "tokens": 6000 * (20 * number + 1), "epoch": 0.1 * number,
                "loss": 5.6, **both, "learning_rate": 5e-5 * number / steps, "gradient_norm": 1.0,
            })  # fmt: skip
        for step in (50, 100, 150, 200):
            seen = {"held_out_loss": 9 - step / 50, "mlm_loss": 8 - step / 50, "mlm_accuracy": step / 400}
            both = {"pair_loss": 1.0, "pair_accuracy": 0.7} if pairs else {}
            measured = {**seen, **both} if held_out else {}
            records.append({"kind": "evaluation", "step": step, "tokens": 6000 * step, "epoch": 1.5, "train_loss": 5.0,
                            **measured})  # fmt: skip
        (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return folder

    return make


@pytest.mark.parametrize("pairs", [True, False])
@pytest.mark.parametrize("held_out", [True, False])
@pytest.mark.parametrize("scratch", [True, False])
def test_the_page_is_well_formed_and_self_contained(
    facts: MakeFacts, run: MakeRun, pairs: bool, held_out: bool, scratch: bool, parse: Any
) -> None:
    folder = run(pairs=pairs, held_out=held_out)
    page = parse(write_pretraining_report(folder, facts(pairs, held_out, scratch), "doctune pretrain ...").read_text())
    assert not {"script", "link", "iframe", "img", "object"} & set(page.tags)
    assert "http" not in "".join(value or "" for _, value in page.attributes)
    ids = [value for name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    # Words, pairs and the rate: each loss with the training's, and what is right in held-out documents.
    assert page.tags.count("svg") == 2 + pairs + (1 + pairs) * held_out
    for said in ("1,234,567", "12 min 34 s", "task.csv", "4 exact, 3 near-duplicate", "test.csv (400 texts)"):
        assert said in page.text
    assert ("41.0 %" in page.text) == held_out
    assert ("80.0 %" in page.text) == (held_out and pairs)
    assert ("doctune compare" in page.text) == (not scratch)  # there is no encoder to compare a new one with
    assert "doctune finetune --encoder" in page.text


def test_what_the_user_names_is_escaped(facts: MakeFacts, run: MakeRun) -> None:
    page = write_pretraining_report(run(), facts(name="<script>alert(1)</script>"), "doctune 'a<b'").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("corpus", "held_out", "said"),
    [
        ({"transductive": True, "kept": {"exact": 7}}, True, "7 of its documents"),
        ({"exclude": []}, True, "compared with no validation or test texts"),
        ({}, False, "No document was held out"),
        ({}, True, None),
    ],
)
def test_warnings(
    facts: MakeFacts, run: MakeRun, corpus: dict[str, Any], held_out: bool, said: str | None, parse: Any
) -> None:
    report = make_report(run(), facts(held_out=held_out, **corpus), "doctune pretrain")
    assert len(report["warnings"]) == (said is not None)
    if said is not None:
        assert said in report["warnings"][0]
        assert said in parse(write_pretraining_report(run(), facts(held_out=held_out, **corpus), "x").read_text()).text


def test_what_was_seen_before_stays_seen(facts: MakeFacts, run: MakeRun, parse: Any) -> None:
    made = {**facts(), "before": facts(name="older", transductive=True)}
    page = parse(write_pretraining_report(run(), made, "x").read_text()).text
    assert "on older, 200 steps" in page
    assert "test set (transductive)" in page


def test_the_data_of_the_report(facts: MakeFacts, run: MakeRun) -> None:
    folder = run()
    snapshots = [folder / "snapshots" / f"step-0000{step}" for step in (100, 150, 200)]
    write_pretraining_report(folder, {**facts(), "seconds": math.nan}, "doctune pretrain --x", snapshots)
    report = json.loads((folder / "report.json").read_text())
    assert report["kind"] == "pretraining"
    assert report["facts"]["corpus"]["left_out"] == {"exact": 4, "near-duplicate": 3}
    assert report["facts"]["seconds"] is None
    assert [record["step"] for record in report["evaluations"]] == [50, 100, 150, 200]
    assert report["files"]["ledger"] == f"{folder}/model/ledger.jsonl"
    assert report["repeat"] == f"doctune pretrain --config {folder}/config.toml --output {folder}-again"
    compare = report["next"][0]
    assert f"--adapted {snapshots[0]} {snapshots[2]} {folder}/model " in compare  # step 150 is the model itself


def test_a_long_run_has_no_more_points_than_a_curve_shows(facts: MakeFacts, run: MakeRun) -> None:
    report = make_report(run(steps=1000), facts(), "x")
    assert MOST_POINTS / 2 < len(report["steps"]) <= MOST_POINTS
    means = [record["mlm"] for record in report["steps"]]
    assert means == sorted(means, reverse=True)
    assert sum(means) / len(means) == pytest.approx(4.5, abs=0.05)


def test_numbers_of_tokens() -> None:
    assert [short_count(x) for x in (0, 800, 25_000, 1_500_000, 2e9)] == ["0", "800", "25k", "1.5M", "2G"]


def test_a_report_of_fine_tuning_tells_of_it(facts: MakeFacts, report: Any, tmp_path: Path, parse: Any) -> None:
    before = facts(name="older", exclude=[])
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "doctune-pretraining.json").write_text(json.dumps({**facts(), "before": before}))
    runs = further_pretraining(folder)
    assert [one["corpus"] for one in runs] == ["reviews", "older"]
    assert pretraining_warnings(runs) == []
    made = {**report(), "further_pretraining": runs}
    page = parse(render_html(made)).text
    for said in (
        "Further pre-training", "Pre-training before that", "reviews, 900 documents",
        "200 steps (weights of step 150), 1,234,567 tokens, 12 min 34 s", "test.csv (400 texts)",
        "4 exact, 3 near-duplicate", "no texts: the corpus may hold some of the test set",
    ):  # fmt: skip
        assert said in page
    assert "on reviews, 200 steps, 1,234,567 tokens" in summary_table(made)
    assert "Further pre-training" not in parse(render_html(report())).text


def test_a_transductive_corpus_is_a_warning(facts: MakeFacts, tmp_path: Path) -> None:
    (tmp_path / "doctune-pretraining.json").write_text(json.dumps(facts(transductive=True)))
    runs = further_pretraining(tmp_path)
    assert runs[0]["transductive"]
    [warning] = pretraining_warnings(runs)
    assert "corpus reviews" in warning
    assert "transductive" in warning


def test_an_encoder_that_tells_little_or_nothing(report: Any, tmp_path: Path, parse: Any) -> None:
    assert further_pretraining(tmp_path) == []
    path = tmp_path / "doctune-pretraining.json"
    path.write_text("{}")
    assert parse(render_html({**report(), "further_pretraining": further_pretraining(tmp_path)}))
    path.write_text('{"corpus": {"left_out": [1]}}')
    with pytest.raises(CheckpointError, match="mend or remove"):
        further_pretraining(tmp_path)


def test_a_vocabulary_of_the_corpus_is_told(facts: MakeFacts, run: MakeRun, parse: Any) -> None:
    after = {"pieces_per_word": 1.05, "broken": 0.0357, "unknown": 0.0}
    before = {"pieces_per_word": 1.069, "broken": 0.0476, "unknown": 0.0}

    def told(**vocabulary: Any) -> str:
        path = write_pretraining_report(run(), facts(vocabulary={"after": after, **vocabulary}), "doctune pretrain ...")
        return parse(path.read_text()).text

    text = told(kind="extended", pieces=3, first=["cheesy", "dialog"], before=before)
    assert "3 new pieces: cheesy, dialog, ...; 1.069 pieces a word before, 1.050 now" in text
    assert "words in two or more: 4.8 % before, 3.6 % now" in text
    text = told(kind="new", pieces=8000, first=[], before=None)
    assert "8,000 pieces of its own; 1.050 pieces a word, words in two or more: 3.6 %" in text
