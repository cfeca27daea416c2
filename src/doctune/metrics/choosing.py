"""The validation figures that can choose the best epoch, as `--select` names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from doctune.metrics.single import Probabilities


@dataclass(frozen=True, slots=True)
class Judged:
    """What a metric may look at: probabilities [D, C], labels [D], the classes' names [C], and the figures of the log.

    `figures` are those that every run logs of its validation documents: error_percent, accuracy, macro_f1, loss.
    """

    probabilities: Probabilities
    labels: npt.NDArray[Any]
    names: tuple[str, ...]
    figures: Mapping[str, float]


class Accuracy:
    """The share of right answers, 0..1."""

    higher_is_better = True

    def __call__(self, judged: Judged) -> float:
        return judged.figures["accuracy"]


class MacroF1:
    """The mean of the classes' F1, 0..1."""

    higher_is_better = True

    def __call__(self, judged: Judged) -> float:
        return judged.figures["macro_f1"]


class LogLoss:
    """The mean negative log-likelihood, in nats."""

    higher_is_better = False

    def __call__(self, judged: Judged) -> float:
        return judged.figures["loss"]
