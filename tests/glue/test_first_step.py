"""What the first step of training does to every weight, by the closed form of Adam.

In its first step Adam moves a weight by the rate of its group times g / (|g| + epsilon): by the rate itself where
epsilon is small, and in proportion to the clipped gradient where it is large. A run of the same seed at next to no rate
tells where the weights began.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import read_lines, saved_weights

ROWS = [("bad", "a"), ("good", "b"), ("dull", "b")] * 4
ONE_STEP = {"epochs": 1, "batch_size": len(ROWS), "dropout": 0.0, "weight_decay": 0.0, "warmup": 0.0, "epsilon": 1e-12}
LAYER = re.compile(r"\.layer\.(\d+)\.")
Moves = dict[str, np.ndarray]


def weights(run: Path) -> Moves:
    return {name: tensor.astype(np.float64) for name, tensor in saved_weights(run).items()}


@pytest.fixture
def step(tune: Callable[..., Any], reviews: Callable[..., Path], tmp_path: Path) -> Callable[..., tuple[Moves, Moves]]:
    """How far one step moves each weight, and where it began."""
    train = reviews("train.csv", ROWS)

    def run(name: str = "run", **settings: Any) -> tuple[Moves, Moves]:
        given = {"validation": str(train), **ONE_STEP, **settings}
        if not (tmp_path / "still").exists():
            tune("still", train, **{**given, "learning_rate": 1e-30, "weight_decay": 0.0, "layer_rates": None})
        tune(name, train, **given)
        before, after = weights(tmp_path / "still"), weights(tmp_path / name)
        return {key: after[key] - before[key] for key in before}, before

    return run


def layer_of(name: str) -> int:
    """-1 for the embeddings, 2 for what is above the two layers."""
    found = LAYER.search(name)
    return int(found[1]) if found else -1 if "embeddings" in name else 2


@pytest.mark.parametrize(
    ("settings", "rates"),
    [
        ({"layer_decay": 0.5}, {-1: 2.5e-4, 0: 5e-4, 1: 1e-3, 2: 1e-3}),
        ({"layerwise": "none"}, {-1: 1e-3, 0: 1e-3, 1: 1e-3, 2: 1e-3}),
        ({"layer_rates": (0.0, 2e-3)}, {-1: 1e-3, 0: 0.0, 1: 2e-3, 2: 1e-3}),
        ({"freeze_encoder": True, "token_pooling": "mean"}, {-1: 0.0, 0: 0.0, 1: 0.0, 2: 1e-3}),
    ],
    ids=["decay", "none", "rates", "frozen"],
)
def test_every_layer_moves_by_its_own_rate(
    step: Callable[..., tuple[Moves, Moves]], settings: dict[str, Any], rates: dict[int, float]
) -> None:
    moves, _ = step(learning_rate=1e-3, **settings)
    seen = set()
    for name, move in moves.items():
        rate = rates[layer_of(name)]
        assert np.abs(move).max() <= 1.01 * rate + 1e-8, name
        if ".key.bias" not in name:  # it cancels out of the softmax: its gradient is rounding
            moved = np.abs(move[move != 0])
            assert (np.median(moved) if len(moved) else 0.0) == pytest.approx(rate, rel=0.01), name
            seen.add(layer_of(name))
    assert seen == set(rates)


def test_matrices_decay_and_biases_and_norms_do_not(step: Callable[..., tuple[Moves, Moves]]) -> None:
    plain, before = step("plain", learning_rate=1e-3, layerwise="none")
    decayed, _ = step("decayed", learning_rate=1e-3, layerwise="none", weight_decay=0.3)
    kinds = set()
    for name, start in before.items():
        expected = -1e-3 * 0.3 * start if start.ndim > 1 else np.zeros_like(start)
        np.testing.assert_allclose(decayed[name] - plain[name], expected, atol=2e-7, err_msg=name)
        kinds.add(start.ndim)
    assert kinds == {1, 2}


@pytest.mark.parametrize("clip", [0.0, 0.05])
def test_the_gradient_is_clipped_to_the_norm_that_was_asked_for(
    step: Callable[..., tuple[Moves, Moves]], tmp_path: Path, clip: float
) -> None:
    """The log has the norm as it was before."""
    rate, epsilon = 10.0, 1e3
    moves, _ = step(learning_rate=rate, epsilon=epsilon, max_grad_norm=clip, layerwise="none")
    gradient = np.sqrt(sum((move**2).sum() for move in moves.values())) * epsilon / rate
    logged = [
        line["gradient_norm"] for line in read_lines(tmp_path / "run" / "metrics.jsonl") if line["kind"] == "step"
    ]
    assert len(logged) == 1
    assert logged[0] > 2 * 0.05
    assert gradient == pytest.approx(clip or logged[0], rel=1e-2)


def test_the_rate_rises_over_its_share_of_the_steps_and_falls_over_the_rest(
    tune: Callable[..., Any], reviews: Callable[..., Path]
) -> None:
    train = reviews("train.csv", ROWS[:10])
    for warmup, rising in ((0.2, 4), (0.55, 11), (0.0, 0)):
        report = tune(
            f"warmup-{rising}", train, validation=str(train), epochs=2, batch_size=1, evaluations_per_epoch=10,
            warmup=warmup, learning_rate=3e-4,
        )  # fmt: skip
        rates = [record["learning_rate"] for record in report["epochs"]]
        up = [(step + 1) / rising for step in range(rising)]
        down = [1 - step / (20 - rising) for step in range(20 - rising)]
        assert rates == pytest.approx([3e-4 * factor for factor in up + down])
