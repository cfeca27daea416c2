"""`doctune corpus` as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doctune.store.corpus import Corpus

Cli = Callable[..., Any]


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """Documents as JSON lines, four of which are in `test.csv` too."""
    rows = [
        {"id": f"r{i}", "text": f"The film {i} was good. I like the place number {i} and the food."} for i in range(40)
    ]
    (tmp_path / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["text,label", *(f'"{row["text"].upper()}",pos' for row in rows[:4])]
    (tmp_path / "test.csv").write_text("\n".join(lines) + "\n")
    return tmp_path / "reviews.jsonl"


def test_from_files_to_a_corpus(cli: Cli, reviews: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("A book.\nNot a film.\n\nThe end.\n")
    text = tmp_path / "text.txt"
    done = cli(
        "corpus", reviews, tmp_path / "more.txt", "--weights", 2, 0.5, "--exclude", tmp_path / "test.csv",
        "--encoder", tiny_encoder, "--output", tmp_path / "c", "--write-text", text, "--workers", 2,
        "--shard-bytes", 1000,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "37 documents, 75 sentences" in done.out
    assert f"{reviews}: 36 documents" in done.out
    assert "left out: 4 exact" in done.out
    corpus = Corpus.open(tmp_path / "c")
    assert corpus.weights.tolist() == [2.0, 0.5]
    assert len(corpus.shards) > 1
    assert text.read_text().endswith("A book.\nNot a film.\nThe end.\n\n")
    assert text.read_text().count("\n\n") == 37


def test_a_config_file_with_sources_of_their_own(cli: Cli, reviews: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("One;A film.\n", encoding="latin-1")
    (tmp_path / "c.toml").write_text(
        f'encoder = "{tiny_encoder}"\n[leaks]\nexclude = ["{tmp_path / "test.csv"}"]\n'
        f'[[sources]]\npath = "{reviews}"\nweight = 3\n'
        f'[[sources]]\npath = "{tmp_path / "other.csv"}"\nheader = false\ntext = [0]\n'
    )
    done = cli("corpus", "--config", tmp_path / "c.toml", "--output", tmp_path / "c", "--transductive")
    assert done.code == 0, done.err
    assert "KEPT though excluded (transductive): 4 exact" in done.out
    assert Corpus.open(tmp_path / "c").weights.tolist() == [3.0, 1.0]


def test_statistics(cli: Cli, reviews: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    cli("corpus", "--encoder", tiny_encoder, "--output", tmp_path / "c", reviews)
    figures = tmp_path / "figures.json"
    done = cli("corpus", "--stats", tmp_path / "c", "--task", tmp_path / "test.csv", "--json", figures)
    assert done.code == 0, done.err
    assert "documents" in done.out
    assert "task's different words here" in done.out
    assert json.loads(figures.read_text())["total"]["documents"] == 40


def test_boilerplate_is_pointed_at(cli: Cli, tiny_encoder: Path, tmp_path: Path) -> None:
    notice = "this film and the book and the food and the place were good and not bad for one and two and three"
    (tmp_path / "all.jsonl").write_text("".join(json.dumps({"text": f"{notice} {i}"}) + "\n" for i in range(30)))
    (tmp_path / "test.csv").write_text(f"text\n{notice}\n")
    (tmp_path / "fine.jsonl").write_text('{"text": "A film."}\n')
    done = cli(
        "corpus", tmp_path / "all.jsonl", tmp_path / "fine.jsonl", "--exclude", tmp_path / "test.csv",
        "--encoder", tiny_encoder, "--output", tmp_path / "c",
    )  # fmt: skip
    assert "30 documents are like the one excluded text" in done.err
    assert "1 documents" in done.out


def test_killed_and_run_again(reviews: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    rows = reviews.read_text().splitlines()
    (tmp_path / "many.jsonl").write_text(
        "\n".join(row.replace("film", f"film {n}") for n in range(300) for row in rows)
    )
    # Run as a module, so that worker processes start as from a terminal.
    base = [sys.executable, "-m", "doctune", "corpus", str(tmp_path / "many.jsonl"), "--encoder", str(tiny_encoder)]
    base += ["--shard-bytes", "20000", "--name", "c", "--workers", "2", "--output"]
    killed = subprocess.Popen([*base, str(tmp_path / "a")], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    unfinished = tmp_path / "a" / "unfinished"
    deadline = time.monotonic() + 120
    while len(list(unfinished.glob("*.json"))) < 3 and killed.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    subprocess.run([*base, str(tmp_path / "a")], check=True, capture_output=True)
    subprocess.run([*base, str(tmp_path / "b")], check=True, capture_output=True)
    a, b = ({p.name: p.read_bytes() for p in (tmp_path / n).rglob("*") if p.is_file()} for n in "ab")
    assert a == b


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no documents: name at least one SOURCE"),
        (["reviews.jsonl", "--weights", "1", "2"], "--weights: 2 for 1 sources; give one for each SOURCE"),
        (["reviews.jsonl", "--weights", "0"], "sources.0.weight: give a number above 0"),
        (["reviews.jsonl", "--text", "body"], "no column 'body'; the columns are id, text"),
        (["reviews.jsonl", "--exclude", "nothing.csv"], "nothing.csv: no such file"),
        (["reviews.jsonl", "--exclude", "empty.csv"], "empty.csv has no texts"),
        (["empty.csv"], "no documents: the sources have none"),
        (["reviews.pdf"], "no known format '.pdf'"),
        (["reviews.jsonl", "--task", "test.csv"], "--task: only with --stats CORPUS"),
        (["reviews.jsonl", "--write-text", "test.csv"], "write_text: test.csv is there already"),
        (["reviews.jsonl", "--transductive"], "--transductive: no texts are excluded"),
        (["reviews.jsonl", "--spacy-model", "en"], "--spacy-model is for --splitter spacy"),
        (["--stats", "."], "no corpus.json here; make a corpus with doctune corpus"),
    ],
)
def test_bad_input(
    cli: Cli, reviews: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(reviews.parent)
    (tmp_path / "empty.csv").write_text("text,label\n")
    (tmp_path / "reviews.pdf").write_text("x")
    done = cli("corpus", *arguments, "--encoder", tiny_encoder, "--output", "c")
    assert message in done.error
