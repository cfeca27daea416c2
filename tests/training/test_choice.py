"""One rule says what is better, for epochs, for the tasks of a joint training, and for seeds."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest

from doctune.runs.joint import best_record
from doctune.runs.reporting import best_seed
from doctune.training.choice import best_of, is_gain
from doctune.training.state import EpochRecord, Evaluation


def test_the_highest_and_of_equal_ones_the_later() -> None:
    random = Random(1)
    for _ in range(300):
        scores = [random.choice((0.0, 0.25, 0.5, math.nan, -1.0)) for _ in range(random.randint(1, 6))]
        place = best_of(scores)
        numbers = [-math.inf if math.isnan(score) else score for score in scores]
        assert numbers[place] == max(numbers)
        assert all(number < numbers[place] for number in numbers[place + 1 :])
        assert is_gain(scores) == all(numbers[-1] > number for number in numbers[:-1])
        # Chosen one by one, as the loop does, it is the same.
        kept = 0
        for last in range(len(scores)):
            kept = last if best_of(scores[: last + 1]) == last else kept
        assert kept == place


def report(accuracy: float, macro_f1: float, loss: float | None) -> Any:
    validation = {"accuracy": accuracy, "macro_f1": macro_f1, "loss": loss}
    return {"validation": validation, "epochs": [], "best": {"step": 1}}


@pytest.mark.parametrize(("select", "best"), [("accuracy", 0), ("macro_f1", 1), ("loss", 2), ("last", 0)])
def test_the_seed_goes_by_what_chose_its_epoch(select: str, best: int) -> None:
    reports = [report(0.9, 0.5, 0.4), report(0.8, 0.7, 0.3), report(0.7, 0.6, 0.2)]
    assert best_seed(reports, select) == best


def test_equal_seeds_go_by_the_loss_and_then_to_the_later() -> None:
    assert best_seed([report(0.9, 0.9, 0.1), report(0.9, 0.9, 0.2)], "accuracy") == 0
    assert best_seed([report(0.9, 0.9, 0.2), report(0.9, 0.9, 0.2)], "accuracy") == 1
    # A loss that was no number is null in a report that was written.
    assert best_seed([report(0.9, 0.9, 0.2), report(0.9, 0.9, None)], "loss") == 0


def test_a_task_of_a_joint_training_goes_by_the_same_rule() -> None:
    accuracies, losses = (0.5, 0.9, 0.9, 0.7), (0.4, 0.1, 0.3, 0.1)
    records = [
        EpochRecord(n, n, 0.0, 0.0, 0.0, Evaluation(0.0, {"a/validation_accuracy": one, "a/validation_loss": loss}))
        for n, (one, loss) in enumerate(zip(accuracies, losses, strict=True))
    ]
    assert [best_record("a", records, select) for select in ("accuracy", "loss", "last")] == [2, 3, 3]
