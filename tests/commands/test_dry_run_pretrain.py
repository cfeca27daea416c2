"""`doctune pretrain --dry-run`: what a run would do is told, and nothing is written."""

from __future__ import annotations

import json
import shutil
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Done = Any


@pytest.fixture
def dry_run(cli: Callable[..., Done], tiny_corpus: Path, tmp_path: Path) -> Callable[..., Done]:
    def run(*arguments: object, corpus: Path = tiny_corpus, output: Path = tmp_path / "run", dry: bool = True) -> Done:
        return cli(
            "pretrain", "--corpus", corpus, "--output", output, "--sequence-len", 32, "--batch-size", 4,
            "--precision", "fp32", *arguments, *(["--dry-run"] if dry else []),
        )  # fmt: skip

    return run


def number(out: str, before: str, after: str) -> float:
    """The number in the output between two texts."""
    return float(out.split(before, 1)[1].split(after, 1)[0].replace(",", ""))


def test_it_tells_what_a_run_does(dry_run: Callable[..., Done], tiny_encoder: Path, tmp_path: Path) -> None:
    arguments = ("--encoder", tiny_encoder, "--steps", 30, "--held-out", 4)
    done = dry_run(*arguments)
    assert done.code == 0, done.err
    assert not (tmp_path / "run").exists()
    settings = tomllib.loads(done.out)
    assert settings["optimizer"]["learning_rate"] == 5e-5  # the default that depends on the encoder is filled in
    assert "2 layers of 32" in done.out
    assert "new heads: masked words, sentence pairs, trained alone for 5 % of the budget first" in done.out
    assert "40 documents" in done.out
    assert "held out: 4 documents" in done.out
    assert dry_run(*arguments, dry=False).code == 0
    facts = json.loads((tmp_path / "run" / "model" / "doctune-pretraining.json").read_text())
    assert number(done.out, "budget: 30 steps, about ", " tokens") == pytest.approx(facts["tokens"], rel=0.15)
    parameters = facts["encoder"]["num_parameters"] / 1e6
    assert f" for {parameters:.1f} million parameters" in done.out
    epoch = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["epoch"]
    budget = next(line for line in done.out.splitlines() if line.startswith("# budget: "))
    assert number(budget, "tokens, ", " passes") == pytest.approx(epoch, rel=0.15)


@pytest.mark.parametrize("budget", [("--tokens", 20000), ("--minutes", 3)])
def test_budgets(dry_run: Callable[..., Done], tiny_encoder: Path, budget: tuple[str, int]) -> None:
    done = dry_run("--encoder", tiny_encoder, *budget)
    assert done.code == 0, done.err
    assert ("20,000 tokens, about" in done.out) == (budget[0] == "--tokens")
    assert ("3 min 0 s" in done.out) == (budget[0] == "--minutes")


def test_an_encoder_from_scratch(dry_run: Callable[..., Done], tmp_path: Path) -> None:
    stages = ("--short-share", 0.5, "--short-len", 16)
    done = dry_run("--from-scratch", "mini", "--steps", 9, *stages, "--schedule", "trapezoid")
    assert done.code == 0, done.err
    assert "4 layers of 256" in done.out
    assert "up to 0.001, trapezoid" in done.out
    short = number(done.out, "a step in the first 50 % of the budget: ", " sequences")
    assert short == 2 * number(done.out, "# then: ", " sequences")  # half as long, so twice as many
    assert "warning: the corpus was compared with no test texts" in done.out
    assert not (tmp_path / "run").exists()


def test_what_a_user_would_want_to_know_before(
    dry_run: Callable[..., Done], tiny_encoder: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    corpus = tmp_path / "transductive"
    shutil.copytree(tiny_corpus, corpus)
    manifest = json.loads((corpus / "corpus.json").read_text())
    told = {**manifest, "transductive": True, "kept": {"exact": 3}, "exclude": [{"name": "test.csv", "texts": 9}]}
    (corpus / "corpus.json").write_text(json.dumps(told))
    done = dry_run("--encoder", tiny_encoder, "--steps", 100_000, "--held-out", 0, corpus=corpus)
    assert done.code == 0, done.err
    warnings = [line for line in done.out.splitlines() if line.startswith("# warning: ")]
    assert len(warnings) == 3
    assert "passes over this corpus; beyond some 40" in warnings[0]
    assert "transductive: 3 documents" in warnings[1]
    assert "no document is held out" in warnings[2]
    enough = int(number(warnings[0], "(--tokens ", ")"))
    for tokens, said in ((enough - 100, False), (enough + 100, True)):
        done = dry_run("--encoder", tiny_encoder, "--tokens", tokens, "--held-out", 0, corpus=corpus)
        assert ("beyond some" in done.out) == said


def test_the_errors_of_a_run(dry_run: Callable[..., Done], tiny_encoder: Path, tmp_path: Path) -> None:
    assert "positions" in dry_run("--encoder", tiny_encoder, "--sequence-len", 4000).error
    assert "positions" in dry_run("--from-scratch", "mini", "--sequence-len", 4000).error
    assert "corpus.json" in dry_run("--encoder", tiny_encoder, corpus=tmp_path).error
