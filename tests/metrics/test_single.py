from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from doctune.metrics.single import NO_CLASS, Metrics, compute, wilson_interval

MakeMetrics = Callable[..., Metrics]


def one_hot(answers: list[int], size: int) -> np.ndarray:
    return np.eye(size)[answers]


def test_hand_computed_values() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.4, 0.5, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1]])
    metrics = compute(probabilities, np.array([0, 0, 1, 2]), ("a", "b", "c"))
    assert metrics.confusion == ((1, 1, 0), (0, 1, 0), (1, 0, 0))
    assert metrics.count == 4
    assert metrics.accuracy == 0.5
    assert metrics.error_percent == 50.0
    assert metrics.loss == pytest.approx(-(math.log(0.7) + math.log(0.4) + math.log(0.8) + math.log(0.1)) / 4)
    a, b, c = metrics.per_class
    assert (a.precision, a.recall, a.f1, a.support, a.predicted) == (0.5, 0.5, 0.5, 2, 2)
    assert (b.precision, b.recall, b.support, b.predicted) == (0.5, 1.0, 1, 2)
    assert b.f1 == pytest.approx(2 / 3)
    assert (c.precision, c.recall, c.f1, c.support, c.predicted) == (0.0, 0.0, 0.0, 1, 0)
    assert metrics.macro_f1 == pytest.approx((0.5 + 2 / 3 + 0.0) / 3)


def test_calibration_error_is_the_mean_gap_of_the_bins() -> None:
    # Two documents at 0.95 confidence, one of them wrong; two at 0.55, both right: bins apart from each other.
    probabilities = np.array([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [0.55, 0.45]])
    metrics = compute(probabilities, np.array([0, 1, 0, 0]), ("a", "b"))
    assert metrics.calibration_error == pytest.approx((2 * abs(0.95 - 0.5) + 2 * abs(0.55 - 1.0)) / 4)


def test_perfect_predictions() -> None:
    metrics = compute(one_hot([0, 1, 2, 1], 3), np.array([0, 1, 2, 1]), ("a", "b", "c"))
    assert (metrics.accuracy, metrics.error_percent, metrics.macro_f1) == (1.0, 0.0, 1.0)
    assert (metrics.loss, metrics.calibration_error) == (0.0, 0.0)
    assert math.copysign(1, metrics.loss) == 1
    assert metrics.error_interval_percent[0] == 0.0 < metrics.error_interval_percent[1]


def test_all_wrong_with_certainty_has_a_finite_loss() -> None:
    metrics = compute(one_hot([1, 0], 2), np.array([0, 1]), ("a", "b"))
    assert metrics.accuracy == metrics.macro_f1 == 0.0
    assert math.isfinite(metrics.loss)
    assert metrics.calibration_error == 1.0


def test_majority_answer() -> None:
    metrics = compute(one_hot([0] * 10, 2), np.array([0] * 7 + [1] * 3), ("a", "b"))
    assert metrics.error_percent == pytest.approx(30.0)
    assert metrics.macro_f1 == pytest.approx((2 * 7 / 17 + 0) / 2)


def test_macro_f1_leaves_out_only_classes_that_occur_nowhere() -> None:
    names = ("a", "b", "absent", "only predicted")
    absent = compute(one_hot([0, 1, 0], 4), np.array([0, 1, 0]), names)
    assert absent.macro_f1 == 1.0
    assert absent.per_class[2].f1 == 0.0
    predicted = compute(one_hot([0, 1, 3], 4), np.array([0, 1, 0]), names)
    assert predicted.macro_f1 == pytest.approx((2 / 3 + 1 + 0) / 3)


def test_order_of_documents_and_of_classes_does_not_matter() -> None:
    rng = np.random.default_rng(5)
    probabilities, labels = rng.dirichlet(np.ones(4), 200), rng.integers(0, 4, 200)
    names = ("a", "b", "c", "d")
    base = compute(probabilities, labels, names)
    rows = rng.permutation(200)
    shuffled = compute(probabilities[rows], labels[rows], names)
    assert shuffled.confusion == base.confusion
    assert shuffled.per_class == base.per_class
    assert shuffled.loss == pytest.approx(base.loss)
    order = rng.permutation(4)  # new class i is old class order[i]
    renamed = compute(probabilities[:, order], np.argsort(order)[labels], tuple(names[i] for i in order))
    assert {row.name: row for row in renamed.per_class} == {row.name: row for row in base.per_class}
    for name in ("accuracy", "macro_f1", "loss", "calibration_error", "error_percent"):
        assert getattr(renamed, name) == pytest.approx(getattr(base, name))


def test_documents_of_unseen_classes_are_errors_and_nothing_else() -> None:
    """Each figure as its docstring has it, against the same set without those documents."""
    random = np.random.default_rng(5)
    probabilities, labels = random.dirichlet(np.ones(3), 40), random.integers(0, 3, 40)
    labels[[3, 17, 30]] = NO_CLASS
    known = np.flatnonzero(labels != NO_CLASS)
    metrics = compute(probabilities, labels, ("a", "b", "c"))
    without = compute(probabilities[known], labels[known], ("a", "b", "c"))
    assert (metrics.unseen, metrics.count, without.unseen, without.count) == (3, 40, 0, 37)
    assert metrics.accuracy == pytest.approx(without.accuracy * 37 / 40)
    assert metrics.error_interval_percent == wilson_interval(round(40 * (1 - metrics.accuracy)), 40)
    assert (metrics.confusion, metrics.loss) == (without.confusion, without.loss)
    predicted = np.bincount(probabilities.argmax(axis=1), minlength=3)
    for row, before, count in zip(metrics.per_class, without.per_class, predicted, strict=True):
        assert (row.support, row.recall, row.predicted) == (before.support, before.recall, count)
        assert row.precision == pytest.approx(before.precision * before.predicted / row.predicted)
    assert metrics.macro_f1 == pytest.approx(np.mean([row.f1 for row in metrics.per_class]))
    assert metrics.macro_f1 < without.macro_f1


def test_a_sure_answer_to_an_unseen_class_is_badly_calibrated() -> None:
    sure = one_hot([0, 1, 0, 1], 2)
    assert compute(sure, np.array([0, 1, NO_CLASS, NO_CLASS]), ("a", "b")).calibration_error == pytest.approx(0.5)


def test_only_what_is_unseen_is_in_the_json() -> None:
    sure = one_hot([0, 1, 0], 2)
    assert "unseen" not in compute(sure, np.array([0, 1, 0]), ("a", "b")).to_json()
    counted = compute(sure, np.array([0, 1, NO_CLASS]), ("a", "b"))
    assert json.loads(json.dumps(counted.to_json()))["unseen"] == 1
    assert Metrics.from_json(counted.to_json()) == counted


def test_confusion_agrees_with_everything_else(metrics: MakeMetrics) -> None:
    made = metrics(7, 300, 0.8)
    confusion = np.array(made.confusion)
    assert confusion.sum() == made.count == 300
    assert confusion.trace() / 300 == pytest.approx(made.accuracy)
    assert confusion.sum(axis=1).tolist() == [row.support for row in made.per_class]
    assert confusion.sum(axis=0).tolist() == [row.predicted for row in made.per_class]


def test_json_is_plain_and_complete(metrics: MakeMetrics) -> None:
    made = metrics(3, 50, 0.7)
    value = made.to_json()
    assert Metrics.from_json(value) == made
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert set(value) == {
        "count", "accuracy", "error_percent", "error_interval_percent", "macro_f1", "loss", "calibration_error",
        "per_class", "confusion",
    }  # fmt: skip


def test_half_precision_probabilities_are_fine() -> None:
    metrics = compute(np.array([[0.9, 0.1]], dtype=np.float16), np.array([0], dtype=np.int32), ("a", "b"))
    assert metrics.accuracy == 1.0


@pytest.mark.parametrize(
    ("probabilities", "labels", "message"),
    [
        (np.ones((2, 3)), np.array([0, 1]), "do not fit"),
        (np.ones((2, 2)), np.array([0]), "do not fit"),
        (np.ones((0, 2)), np.array([], dtype=int), "no documents"),
        (np.ones((1, 2)), np.array([2]), "must be 0..1"),
        (np.ones((1, 2)), np.array([-2]), "must be 0..1"),
        (np.ones((1, 2)), np.array([-1]), "no document is of a class"),
        (np.ones((1, 2)), np.array([0.0]), "integers"),
        (np.array([[np.nan, 1.0]]), np.array([0]), "NaN"),
    ],
)
def test_what_does_not_fit_is_refused(probabilities: np.ndarray, labels: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        compute(probabilities, labels, ("a", "b"))


def test_wilson_interval_known_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for errors, count, low, high in (
        (81, 263, 25.53, 36.62),
        (15, 148, 6.24, 16.05),
        (0, 20, 0, 16.11),
        (1, 29, 0.61, 17.18),
    ):
        assert wilson_interval(errors, count) == pytest.approx((low, high), abs=0.006)


def test_wilson_interval_is_symmetric_and_shrinks() -> None:
    low, high = wilson_interval(30, 100)
    mirrored = wilson_interval(70, 100)
    assert (100 - high, 100 - low) == pytest.approx(mirrored)
    narrow = wilson_interval(3000, 10_000)
    assert low < narrow[0] < 30 < narrow[1] < high
    assert wilson_interval(20, 20)[1] == 100.0
    with pytest.raises(ValueError, match="errors of"):
        wilson_interval(3, 2)


def test_calibration_error_is_that_of_a_bin_after_the_other() -> None:
    """Fifteen bins of equal width, the upper end of each belonging to it."""
    random = np.random.default_rng(3)
    for size in (2, 3, 20):
        probabilities = random.dirichlet(np.full(size, 0.3), 500)
        probabilities[:20] = np.eye(size)[random.integers(0, size, 20)]
        labels = random.integers(0, size, 500)
        sure, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
        expected = 0.0
        for number in range(15):
            inside = (sure > number / 15) & (sure <= (number + 1) / 15)
            if inside.any():
                expected += inside.mean() * abs(right[inside].mean() - sure[inside].mean())
        figures = compute(probabilities, labels, tuple(map(str, range(size))))
        assert figures.calibration_error == pytest.approx(expected)
    # Two neighbouring bins, the highest ones, whose gaps would cancel out in one.
    both = compute(np.array([[0.95, 0.05], [0.91, 0.09]]), np.array([0, 1]), ("a", "b"))
    assert both.calibration_error == pytest.approx((0.05 + 0.91) / 2)
