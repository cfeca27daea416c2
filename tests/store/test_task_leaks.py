"""Training documents that are test documents of any task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from doctune.examples import Example
from doctune.store.build import build_shard
from doctune.store.splits import Dataset, make_dataset
from doctune.store.task_leaks import find_leaks, without
from doctune.targets import SingleTarget
from doctune.text.tokenizer import TextTokenizer

LONG = "the food was good and the service was great but the place is so very bad that we have not been there for long"


@pytest.fixture
def tokenizer(tiny_encoder: Path) -> TextTokenizer:
    return TextTokenizer.load(tiny_encoder)


def dataset(name: str, texts: Sequence[str], tokenizer: TextTokenizer, folder: Path) -> Dataset:
    examples = [Example(f"{name}-{i}", text, str(i % 2)) for i, text in enumerate(texts)]
    return make_dataset(name, build_shard(examples, tokenizer, folder, name, False).shard, SingleTarget(("0", "1")))


def test_equal_and_nearly_equal_texts_of_any_task(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    train = {
        "a": dataset("train-a", ["good film", LONG, "a Good, film!", "bad film"], tokenizer, tmp_path),
        "b": dataset("train-b", ["happy sport match", "sad sport match", LONG + " of money"], tokenizer, tmp_path),
    }
    tests = {
        "a": dataset("test-a", ["bad film", "awful film"], tokenizer, tmp_path),
        "c": dataset("test-c", ["match goal", LONG], tokenizer, tmp_path),
    }
    leaks = find_leaks(train, tests, 0.5)
    kept = {name: without(name, one, leaks) for name, one in train.items()}
    assert kept["a"].ids() == ["train-a-0", "train-a-2"]
    assert kept["b"].ids() == ["train-b-0", "train-b-1"]
    assert kept["a"].labels.tolist() == [0, 0]
    found = [(leak.task, leak.id, leak.test_task, leak.test_id, leak.reason) for leak in leaks]
    assert found == [
        ("a", "train-a-1", "c", "test-c-1", "exact"),
        ("a", "train-a-3", "a", "test-a-0", "exact"),
        ("b", "train-b-2", "c", "test-c-1", "near-duplicate"),
    ]


def test_nothing_to_leave_out(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    train = {"a": dataset("train", ["good film", "bad film"], tokenizer, tmp_path)}
    assert find_leaks(train, {}, 0.5) == []
    assert find_leaks(train, {"a": dataset("test", ["great film"], tokenizer, tmp_path)}, 0.5) == []
    assert without("a", train["a"], []) is train["a"]
