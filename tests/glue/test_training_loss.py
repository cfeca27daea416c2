"""The loss that training reports is the one that its settings define, computed again from the saved predictions.

The learning rate is next to nothing and there is no dropout, so that the model that is saved is the one that every step
of the training saw; validation documents are those of training.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .conftest import read, read_lines

STANDS_STILL = {"learning_rate": 1e-30, "dropout": 0.0, "weight_decay": 0.0}
ROWS = [("bad", "a"), ("good", "b"), ("bad", "c"), *[("good", "a")] * 3, *[("bad", "b")] * 12, ("good", "c")] * 2


def negative_log_likelihood(run: Path, names: Sequence[str], smoothing: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Cross entropy of every validation document, the target smoothed as asked, and the documents' classes."""
    rows = read_lines(run / "predictions.jsonl")
    probabilities = np.array([[row["probabilities"][name] for name in names] for row in rows])
    labels = np.array([names.index(row["true_label"]) for row in rows])
    targets = (1 - smoothing) * np.eye(len(names))[labels] + smoothing / len(names)
    return -(targets * np.log(probabilities)).sum(axis=1), labels


@pytest.fixture
def still(tune: Callable[..., Any], reviews: Callable[..., Path], tmp_path: Path) -> Callable[..., Any]:
    def run(**settings: Any) -> tuple[dict[str, Any], Path]:
        train = reviews("train.csv", ROWS)
        given = {**STANDS_STILL, "validation": str(train), "batch_size": 7, **settings}
        return tune("run", train, **given), tmp_path / "run"

    return run


@pytest.mark.parametrize("accumulation", [1, 3])
@pytest.mark.parametrize("weights", ["none", "balanced", (0.5, 1.0, 4.0)])
def test_class_weights(still: Callable[..., Any], weights: Any, accumulation: int) -> None:
    """Balanced: every class has the same part in the loss, however many documents it has."""
    report, run = still(class_weights=weights, accumulation=accumulation)
    losses, labels = negative_log_likelihood(run, report["data"]["labels"])
    counts = np.bincount(labels)
    assert counts.tolist() == [8, 26, 4]
    # A head that is new answers the classes unlike enough for wrong weights to show.
    by_class = np.bincount(labels, losses) / counts
    assert np.ptp(by_class) > 0.01
    expected = {
        "none": losses.mean(),
        "balanced": by_class.mean(),
        (0.5, 1.0, 4.0): np.average(losses, weights=np.array([0.5, 1.0, 4.0])[labels]),
    }[weights]
    assert report["epochs"][0]["train_loss"] == pytest.approx(expected, abs=1e-5)
    # What is measured is never weighed.
    assert report["validation"]["loss"] == pytest.approx(losses.mean(), abs=1e-5)


def test_label_smoothing(still: Callable[..., Any]) -> None:
    # A head far from uniform: there the target's mass on other classes costs much.
    report, run = still(label_smoothing=0.3)
    plain, _ = negative_log_likelihood(run, report["data"]["labels"])
    smooth, _ = negative_log_likelihood(run, report["data"]["labels"], 0.3)
    assert abs(plain.mean() - smooth.mean()) > 1e-4
    assert report["epochs"][0]["train_loss"] == pytest.approx(smooth.mean(), abs=1e-5)
    assert report["validation"]["loss"] == pytest.approx(plain.mean(), abs=1e-5)


def test_the_steps_of_an_epoch_have_every_document_once(still: Callable[..., Any]) -> None:
    """The mean of the parts of an epoch, by their documents, is that of all; so is it in every later epoch."""
    report, run = still(epochs=3, evaluations_per_epoch=2, accumulation=1)
    losses, _ = negative_log_likelihood(run, report["data"]["labels"])
    sizes = np.minimum(7, 38 - 7 * np.arange(6))
    for epoch in range(3):
        first, second = (record["train_loss"] for record in report["epochs"][2 * epoch : 2 * epoch + 2])
        mean = (first * sizes[:3].sum() + second * sizes[3:].sum()) / sizes.sum()
        assert mean == pytest.approx(losses.mean(), abs=1e-5)
    # Another order in every epoch.
    assert len({round(record["train_loss"], 9) for record in report["epochs"]}) == 6
    assert [record["step"] for record in report["epochs"]] == [3, 6, 9, 12, 15, 18]


def test_dropout_is_at_work_in_training_alone(still: Callable[..., Any]) -> None:
    report, run = still(dropout=0.5, epochs=2)
    losses, _ = negative_log_likelihood(run, report["data"]["labels"])
    assert report["validation"]["loss"] == pytest.approx(losses.mean(), abs=1e-5)
    for record in report["epochs"]:  # also behind the first validation
        assert abs(record["train_loss"] - losses.mean()) > 1e-4
        assert record["validation"]["loss"] == pytest.approx(losses.mean(), abs=1e-6)
    assert read(run / "report.json")["epochs"] == report["epochs"]
