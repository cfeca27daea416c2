"""A model measured: on validation in the course of training, and once on the test set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from doctune.batches.collate import Collator
from doctune.classifier.predictor import predict_documents
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
    with evaluation_mode(model):
        probabilities, windows = predict_documents(model, judged, collator, device, judged.name, world)
    test = None if prepared.test is None else judged.target.measure(probabilities, judged.labels)
    return Evaluated(validation, test, probabilities, windows)


def metrics_on(
    model: Classifier, dataset: Dataset, collator: Collator, device: Device, world: World | None = None
) -> Metrics:
    """A model's figures on a data set."""
    with evaluation_mode(model):
        probabilities, _ = predict_documents(model, dataset, collator, device, world=world)
    return dataset.target.measure(probabilities, dataset.labels)


@contextlib.contextmanager
def evaluation_mode(model: Classifier) -> Iterator[None]:
    """Inside it nothing is dropped at random; behind it the model is in the mode that it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
