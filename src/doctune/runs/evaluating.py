"""`doctune evaluate`: a model's figures on labelled documents."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from doctune.classifier.predictor import load, write_predictions
from doctune.errors import DataError
from doctune.evaluation.intervals import paired_bootstrap
from doctune.metrics.single import Metrics, Probabilities
from doctune.readers import open_source
from doctune.runs.predicting import data_settings
from doctune.store.build import build_shard
from doctune.store.splits import make_dataset, unseen_line
from doctune.targets.base import Labels, Target, Unseen


@dataclass(frozen=True, slots=True)
class ModelAnswers:
    """What a model answers to labelled documents: probabilities [D, C], labels [D, ...], and what these mean."""

    probabilities: Probabilities
    labels: Labels
    target: Target

    def metrics(self) -> Metrics:
        """The figures."""
        return self.target.measure(self.probabilities, self.labels)

    def correct(self) -> npt.NDArray[np.bool_]:
        """Whether each answer is right, [D]."""
        return self.target.correct(self.probabilities, self.labels)


def evaluate(
    model: str | Path, data: str | Path, *, device: str = "auto", predictions: str | Path | None = None,
    unseen_labels: Unseen = "error", components: Sequence[str | type] = (), **reading: Any,
) -> Metrics:  # fmt: skip
    """Error, accuracy, F1 and confusion of a model on the labelled documents of a file.

    The file is read as the training data was, except for the `reading` settings given. `predictions`: a JSONL file to
    write each document's prediction to. Raises `DataError` for a class that the model does not know, unless
    `unseen_labels` is "count": then its documents count as errors. `components`: see `doctune.load`.
    """
    return answer(model, data, device, reading, predictions, unseen_labels, components).metrics()


def answer(
    model: str | Path, data: str | Path, device: str, reading: dict[str, Any], predictions: str | Path | None = None,
    unseen_labels: Unseen = "error", components: Sequence[str | type] = (),
) -> ModelAnswers:  # fmt: skip
    """Run a model on the labelled documents of a file."""
    predictor = load(model, device, components=components)
    settings = data_settings(predictor.description, str(data), **reading)
    source = open_source(str(data), settings, "test")
    with tempfile.TemporaryDirectory(prefix="doctune-") as folder:
        built = build_shard(source.read(), predictor.tokenizer, Path(folder), "test")
        if built.left_out_empty:
            print(f"test: left out {built.left_out_empty:,} empty documents", file=sys.stderr)
        dataset = make_dataset("test", built.shard, predictor.target, unseen_labels=unseen_labels)
        if unseen := dataset.unseen():
            print(unseen_line("test", unseen), file=sys.stderr)
        probabilities, windows = predictor.predict_dataset(dataset, "evaluate")
        if predictions is not None:
            write_predictions(Path(predictions), dataset, probabilities, windows)
    return ModelAnswers(probabilities, dataset.labels, dataset.target)


def difference(answers: ModelAnswers, other: ModelAnswers, data: str) -> tuple[float, float, float]:
    """Points of error by which the first model is above the other on the same documents, and its 95 % interval."""
    if len(other.labels) != len(answers.labels):
        raise DataError(f"{data}: the two models do not find the same documents empty, so they cannot be compared")
    return paired_bootstrap(answers.correct(), other.correct())


def figures_table(metrics: Metrics) -> str:
    """The figures as lines of text."""
    low, high = metrics.error_interval_percent
    width = max(12, *(len(row.name) for row in metrics.per_class))
    lines = [
        f"documents   {metrics.count:,}",
        *([f"unseen      {metrics.unseen:,} of classes that training lacks, all errors"] if metrics.unseen else []),
        f"error       {metrics.error_percent:.2f} % (95 % interval {low:.2f} to {high:.2f})",
        f"macro-F1    {metrics.macro_f1:.4f}",
        "",
        f"{'class':<{width}}  precision  recall     F1  documents",
    ]
    for row in metrics.per_class:
        lines.append(f"{row.name:<{width}}  {row.precision:9.3f}  {row.recall:6.3f}  {row.f1:5.3f}  {row.support:9,}")
    return "\n".join(lines)
