"""A model measured: on validation in the course of training, and once on the test set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from doctune.batches.collate import Collator
from doctune.classifier.predictor import predict_documents
from doctune.devices import Device
from doctune.distributed import World
from doctune.evaluation.schema import Windows
from doctune.metrics.choosing import Judged
from doctune.metrics.single import Metrics, Probabilities
from doctune.models.classifier import Classifier
from doctune.runs.data import Prepared
from doctune.settings import TrainingSettings
from doctune.settings.components import KINDS, AccuracySettings
from doctune.settings.implementations import choose, implementation, stored_name
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
    return dataset.target.measure(_probabilities(model, dataset, collator, device, world), dataset.labels)


def figures_on(
    model: Classifier, dataset: Dataset, collator: Collator, device: Device, training: TrainingSettings,
    world: World | None = None,
) -> dict[str, float]:  # fmt: skip
    """The figures that stand in the log, among them the one that `--select` chooses by."""
    target = dataset.target
    probabilities = _probabilities(model, dataset, collator, device, world)
    figures = target.headline(target.measure(probabilities, dataset.labels))
    name, _ = chosen_figure(training.select)
    if name not in figures:
        metric = choose("select", training).make()
        figures[name] = float(metric(Judged(probabilities, dataset.labels, target.names, figures)))
    return figures


def score(figures: Mapping[str, float], select: str) -> float:
    """What chooses the best epoch; higher is better. Where the last one is kept, patience goes by the accuracy."""
    name, higher_is_better = chosen_figure(select)
    return figures[name] if higher_is_better else -figures[name]


def chosen_figure(select: str) -> tuple[str, bool]:
    """The name of the figure that `--select` chooses by, and whether higher is better."""
    metric = AccuracySettings.name if select in KINDS["select"].words else select
    return stored_name("select", metric), getattr(implementation("select", metric), "higher_is_better", True)


def _probabilities(
    model: Classifier, dataset: Dataset, collator: Collator, device: Device, world: World | None
) -> Probabilities:
    with evaluation_mode(model):
        probabilities, _ = predict_documents(model, dataset, collator, device, world=world)
    return probabilities


@contextlib.contextmanager
def evaluation_mode(model: Classifier) -> Iterator[None]:
    """Inside it nothing is dropped at random; behind it the model is in the mode that it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
