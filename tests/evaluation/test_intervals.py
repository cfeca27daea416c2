from __future__ import annotations

import itertools
import json
import math
from statistics import NormalDist

import numpy as np
import pytest

from doctune.evaluation.intervals import (
    is_collapsed,
    paired_bootstrap,
    paired_bootstrap_over_seeds,
    seed_interval,
    student_t_quantile,
)
from doctune.metrics.single import Metrics, compute


def answered(answers: list[int], labels: list[int], size: int = 2) -> Metrics:
    return compute(np.eye(size)[answers], np.array(labels), tuple(f"c{i}" for i in range(size)))


@pytest.mark.parametrize(
    ("degrees", "quantile"), [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (30, 2.042), (10**7, 1.960)]
)
def test_t_quantiles_of_the_tables(degrees: int, quantile: float) -> None:
    assert student_t_quantile(0.975, degrees) == pytest.approx(quantile, abs=5e-4)
    assert student_t_quantile(0.025, degrees) == pytest.approx(-quantile, abs=5e-4)


def test_t_quantile_equals_the_closed_forms() -> None:
    for probability in (0.5, 0.6, 0.9, 0.995, 0.9999):
        assert student_t_quantile(probability, 1) == pytest.approx(
            math.tan(math.pi * (probability - 0.5)), rel=1e-9, abs=1e-12
        )
        two = (2 * probability - 1) * math.sqrt(2 / (4 * probability * (1 - probability)))
        assert student_t_quantile(probability, 2) == pytest.approx(two, rel=1e-8)


def test_t_quantile_refuses_what_has_no_answer() -> None:
    for probability, degrees in ((0.0, 3), (1.0, 3), (0.5, 0)):
        with pytest.raises(ValueError, match="degrees of freedom"):
            student_t_quantile(probability, degrees)


def test_seed_interval_by_hand() -> None:
    summary = seed_interval([5.0, 6.0, 7.0])
    assert summary.mean == 6.0
    assert summary.standard_deviation == pytest.approx(1.0)
    half = 4.302653 / math.sqrt(3)
    assert (summary.low, summary.high) == pytest.approx((6 - half, 6 + half))
    assert json.loads(json.dumps(summary.to_json())) == summary.to_json()


def test_seed_interval_moves_and_scales_with_its_values() -> None:
    base, moved = seed_interval([1.0, 2.0, 4.0, 4.5]), seed_interval([13.0, 23.0, 43.0, 48.0])
    assert base.low is not None
    assert base.high is not None
    assert (moved.mean, moved.low, moved.high) == pytest.approx(
        (10 * base.mean + 3, 10 * base.low + 3, 10 * base.high + 3)
    )


def test_seed_interval_covers_the_true_mean_about_as_often_as_it_says() -> None:
    values = np.random.default_rng(0).normal(5.0, 1.0, (400, 3))
    intervals = [seed_interval(row.tolist()) for row in values]
    hits = sum(one.low <= 5.0 <= one.high for one in intervals if one.low is not None and one.high is not None)
    assert 0.92 < hits / 400 < 0.98


def test_one_seed_has_no_spread_and_none_is_an_error() -> None:
    summary = seed_interval([5.5])
    assert (summary.mean, summary.low, summary.high, summary.standard_deviation) == (5.5, None, None, None)
    assert seed_interval([5.5, 5.5]).standard_deviation == 0.0
    with pytest.raises(ValueError, match="no values"):
        seed_interval([])


def test_a_single_answer_is_a_collapse() -> None:
    reason = is_collapsed(answered([1] * 10, [0] * 4 + [1] * 6))
    assert reason == "it answers 'c1' for all 10 documents"
    # also where that answer is not the largest class
    assert is_collapsed(answered([0] * 10, [0] * 4 + [1] * 6)) is not None


def test_almost_one_answer_is_a_collapse() -> None:
    reason = is_collapsed(answered([1] + [0] * 99, [0] * 60 + [1] * 25 + [2] * 15, 3))
    assert reason is not None
    assert "no better than" in reason


def test_guessing_is_a_collapse() -> None:
    rng = np.random.default_rng(1)
    reason = is_collapsed(answered(rng.integers(0, 2, 2000).tolist(), [0] * 900 + [1] * 1100))
    assert reason is not None
    assert reason.endswith("no better than the 45.00 % of always answering 'c1'")
    assert is_collapsed(answered(rng.integers(0, 50, 2000).tolist(), (list(range(50)) * 40), 50)) is not None


def test_a_model_that_learnt_is_no_collapse() -> None:
    rng = np.random.default_rng(0)
    for size, accuracy in ((2, 0.7), (2, 0.99), (14, 0.3), (50, 0.1)):
        labels = rng.integers(0, size, 2000)
        answers = np.where(rng.random(2000) < accuracy, labels, (labels + 1) % size)
        assert is_collapsed(answered(answers.tolist(), labels.tolist(), size)) is None


def test_recall_of_a_rare_class_bought_with_errors_is_no_collapse() -> None:
    # 5 of 100 are rare; the model finds 4 of them and gives 6 false alarms: 7 errors, the majority answer has 5.
    assert is_collapsed(answered([0] * 89 + [1] * 6 + [0] + [1] * 4, [0] * 95 + [1] * 5)) is None


def test_one_class_in_the_set_says_nothing() -> None:
    assert is_collapsed(answered([0] * 5, [0] * 5)) is None


def test_equal_models_differ_by_nothing() -> None:
    correct = np.random.default_rng(0).random(500) < 0.9
    assert paired_bootstrap(correct, correct) == (0.0, 0.0, 0.0)


def test_equally_good_models_have_zero_inside() -> None:
    rng = np.random.default_rng(3)
    a = np.array([True] * 450 + [False] * 50)
    difference, low, high = paired_bootstrap(a, rng.permutation(a))
    assert difference == 0.0
    assert low < 0 < high


def test_the_better_model_is_b_above_zero() -> None:
    a, b = np.array([True] * 80 + [False] * 20), np.array([True] * 90 + [False] * 10)
    difference, low, high = paired_bootstrap(a, b)
    assert difference == pytest.approx(10.0)
    assert 0 < low < 10 < high
    swapped = paired_bootstrap(b, a)
    assert swapped.difference == pytest.approx(-10.0)
    assert swapped.high < 0


def test_bootstrap_depends_on_its_seed_only_and_not_on_the_order() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.random(300) < 0.8, rng.random(300) < 0.85
    rows = rng.permutation(300)
    assert (
        paired_bootstrap(a, b, seed=7) == paired_bootstrap(a, b, seed=7) == paired_bootstrap(a[rows], b[rows], seed=7)
    )
    other = paired_bootstrap(a, b, seed=8)
    assert other.low == pytest.approx(paired_bootstrap(a, b, seed=7).low, abs=0.8)


def test_bootstrap_equals_drawing_documents() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.random(200) < 0.8, rng.random(200) < 0.9
    drawn = rng.integers(0, 200, (4000, 200))
    naive = 100 * (b[drawn].mean(axis=1) - a[drawn].mean(axis=1))
    result = paired_bootstrap(a, b)
    assert (result.low, result.high) == pytest.approx(tuple(np.quantile(naive, [0.025, 0.975])), abs=0.8)


def test_bootstrap_needs_the_same_documents() -> None:
    for a, b in ((np.ones(3), np.ones(4)), (np.ones(0), np.ones(0)), (np.ones((2, 2)), np.ones((2, 2)))):
        with pytest.raises(ValueError, match="same documents"):
            paired_bootstrap(a, b)


def test_one_seed_is_the_bootstrap_of_documents() -> None:
    rng = np.random.default_rng(5)
    a, b = rng.random(400) < 0.8, rng.random(400) < 0.86
    alone, seeds = paired_bootstrap(a, b), paired_bootstrap_over_seeds([a], [b])
    assert seeds.difference == alone.difference
    assert (seeds.low, seeds.high) == pytest.approx((alone.low, alone.high), abs=0.3)


def test_with_endless_documents_the_interval_is_students() -> None:
    """Documents of which all went the same way give no spread of their own: what is left is that of the seeds."""
    size = 100_000
    errors_a, errors_b = [0.20, 0.23, 0.19, 0.24, 0.22, 0.21], [0.18, 0.20, 0.18, 0.21, 0.19, 0.20]

    def right(error: float) -> np.ndarray:
        return np.arange(size) >= round(error * size)

    result = paired_bootstrap_over_seeds(list(map(right, errors_a)), list(map(right, errors_b)))
    student = seed_interval([100 * (one - other) for one, other in zip(errors_a, errors_b, strict=True)])
    assert result.difference == pytest.approx(student.mean)
    assert (result.low, result.high) == pytest.approx((student.low, student.high), abs=0.35)


def test_equal_seeds_leave_the_spread_of_documents() -> None:
    rng = np.random.default_rng(8)
    a, b = rng.random(300) < 0.8, rng.random(300) < 0.9
    once, thrice = paired_bootstrap_over_seeds([a], [b]), paired_bootstrap_over_seeds([a] * 3, [b] * 3)
    assert thrice.difference == pytest.approx(once.difference)
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high), abs=0.8)


def test_documents_shared_by_all_seeds_do_not_average_out() -> None:
    rng = np.random.default_rng(9)
    a, b = rng.random(200) < 0.8, rng.random(200) < 0.85
    same = paired_bootstrap_over_seeds([a] * 8, [b] * 8)
    own = paired_bootstrap_over_seeds([a] * 8, [b] * 8, same_documents=False)
    assert own.difference == pytest.approx(same.difference)
    assert (same.high - same.low) / (own.high - own.low) == pytest.approx(math.sqrt(8), rel=0.15)


def test_luck_that_both_had_cancels_out() -> None:
    rng = np.random.default_rng(10)
    base = [rng.random(2000) < rate for rate in (0.7, 0.8, 0.9, 0.75)]  # seeds far apart
    better = [one | (rng.random(2000) < 0.1) for one in base]
    paired = paired_bootstrap_over_seeds(base, better)
    assert 0 < paired.low < paired.difference < paired.high
    crossed = paired_bootstrap_over_seeds(base, better[1:] + better[:1])
    assert crossed.high - crossed.low > 3 * (paired.high - paired.low)


def test_swapping_flips_the_sign_and_equal_recipes_differ_by_nothing() -> None:
    rng = np.random.default_rng(11)
    a, b = ([rng.random(300) < rate for rate in rates] for rates in ((0.8, 0.82, 0.79), (0.85, 0.86, 0.83)))
    there, back = paired_bootstrap_over_seeds(a, b), paired_bootstrap_over_seeds(b, a)
    assert back.difference == -there.difference
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low), abs=0.8)
    assert paired_bootstrap_over_seeds(a, a) == (0.0, 0.0, 0.0)


def test_the_interval_over_few_seeds_covers_the_truth() -> None:
    rng = np.random.default_rng(12)
    documents, hits, trials, truth = 4000, 0, 200, 3.0
    for _ in range(trials):
        rates = 0.2 + rng.normal(truth / 100, 0.02, 3)  # the seeds of A; B errs on a fifth
        a = [rng.random(documents) >= rate for rate in rates]
        b = [rng.random(documents) >= 0.2 for _ in rates]
        _, low, high = paired_bootstrap_over_seeds(a, b, resamples=500)
        hits += low <= truth <= high
    assert hits / trials > 0.9


def test_seeds_need_the_same_documents() -> None:
    four, three = np.ones(4), np.ones(3)
    for a, b, message in (
        ([], [], "same seeds"),
        ([four], [four, four], "same seeds"),
        ([four], [three], "same documents"),
        ([four, three], [four, three], "not tested on the same documents"),
    ):
        with pytest.raises(ValueError, match=message):
            paired_bootstrap_over_seeds(a, b)
    assert paired_bootstrap_over_seeds([four, three], [four, three], same_documents=False).difference == 0.0


@pytest.mark.parametrize("level", [0.95, 0.8])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_few_seeds_are_stretched_to_the_width_of_students_interval(count: int, level: float) -> None:
    """Against all `count`^`count` ways to draw the seeds, spread so that their deviation is that of Student's interval.

    The documents give nothing here: within a seed all went the same way. Student's half width is a quantile of t times
    the standard error; a normal distribution as wide has that half width over the normal quantile as its deviation.
    """
    size = 20_000
    by_seed = np.array([300, 900, -150, 400, 2100][:count])  # errors of A above those of B
    a = [np.arange(size) >= 4000 + more for more in by_seed]
    b = [np.arange(size) >= 4000 for _ in by_seed]
    points = 100 * by_seed / size
    half = student_t_quantile((1 + level) / 2, count - 1) * np.std(points, ddof=1) / math.sqrt(count)
    drawn = np.array([np.mean(draw) for draw in itertools.product(points, repeat=count)]) - points.mean()
    drawn *= half / NormalDist().inv_cdf((1 + level) / 2) / drawn.std()
    result = paired_bootstrap_over_seeds(a, b, resamples=200_000, level=level)
    expected = points.mean() + np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], method="inverted_cdf")
    # What the documents add: errors of both in the same ones, and the rest of a few hundred.
    assert result.difference == pytest.approx(points.mean())
    assert (result.low, result.high) == pytest.approx(tuple(expected), abs=0.04 * (result.high - result.low))
