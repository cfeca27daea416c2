"""What a report says of documents, counted again from the files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import read_lines


def write(path: Path, texts: list[tuple[str, str]]) -> Path:
    path.write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in texts))
    return path


def test_documents_that_are_cut_are_counted_by_split(tune: Callable[..., Any], tmp_path: Path) -> None:
    """Words that are a token each, and two special tokens: a text that just fits is not cut."""
    lengths = {"train": [3, 8, 9, 30], "validation": [8, 8, 9, 9, 9], "test": [8, 1, 20, 8, 7, 7, 3, 2]}
    files = {
        name: write(tmp_path / f"{name}.csv", [(" ".join(["good"] * n), "ab"[i % 2]) for i, n in enumerate(counts)])
        for name, counts in lengths.items()
    }
    train = files.pop("train")
    report = tune("run", train, max_seq_len=10, **{name: str(path) for name, path in files.items()})
    assert report["data"]["truncated_percent"] == pytest.approx(
        {name: 100 * np.mean([n > 8 for n in counts]) for name, counts in lengths.items()}
    )
    assert report["data"]["mean_tokens"] == pytest.approx({name: np.mean(counts) for name, counts in lengths.items()})
    assert [report["data"][name] for name in lengths] == [4, 5, 8]


def test_empty_documents_are_left_out_everywhere(tune: Callable[..., Any], tmp_path: Path) -> None:
    texts = [("good", "a"), ("", "b"), ("bad", "b"), (" ", "a"), ("book", "a")]
    files = {name: write(tmp_path / f"{name}.csv", texts[: 5 - n]) for n, name in enumerate(("train", "test"))}
    report = tune("run", files["train"], validation=str(files["train"]), test=str(files["test"]))
    assert report["data"]["left_out_empty"] == {"train": 2, "validation": 2, "test": 2}
    assert (report["data"]["train"], report["data"]["test"], report["test"]["count"]) == (3, 2, 2)
    rows = read_lines(tmp_path / "run" / "predictions.jsonl")
    # The others keep their places in the file, and their labels.
    assert [(row["id"], row["true_label"]) for row in rows] == [("test.csv:1", "a"), ("test.csv:3", "b")]


def test_the_hardest_errors_are_the_surest_ones(
    tune: Callable[..., Any], reviews: Callable[..., Path], tmp_path: Path
) -> None:
    test = [("bad", "a"), ("good", "b"), ("dull", "c"), ("dull", "a"), ("good", "a")] * 8
    report = tune(
        "run", reviews("train.csv", test), test=str(reviews("test.csv", test)), epochs=2, token_pooling="mean",
        learning_rate=3e-3,
    )  # fmt: skip
    rows = read_lines(tmp_path / "run" / "predictions.jsonl")
    wrong = {row["id"]: row for row in rows if row["label"] != row["true_label"]}
    texts = (tmp_path / "test.csv").read_text().splitlines()[1:]
    hardest = report["hardest"]
    assert len(hardest) == min(20, len(wrong))
    assert len(wrong) > 4
    for one in hardest:
        row = wrong[one["id"]]
        assert (one["label"], one["prediction"]) == (row["true_label"], row["label"])
        assert one["probability"] == pytest.approx(max(row["probabilities"].values()), abs=1e-6)
        assert one["text"] == texts[int(one["id"].rpartition(":")[2]) - 1].rpartition(",")[0]
    surest = sorted((row["probability"] for row in wrong.values()), reverse=True)
    assert [round(one["probability"], 6) for one in hardest] == surest[: len(hardest)]


def test_fewer_test_documents_are_some_of_the_more(
    tune: Callable[..., Any], reviews: Callable[..., Path], tmp_path: Path
) -> None:
    """And the same for every seed and every model, so that figures of runs with few of them compare."""
    train = reviews("train.csv", [("bad", "a"), ("good", "b")] * 6)
    test = str(reviews("test.csv", [("bad", "a"), ("good", "b")] * 15))
    chosen = []
    for number, seed in ((6, 1), (14, 2), (14, 3)):
        name = f"{number}-{seed}"
        tune(name, train, test=test, test_examples=number, seed=seed, learning_rate=1e-30)
        chosen.append({row["id"] for row in read_lines(tmp_path / name / "predictions.jsonl")})
    assert [len(ids) for ids in chosen] == [6, 14, 14]
    assert chosen[0] < chosen[1] == chosen[2]
