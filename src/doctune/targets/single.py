"""One class of several: the label of a document is the name of its class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from doctune.errors import DataError
from doctune.examples import label_order
from doctune.metrics.single import NO_CLASS, Metrics, Probabilities, compute

Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
DIGITS = 6


@dataclass(frozen=True, slots=True)
class SingleTarget:
    """`names` [C] are the classes; labels are positions in it, int64 [D], or `NO_CLASS` where there is none."""

    names: tuple[str, ...]
    kind: ClassVar[str] = "single"
    link: ClassVar[str] = "softmax"

    @classmethod
    def bind(cls, texts: Iterable[str | None], order: Sequence[str] | None) -> SingleTarget:
        """The classes of training documents, in the order that gives them their numbers.

        That is `order` unless a document has a class that it lacks. Raises `DataError` for a single class.
        """
        classes = {text for text in texts if text is not None}
        if len(classes) < 2:
            only = f"only {next(iter(classes))!r}" if classes else "none"
            raise DataError(f"train: two classes or more are needed, found {only}; check the label column")
        return cls(tuple(order) if order is not None and classes <= set(order) else label_order(classes))

    @property
    def num_outputs(self) -> int:
        """C, a logit a class."""
        return len(self.names)

    def encode(self, texts: Sequence[str | None]) -> Numbers:
        """The number of each class, [D]; `NO_CLASS` for None and for a class that training lacks."""
        numbers = {name: number for number, name in enumerate(self.names)}
        return np.array([NO_CLASS if text is None else numbers.get(text, NO_CLASS) for text in texts], np.int64)

    def known(self, labels: Numbers) -> Flags:
        """Whether each label is a class of training, [D]."""
        return np.asarray(labels != NO_CLASS)

    def strata(self, labels: Numbers) -> tuple[Numbers, int]:
        """The classes, and one stratum more for labels that are none of them, if there are any."""
        known = self.known(labels)
        size = len(self.names)
        return np.where(known, labels, size), size if known.all() else size + 1

    def counts(self, labels: Numbers) -> dict[str, int]:
        """Documents of each class."""
        counts = np.bincount(labels[self.known(labels)], minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, counts, strict=True)}

    def decide(self, probabilities: Probabilities) -> Numbers:
        """The most probable class of each document, the first of equals, [D]."""
        return np.asarray(probabilities.argmax(axis=1))

    def confidence(self, probabilities: Probabilities) -> npt.NDArray[np.float64]:
        """The probability of the most probable class, [D]."""
        return np.asarray(probabilities.max(axis=1))

    def correct(self, probabilities: Probabilities, labels: Numbers) -> Flags:
        """Whether the most probable class is the document's, [D]."""
        return np.asarray(self.decide(probabilities) == labels)

    def measure(self, probabilities: Probabilities, labels: Numbers) -> Metrics:
        """Error, F1, loss, calibration and confusion; see `doctune.metrics.single.compute`."""
        return compute(probabilities, labels, self.names)

    def headline(self, metrics: Metrics) -> dict[str, float]:
        """Error in percent, accuracy, macro-F1 and loss."""
        return {
            "error_percent": metrics.error_percent, "accuracy": metrics.accuracy,
            "macro_f1": metrics.macro_f1, "loss": metrics.loss,
        }  # fmt: skip

    def constant_error(self, train: Numbers, labels: Numbers) -> float:
        """The error of always answering the largest class of training, in percent."""
        largest = np.bincount(train).argmax()
        return float(100 * np.mean(labels != largest))

    def text(self, answer: Any) -> str:
        """The name of a class, from its number."""
        return self.names[int(answer)]

    def row(self, probabilities: npt.NDArray[Any]) -> dict[str, Any]:
        """The predicted class, its probability, and all probabilities."""
        best = int(probabilities.argmax())
        return {
            "label": self.names[best],
            "probability": round(float(probabilities[best]), DIGITS),
            "probabilities": {
                name: round(float(p), DIGITS) for name, p in zip(self.names, probabilities, strict=True)
            },
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """The kind and the classes."""
        return {"target": self.kind, "labels": list(self.names)}

    @classmethod
    def from_json(cls, tree: Mapping[str, Any]) -> SingleTarget:
        """What `to_json` was made from."""
        return cls(tuple(tree["labels"]))
