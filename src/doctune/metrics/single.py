"""Metrics of one labelled set, from class probabilities."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Annotated, Any, NotRequired, TypedDict, cast

import numpy as np
import numpy.typing as npt

from doctune.errors import DataError

Probabilities = npt.NDArray[np.float64]
CALIBRATION_BINS = 15
SMALLEST_PROBABILITY = 1e-12
Ends = Annotated[list[float], 2]
"""The two ends of an interval, as reports have them."""
NO_CLASS = -1
"""The label of a document that is of none of the classes."""


class ClassMetricsJson(TypedDict):
    """`ClassMetrics` as report.json has it."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int


class MetricsJson(TypedDict):
    """`Metrics` as report.json has it."""

    count: int
    accuracy: float
    error_percent: float
    error_interval_percent: Ends
    macro_f1: float
    loss: float
    calibration_error: float
    per_class: list[ClassMetricsJson]
    confusion: list[list[int]]
    unseen: NotRequired[int]


@dataclass(frozen=True)
class ClassMetrics:
    """How one class fared; precision, recall and F1 are 0..1, support and predicted count documents."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int
    predicted: int

    @classmethod
    def from_json(cls, value: ClassMetricsJson) -> ClassMetrics:
        """From a row of a report; what is missing is NaN, and a dash for the name."""
        numbers: dict[str, Any] = {
            name: _figure(value.get(name)) for name in ("precision", "recall", "f1", "support", "predicted")
        }
        return cls(name=str(value.get("name", "–")), **numbers)


@dataclass(frozen=True)
class Metrics:
    """How a model did on one labelled set.

    `accuracy`, `macro_f1` and `calibration_error` are 0..1, `error_percent` and its 95 % Wilson interval are percent,
    `loss` is the mean negative log-likelihood in nats. `confusion[true][predicted]` counts documents. `unseen` of the
    `count` documents are of no class that the model knows; what that does to the figures says `compute`.
    """

    count: int
    accuracy: float
    error_percent: float
    error_interval_percent: tuple[float, float]
    macro_f1: float
    loss: float
    calibration_error: float
    per_class: tuple[ClassMetrics, ...]
    confusion: tuple[tuple[int, ...], ...]
    unseen: int = 0

    def to_json(self) -> MetricsJson:
        """Plain dicts, lists and numbers, ready for JSON; `unseen` only where there are such documents."""
        fields = asdict(self)
        if not self.unseen:
            del fields["unseen"]
        return cast(MetricsJson, _listed(fields))

    @classmethod
    def from_json(cls, value: MetricsJson) -> Metrics:
        """What `to_json` was made from, or another version of it: what is unknown here is ignored.

        What is missing is NaN, or empty. Raises `DataError` without `error_percent`, on which all else rests.
        """
        if not _is_figure(value.get("error_percent")):
            raise DataError("error_percent: missing from the figures of a report, or no number; run again")
        low, high = [*(value.get("error_interval_percent") or ()), math.nan, math.nan][:2]
        single = ("count", "accuracy", "error_percent", "macro_f1", "loss", "calibration_error")
        fields: dict[str, Any] = {
            **{name: _figure(value.get(name)) for name in single},
            "unseen": value["unseen"] if _is_figure(value.get("unseen")) else 0,
            "error_interval_percent": (_figure(low), _figure(high)),
            "per_class": tuple(map(ClassMetrics.from_json, value.get("per_class") or ())),
            "confusion": tuple(map(tuple, value.get("confusion") or ())),
        }
        return cls(**fields)


def compute(probabilities: npt.NDArray[Any], labels: npt.NDArray[Any], names: tuple[str, ...]) -> Metrics:
    """Metrics of `probabilities` [D, C] against integer `labels` [D]; `names` [C] are the classes.

    Macro-F1 is the mean over classes that occur among labels or predictions, so that a class absent from a small
    set does not count as a failure; a division by zero gives 0.

    A document whose label is `NO_CLASS` is of a class that the model does not know. It is an error in `accuracy`, in
    `error_percent` and its interval, and in the calibration error, and it counts among what is predicted as the class
    that it is taken for, whose precision and F1 it lowers. It has no class of its own in macro-F1, no row in
    `confusion`, and no part in `loss`, because a class without a probability has no likelihood.

    Raises `ValueError` where the shapes disagree, no document is of a class, a label is no class, or a probability is
    not finite.
    """
    given = np.asarray(probabilities, dtype=np.float64)
    truth = np.asarray(labels)
    _check(given, truth, len(names))
    truth = truth.astype(np.int64)
    count, size = given.shape
    predictions = given.argmax(axis=1)
    known = np.flatnonzero(truth != NO_CLASS)
    of_known = truth[known]
    confusion = np.bincount(of_known * size + predictions[known], minlength=size * size).reshape(size, size)
    hits, support, predicted = confusion.diagonal(), confusion.sum(axis=1), np.bincount(predictions, minlength=size)
    precision, recall = _ratio(hits, predicted), _ratio(hits, support)
    f1 = _ratio(2 * hits, support + predicted)
    errors = count - int(hits.sum())
    of_truth = np.clip(given[known, of_known], SMALLEST_PROBABILITY, 1.0)
    return Metrics(
        count=count,
        accuracy=1 - errors / count,
        error_percent=100 * errors / count,
        error_interval_percent=wilson_interval(errors, count),
        macro_f1=float(f1[support + predicted > 0].mean()),
        loss=abs(float(-np.log(of_truth).mean())),  # abs: a perfect model's loss is 0.0, not -0.0
        calibration_error=_calibration_error(given.max(axis=1), predictions == truth),
        per_class=tuple(
            ClassMetrics(name, float(precision[i]), float(recall[i]), float(f1[i]), int(support[i]), int(predicted[i]))
            for i, name in enumerate(names)
        ),
        confusion=tuple(tuple(int(cell) for cell in row) for row in confusion),
        unseen=count - len(known),
    )


def wilson_interval(errors: int, count: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of an error rate, in percent.

    It says how far another test set of the same size and source might differ, for this one trained model; the
    spread over training seeds is another matter (`compare.seed_interval`). It stays sensible at 0 errors.
    """
    if not 0 <= errors <= count or count == 0:
        raise ValueError(f"{errors} errors of {count} documents")
    z = NormalDist().inv_cdf((1 + level) / 2)
    share = errors / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # At the ends the formula is exact, but rounding is not.
    low = 0.0 if errors == 0 else max(0.0, centre - half)
    high = 1.0 if errors == count else min(1.0, centre + half)
    return 100 * low, 100 * high


def _check(probabilities: npt.NDArray[Any], labels: npt.NDArray[Any], size: int) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1] or probabilities.shape[1] != size:
        raise ValueError(f"probabilities {probabilities.shape}, labels {labels.shape}, {size} class names do not fit")
    if not len(labels):
        raise ValueError("no documents to evaluate")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, found {labels.dtype}")
    if labels.min() < NO_CLASS or labels.max() >= size:
        raise ValueError(f"labels must be 0..{size - 1}, found {labels.min()}..{labels.max()}")
    if labels.max() == NO_CLASS:
        raise ValueError("no document is of a class that the model knows")
    if not np.isfinite(probabilities).all():
        raise ValueError("probabilities hold NaN or infinity")


def _ratio(part: npt.NDArray[Any], whole: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), 0.0)


def _calibration_error(confidence: npt.NDArray[Any], correct: npt.NDArray[Any]) -> float:
    """Expected calibration error over equally wide bins (low, high] of confidence, 0..1."""
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    # In each bin |sum of confidence - number correct| is its size times the gap, so sizes need not be known.
    gap = np.bincount(bins, weights=confidence - correct, minlength=CALIBRATION_BINS)
    return float(np.abs(gap).sum() / len(confidence))


def _is_figure(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _figure(value: Any) -> float:
    """A stored number; NaN for one that is missing or was not finite."""
    return value if _is_figure(value) else math.nan


def _listed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _listed(item) for key, item in value.items()}
    return [_listed(item) for item in value] if isinstance(value, (tuple, list)) else value
