from __future__ import annotations

import numpy as np
import pytest

from doctune.evaluation.metrics import Metrics, compute, wilson_interval

NAMES = ("a", "b", "c")


def one_hot(answers: list[int], size: int = 3, sure: float = 1.0) -> np.ndarray:
    probabilities = np.full((len(answers), size), (1 - sure) / (size - 1))
    probabilities[np.arange(len(answers)), answers] = sure
    return probabilities


def test_by_hand() -> None:
    metrics = compute(one_hot([0, 0, 1, 1, 2], sure=0.8), np.array([0, 1, 1, 1, 0]), NAMES)
    assert metrics.count == 5
    assert metrics.accuracy == pytest.approx(3 / 5)
    assert metrics.error_percent == pytest.approx(40)
    assert [list(row) for row in metrics.confusion] == [[1, 0, 1], [1, 2, 0], [0, 0, 0]]
    a, b, c = metrics.per_class
    assert (a.precision, a.recall, a.f1) == pytest.approx((1 / 2, 1 / 2, 1 / 2))
    assert (b.precision, b.recall, b.f1) == pytest.approx((1, 2 / 3, 4 / 5))
    assert (c.precision, c.recall, c.f1, c.support, c.predicted) == (0, 0, 0, 0, 1)
    assert metrics.macro_f1 == pytest.approx((1 / 2 + 4 / 5 + 0) / 3)
    assert metrics.loss == pytest.approx(-(3 * np.log(0.8) + 2 * np.log(0.1)) / 5)
    assert metrics.calibration_error == pytest.approx(0.8 - 0.6)


def test_perfect_and_majority() -> None:
    labels = np.array([0, 0, 0, 1])
    perfect = compute(one_hot([0, 0, 0, 1]), labels, NAMES)
    assert (perfect.error_percent, perfect.macro_f1, perfect.loss) == pytest.approx((0, 1, 0), abs=1e-9)
    majority = compute(one_hot([0, 0, 0, 0]), labels, NAMES)
    assert majority.error_percent == 25
    assert np.isfinite(majority.loss)
    # "c" neither occurs nor is predicted: it is no part of the mean.
    assert majority.macro_f1 == pytest.approx((6 / 7 + 0) / 2)


def test_the_order_of_documents_and_of_classes_does_not_matter() -> None:
    random = np.random.default_rng(0)
    probabilities, labels = random.dirichlet([1, 1, 1], 50), random.integers(0, 3, 50)
    whole = compute(probabilities, labels, NAMES)
    order = random.permutation(50)
    shuffled = compute(probabilities[order], labels[order], NAMES)
    assert shuffled.confusion == whole.confusion
    assert (shuffled.macro_f1, shuffled.loss) == pytest.approx((whole.macro_f1, whole.loss))
    new = np.array([2, 0, 1])  # class i becomes class new[i]
    renamed = compute(probabilities[:, np.argsort(new)], new[labels], tuple(np.array(NAMES)[np.argsort(new)]))
    assert (renamed.error_percent, renamed.macro_f1) == pytest.approx((whole.error_percent, whole.macro_f1))
    assert {row.name: row.f1 for row in renamed.per_class} == pytest.approx({r.name: r.f1 for r in whole.per_class})


def test_json_and_back() -> None:
    metrics = compute(one_hot([0, 1, 2, 2], sure=0.9), np.array([0, 1, 1, 2]), NAMES)
    assert Metrics.from_json(metrics.to_json()) == metrics


def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError):
        compute(one_hot([0, 1]), np.array([0, 1, 2]), NAMES)
    with pytest.raises(ValueError):
        compute(one_hot([0, 1]), np.array([0, 3]), NAMES)


@pytest.mark.parametrize(
    ("errors", "count", "low", "high"), [(0, 500, 0.0, 0.762), (17, 500, 2.13, 5.38), (500, 500, 99.238, 100.0)]
)
def test_wilson(errors: int, count: int, low: float, high: float) -> None:
    assert wilson_interval(errors, count) == pytest.approx((low, high), abs=0.01)
