"""What of several processes each does is together what one does alone; here they run one after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import doctune
from doctune.distributed import World
from doctune.examples import Example
from doctune.store.build import build_shard
from doctune.store.splits import make_dataset

ROWS = [("bad", "a"), ("good", "b"), ("dull", "b")] * 4


@pytest.mark.parametrize("size", [2, 3])
def test_predictions_of_all_processes_are_those_of_one(
    tune: Callable[..., Any], reviews: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Every document is answered by one process, and the windows of all come together."""
    tune("run", reviews("train.csv", ROWS), truncation="windows", max_seq_len=8, token_pooling="mean")
    predictor = doctune.load(tmp_path / "run", device="cpu", precision="fp32")
    texts = [f"{'good film was it ' * (1 + number % 5)}bad place {number}" for number in range(40)]
    examples = [Example(str(number), text, "a") for number, text in enumerate(texts)]
    shard = build_shard(examples, predictor.tokenizer, tmp_path / "shards", "test").shard
    dataset = make_dataset("test", shard, predictor.target)
    monkeypatch.setattr("doctune.classifier.predictor.TOKENS_PER_BATCH", 64)
    whole, windows = predictor.predict_dataset(dataset)
    shares: list[np.ndarray] = []
    found: list[Any] = []
    monkeypatch.setattr(World, "all_reduce", lambda self, tensor: shares.append(tensor.numpy().copy()) or tensor)
    monkeypatch.setattr(World, "gather", lambda self, value: found.append(value) or [value])
    for rank in range(size):
        predictor.predict_dataset(dataset, None, World(rank, size))
    answered = np.array([share.sum(axis=1) > 0 for share in shares])
    assert (answered.sum(axis=0) == 1).all()
    assert answered.any(axis=1).all()
    np.testing.assert_allclose(np.sum(shares, axis=0), whole, atol=1e-6)
    assert {place: value for one in found for place, value in one} == windows
