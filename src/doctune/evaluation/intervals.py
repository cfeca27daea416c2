"""Comparisons: several seeds of one recipe, two models on one test set, runs that collapsed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean, stdev
from typing import Any, NamedTuple, TypedDict

import numpy as np
import numpy.typing as npt

from doctune.metrics.single import Metrics

COLLAPSE_ERROR_SHARE = 0.98
COLLAPSE_RECALL_MARGIN = 0.1


class SeedSummaryJson(TypedDict):
    """`SeedSummary` as report.json has it."""

    mean: float
    low: float | None
    high: float | None
    standard_deviation: float | None
    values: list[float]


@dataclass(frozen=True)
class SeedSummary:
    """Mean of one figure over seeds and the interval of that mean, in the figure's own unit.

    With a single value nothing is known of the spread: `low`, `high` and `standard_deviation` are None.
    """

    mean: float
    low: float | None
    high: float | None
    standard_deviation: float | None
    values: tuple[float, ...]

    def to_json(self) -> SeedSummaryJson:
        """Plain dict, ready for JSON."""
        return {
            "mean": self.mean,
            "low": self.low,
            "high": self.high,
            "standard_deviation": self.standard_deviation,
            "values": list(self.values),
        }


class Difference(NamedTuple):
    """Error of A minus error of B in percentage points, with its interval; above 0 means that B is better."""

    difference: float
    low: float
    high: float


def seed_interval(values: Sequence[float], level: float = 0.95) -> SeedSummary:
    """Mean over seeds with Student's t interval; `ValueError` for no values.

    The interval is not cut at 0 or 100: with two or three seeds it is honest that it is wide.
    """
    if not values:
        raise ValueError("no values to summarise")
    numbers = tuple(float(value) for value in values)
    mean = fmean(numbers)
    if len(numbers) == 1:
        return SeedSummary(mean, None, None, None, numbers)
    deviation = stdev(numbers)
    half = student_t_quantile((1 + level) / 2, len(numbers) - 1) * deviation / math.sqrt(len(numbers))
    return SeedSummary(mean, mean - half, mean + half, deviation, numbers)


def student_t_quantile(probability: float, degrees: float) -> float:
    """The t below which Student's distribution with `degrees` of freedom has `probability`, 0 < probability < 1.

    By bisection of the distribution function, which is a regularised incomplete beta function; good to about 1e-9.
    """
    if not 0 < probability < 1 or degrees <= 0:
        raise ValueError(f"probability {probability} must be between 0 and 1, degrees of freedom {degrees} above 0")
    if probability < 0.5:
        return -student_t_quantile(1 - probability, degrees)
    if degrees > 1e6:
        return NormalDist().inv_cdf(probability)
    low, high = 0.0, 1.0
    while _student_t_upper(high, degrees) > 1 - probability:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if _student_t_upper(middle, degrees) > 1 - probability else (low, middle)
    return (low + high) / 2


def is_collapsed(metrics: Metrics) -> str | None:
    """A sentence why this model has learnt nothing, or None if it has.

    Fine-tuning with an unlucky seed sometimes ends there (Mosbach et al. 2021, On the Stability of Fine-tuning BERT).
    A model counts as collapsed if it gives one answer only while the set has several classes, or if it both makes no
    fewer errors than always answering the largest class and finds the classes no better than guessing. The second
    half keeps a model that trades errors in a huge class for recall in a rare one out of this.
    """
    support = [row.support for row in metrics.per_class]
    present = [row for row in metrics.per_class if row.support]
    if len(present) < 2:
        return None
    answers = [row.name for row in metrics.per_class if row.predicted]
    if len(answers) == 1:
        return f"it answers {answers[0]!r} for all {metrics.count:,} documents"
    majority = max(present, key=lambda row: row.support)
    majority_error = 100 * (1 - max(support) / metrics.count)
    guess = 1 / len(present)
    mean_recall = fmean(row.recall for row in present)
    no_fewer_errors = metrics.error_percent >= COLLAPSE_ERROR_SHARE * majority_error
    if no_fewer_errors and mean_recall <= guess + COLLAPSE_RECALL_MARGIN * (1 - guess):
        return (
            f"its error of {metrics.error_percent:.2f} % is no better than the {majority_error:.2f} % of "
            f"always answering {majority.name!r}"
        )
    return None


def paired_bootstrap(
    correct_a: npt.NDArray[Any],
    correct_b: npt.NDArray[Any],
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Difference in error percent, A minus B, of two models on the same documents, with a percentile interval.

    `correct_a` and `correct_b` [D] are booleans, document by document. Raises `ValueError` if their shapes differ
    or they are empty.
    """
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"both models need an answer to the same documents, found {a.shape} and {b.shape}")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    # A resample of the documents only matters by how many of the three kinds it has, and those are multinomial:
    # the same distribution as drawing indices, without a matrix of resamples x documents.
    shares = [only_a / len(a), only_b / len(a), (len(a) - only_a - only_b) / len(a)]
    drawn = np.random.default_rng(seed).multinomial(len(a), shares, size=resamples)
    differences = 100 * (drawn[:, 1] - drawn[:, 0]) / len(a)
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2])
    return Difference(100 * (only_b - only_a) / len(a), float(low), float(high))


def paired_bootstrap_over_seeds(
    correct_a: Sequence[npt.NDArray[Any]],
    correct_b: Sequence[npt.NDArray[Any]],
    same_documents: bool = True,
    resamples: int = 10_000,
    seed: int = 0,
    level: float = 0.95,
) -> Difference:
    """Difference in error percent, A minus B, of two recipes that were run with the same seeds, with its interval.

    `correct_a` and `correct_b` hold an array of booleans [D] for each seed, document by document. The interval answers
    for other documents and for other seeds at once. Each resample draws the documents anew (the same ones for all
    seeds where `same_documents` says that these were tested on the same; else for each seed its own), and the seeds
    anew, as pairs: what a seed gave to A stays with what it gave to B, so that luck which both had cancels out.
    A few seeds, drawn from themselves, vary less than new ones would: three of them cover the truth in about 75 %, not
    95 %, of all cases. Their part is therefore stretched until, with endless documents, the interval is as wide as
    Student's t of the seeds' differences. With a single seed the interval is over documents only.

    Raises `ValueError` for no seeds, or if the documents of a pair, or of all seeds if they are the same, differ.
    """
    if not correct_a or len(correct_a) != len(correct_b):
        raise ValueError(f"both recipes need the same seeds, found {len(correct_a)} and {len(correct_b)}")
    pairs = [_error_difference(a, b) for a, b in zip(correct_a, correct_b, strict=True)]
    random = np.random.default_rng(seed)
    if same_documents:
        if len({len(pair) for pair in pairs}) > 1:
            raise ValueError("the seeds were not tested on the same documents")
        by_document = _resampled(np.stack(pairs), resamples, random)
    else:
        by_document = np.mean([_resampled(pair[None], resamples, random) for pair in pairs], axis=0)
    each = np.array([pair.mean() for pair in pairs])
    count = len(each)
    differences = by_document
    if count > 1:
        normal = NormalDist().inv_cdf((1 + level) / 2)
        stretch = student_t_quantile((1 + level) / 2, count - 1) / normal * math.sqrt(count / (count - 1))
        weights = random.multinomial(count, [1 / count] * count, size=resamples) / count - 1 / count
        differences = by_document + stretch * (weights @ each)
    low, high = np.quantile(100 * differences, [(1 - level) / 2, (1 + level) / 2])
    return Difference(100 * float(each.mean()), float(low), float(high))


def _error_difference(correct_a: npt.NDArray[Any], correct_b: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """For each document 1 where only A errs, -1 where only B does, else 0, [D]."""
    a, b = np.asarray(correct_a, dtype=bool), np.asarray(correct_b, dtype=bool)
    if a.shape != b.shape or a.ndim != 1 or not len(a):
        raise ValueError(f"both models need an answer to the same documents, found {a.shape} and {b.shape}")
    return b.astype(np.int64) - a.astype(np.int64)


def _resampled(
    differences: npt.NDArray[np.int64], resamples: int, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """The mean of [seeds, D] over all seeds and over the documents of each resample, [resamples]."""
    # As in `paired_bootstrap`: documents that went the same way, here with as many seeds, are one kind.
    kinds, counts = np.unique(differences.sum(axis=0), return_counts=True)
    size = differences.shape[1]
    drawn = random.multinomial(size, counts / size, size=resamples)
    return np.asarray(drawn @ kinds / (size * len(differences)), dtype=np.float64)


def _student_t_upper(t: float, degrees: float) -> float:
    """The chance of a value above `t` >= 0."""
    return 0.5 * _incomplete_beta(degrees / 2, 0.5, degrees / (degrees + t * t))


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method)."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast on one side only
        return 1 - _incomplete_beta(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x) - math.log(a)
    )
    tiny = 1e-300
    fraction, c, d = 1.0, 1.0, 0.0
    for i in range(1, 10_000):
        m = i // 2
        if i % 2:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        else:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        d = 1 / ((1 + term * d) or tiny)
        c = (1 + term / c) or tiny
        fraction *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front / fraction
