from __future__ import annotations

import numpy as np
import pytest

from doctune.evaluation.compare import is_collapsed, paired_bootstrap, seed_interval, student_t_quantile
from doctune.evaluation.metrics import compute


@pytest.mark.parametrize(
    ("degrees", "value"), [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (30, 2.0423), (1e7, 1.95996)]
)
def test_t_quantiles(degrees: float, value: float) -> None:
    assert student_t_quantile(0.975, degrees) == pytest.approx(value, abs=1e-4)
    assert student_t_quantile(0.025, degrees) == pytest.approx(-value, abs=1e-4)


def test_seed_interval() -> None:
    summary = seed_interval([3.0, 4.0, 5.0])
    half = 4.3027 * 1 / 3**0.5
    assert (summary.mean, summary.low, summary.high) == pytest.approx((4, 4 - half, 4 + half), abs=1e-3)
    assert seed_interval([2.0]).low is None
    with pytest.raises(ValueError):
        seed_interval([])


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    held = [s.low < 0 < s.high for s in (seed_interval(random.normal(size=3).tolist()) for _ in range(2000))]
    assert np.mean(held) == pytest.approx(0.95, abs=0.02)


def collapse(answers: np.ndarray, labels: np.ndarray) -> str | None:
    return is_collapsed(compute(np.eye(3)[answers], labels, ("a", "b", "c")))


def test_collapsed() -> None:
    labels = np.array([0] * 60 + [1] * 25 + [2] * 15)
    assert "for all 100 documents" in (collapse(np.zeros(100, int), labels) or "")
    nearly = np.zeros(100, int)
    nearly[0] = 1
    assert "no better than" in (collapse(nearly, labels) or "")
    assert collapse(labels, labels) is None
    useful = labels.copy()
    useful[:25] = 1  # many errors in the large class, but the rare ones are found
    assert collapse(useful, labels) is None


def test_paired_bootstrap() -> None:
    random = np.random.default_rng(0)
    right = random.random(1000) < 0.9
    same = paired_bootstrap(right, right)
    assert tuple(same) == (0, 0, 0)
    better = right | (random.random(1000) < 0.5)
    difference, low, high = paired_bootstrap(right, better)
    assert difference == pytest.approx(100 * (better.mean() - right.mean()))
    assert 0 < low < difference < high
    assert paired_bootstrap(right, better) == paired_bootstrap(right, better)
    assert paired_bootstrap(better, right).low == pytest.approx(-high, abs=0.3)
    with pytest.raises(ValueError):
        paired_bootstrap(right, right[:-1])


def test_paired_bootstrap_is_the_bootstrap_of_documents() -> None:
    """Against drawing documents with replacement, which is what it stands for."""
    random = np.random.default_rng(3)
    a, b = random.random(200) < 0.8, random.random(200) < 0.85
    drawn = random.integers(0, 200, (4000, 200))
    plain = 100 * (b[drawn].mean(axis=1) - a[drawn].mean(axis=1))
    _, low, high = paired_bootstrap(a, b)
    assert (low, high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.8)
