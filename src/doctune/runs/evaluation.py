"""A model measured: on validation in the course of training, and once on the test set."""

from __future__ import annotations

from dataclasses import dataclass

from doctune.batches.collate import Collator
from doctune.classifier.predictor import predict, predict_windows
from doctune.devices import Device
from doctune.distributed import World
from doctune.evaluation.schema import Windows
from doctune.metrics.single import Metrics, Probabilities
from doctune.models.classifier import Classifier
from doctune.runs.data import Prepared
from doctune.store.splits import Dataset


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A model's figures; `probabilities` and `windows` are of the test set, or of validation where there is none."""

    validation: Metrics
    test: Metrics | None
    probabilities: Probabilities
    windows: Windows


def evaluate_model(
    model: Classifier, prepared: Prepared, collator: Collator, device: Device, world: World | None = None
) -> Evaluated:
    """Measure a model on validation, and once on the test set."""
    validation = metrics_on(model, prepared.validation, collator, device, world)
    judged = prepared.judged
    probabilities, windows = predict_windows(model, judged, collator, device, judged.name, world)
    test = None if prepared.test is None else judged.target.measure(probabilities, judged.labels)
    return Evaluated(validation, test, probabilities, windows)


def metrics_on(
    model: Classifier, dataset: Dataset, collator: Collator, device: Device, world: World | None = None
) -> Metrics:
    """A model's figures on a data set."""
    return dataset.target.measure(predict(model, dataset, collator, device, world=world), dataset.labels)
