"""What chance decides, decides anew in every step, and depends on nothing but the seed and the place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .conftest import read_lines, saved_weights

EIGHT = [("bad", "a"), ("good", "b")] * 12


def weights(run: Path) -> np.ndarray:
    return np.concatenate([tensor.ravel() for _, tensor in sorted(saved_weights(run).items())])


def test_no_two_steps_drop_the_same_places(tune: Callable[..., Any], reviews: Callable[..., Path]) -> None:
    """Two documents of one text, a step for each, and weights that stand still: only dropout tells their losses apart.

    A step's document is one of the two, so that dropout that is the same in every step gives two losses.
    """
    train = reviews("train.csv", [("bad", "a"), ("bad", "b")])
    lines = train.read_text().splitlines()
    train.write_text("\n".join([lines[0], lines[1], lines[1].replace(",a", ",b")]) + "\n")
    report = tune(
        "run", train, validation=str(train), dropout=0.5, learning_rate=1e-30, batch_size=1, epochs=6,
        evaluations_per_epoch=2,
    )  # fmt: skip
    losses = [record["train_loss"] for record in report["epochs"]]
    assert len(losses) == 12
    assert len(set(losses)) == 12


def test_validation_takes_no_part_in_training(
    tune: Callable[..., Any], reviews: Callable[..., Path], tmp_path: Path
) -> None:
    """However often it is validated, and on whatever: the same losses and the same last weights, dropout included."""
    train, other = reviews("train.csv", EIGHT), reviews("other.csv", EIGHT[:6])
    settings = {"dropout": 0.3, "batch_size": 2, "select": "last", "epochs": 2}
    tune("once", train, validation=str(train), **settings)
    tune("often", train, validation=str(other), evaluations_per_epoch=4, **settings)
    assert np.array_equal(weights(tmp_path / "once"), weights(tmp_path / "often"))
    steps = [
        [record["loss"] for record in read_lines(tmp_path / name / "metrics.jsonl") if record["kind"] == "step"]
        for name in ("once", "often")
    ]
    assert steps[0] == steps[1]
    assert len(steps[0]) == 2


def test_every_seed_is_measured_on_the_same_documents(
    tune: Callable[..., Any], reviews: Callable[..., Path], tmp_path: Path
) -> None:
    """What is held out of all of train does not depend on which of the seeds it is, but on the seed of the run.

    Together with what is left it is all of train, in the share that was asked for.
    """
    train = reviews("train.csv", EIGHT)
    held: dict[str, list[set[str]]] = {}
    for name, seed in (("run", 42), ("other", 43)):
        report = tune(name, train, seeds=2, seed=seed, validation_fraction=0.25, learning_rate=1e-30)
        assert (report["data"]["train"], report["data"]["validation"]) == (18, 6)
        assert report["data"]["train_per_class"] == {"a": 9, "b": 9}
        files = [tmp_path / name / f"seed-{number}" / "predictions.jsonl" for number in (seed, seed + 1)]
        held[name] = [{row["id"] for row in read_lines(file)} for file in files]
        assert held[name][0] == held[name][1]
    assert held["run"] != held["other"]
    assert held["run"][0] <= {f"train.csv:{number}" for number in range(1, 25)}
