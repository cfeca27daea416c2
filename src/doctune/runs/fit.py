"""One run with one seed: build the classifier, train it, test it once, save it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from doctune import seeding
from doctune.batches.collate import Collator
from doctune.batches.feed import DocumentFeed
from doctune.classifier.folder import Description, load_weights, save_model
from doctune.classifier.predictor import predict, predict_windows, write_predictions
from doctune.devices import Device
from doctune.distributed import World
from doctune.encoders.load import Loaded, load_encoder
from doctune.errors import ConfigError
from doctune.evaluation.schema import Windows
from doctune.files import content_hash
from doctune.metrics.single import Metrics, Probabilities, compute
from doctune.models.classifier import Classifier, build_classifier
from doctune.runs.data import Prepared
from doctune.settings import FinetuneSettings
from doctune.store.splits import Dataset
from doctune.text.tokenizer import TextTokenizer
from doctune.training.budget import Budget
from doctune.training.layerwise import RateRow, parameter_groups
from doctune.training.log import MetricsLog
from doctune.training.loop import Outcome, Run, train
from doctune.training.optim import make_optimizer
from doctune.training.schedule import make_schedule
from doctune.training.state import Checkpoints, Evaluation
from doctune.version import __version__

# Validation documents below which their choice of an epoch is mostly noise.
FEW = 50


def validation_documents(count: int, do: str) -> str:
    """So many validation documents, and what they do."""
    return f"1 validation document {do}s" if count == 1 else f"{count} validation documents {do}"


@dataclass(frozen=True, slots=True)
class Fitted:
    """What one seed gives. `probabilities` and `windows` are of the test set, or of validation where there is none."""

    seed: int
    folder: Path
    outcome: Outcome
    validation: Metrics
    test: Metrics | None
    probabilities: Probabilities
    windows: Windows
    rates: list[RateRow]
    encoder: dict[str, Any]


def fit(
    settings: FinetuneSettings, prepared: Prepared, tokenizer: TextTokenizer, collator: Collator,
    encoder_folder: Path, folder: Path, seed: int, device: Device, announce: bool, start: Path | None = None,
    world: World | None = None,
) -> Fitted:  # fmt: skip
    """Train with one seed into `folder`: metrics.jsonl, predictions.jsonl and model/.

    `settings` are resolved: the learning rate and the token pooling are given. `announce` prints the table of rates.
    `start`: the folder of a saved classifier of the same shape, to go on from. Of several processes in `world` the
    first one writes.
    """
    world = world or World.single()
    log = MetricsLog(folder / "metrics.jsonl", world.main)
    torch.manual_seed(seeding.derive(seed, "new layers"))
    loaded = load_encoder(encoder_folder, settings.encoder, settings.features.layers)
    model = make_classifier(settings, loaded, prepared).to(device.torch)
    if start is not None:
        load_weights(model, loaded.config.model_type, start)
    learning_rate = settings.optimizer.learning_rate
    assert learning_rate is not None
    if settings.layerwise.freeze_encoder:
        model.freeze_encoder()
    groups, rates = parameter_groups(model, learning_rate, settings.optimizer.weight_decay, settings.layerwise)
    if announce:
        print(rate_table(rates))
        if len(prepared.validation) < FEW and settings.training.select != "last":
            print(
                f"note: {validation_documents(len(prepared.validation), 'choose')} the epoch, which is little more "
                f"than chance; --select last keeps the last epoch instead",
                file=sys.stderr,
            )
    feed = DocumentFeed(prepared.train, collator, settings.training, seed)
    budget = Budget("step", len(feed.steps))
    factor = make_schedule(settings.schedule, budget.end)
    optimizer = make_optimizer(groups, settings.optimizer, factor)

    def evaluate() -> Evaluation:
        metrics = metrics_on(model, prepared.validation, collator, device, world)
        return Evaluation(
            score(headline(metrics), settings.training.select),
            {f"validation_{k}": v for k, v in headline(metrics).items()},
        )

    run = Run(
        model, feed, budget, feed.ends, ("examples", feed.num_documents()), optimizer, factor,
        settings.optimizer.max_grad_norm, device, seed, settings.training.patience,
        keep_last=settings.training.select == "last", world=world,
    )  # fmt: skip
    checkpoints = Checkpoints(
        folder / "checkpoint",
        settings.training.checkpoint_minutes,
        identity(settings, prepared, seed),
        writes=world.main,
    )
    outcome = train(run, evaluate, log, checkpoints)
    judged = judge(model, prepared, collator, device, world)
    if judged.test is not None:
        log.write(kind="test", **headline(judged.test))
    if world.main:
        write_predictions(folder / "predictions.jsonl", prepared.judged, judged.probabilities, judged.windows)
        save_model(model, loaded.config, describe(settings, model, prepared), tokenizer, folder / "model")
        shutil.rmtree(checkpoints.folder, ignore_errors=True)
    return Fitted(
        seed, folder, outcome, judged.validation, judged.test, judged.probabilities, judged.windows, rates,
        encoder_facts(model),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Judged:
    """A model's figures; `probabilities` and `windows` are of the test set, or of validation where there is none."""

    validation: Metrics
    test: Metrics | None
    probabilities: Probabilities
    windows: Windows


def judge(
    model: Classifier, prepared: Prepared, collator: Collator, device: Device, world: World | None = None
) -> Judged:
    """Measure a model on validation, and once on the test set."""
    validation = metrics_on(model, prepared.validation, collator, device, world)
    judged = prepared.judged
    probabilities, windows = predict_windows(model, judged, collator, device, judged.name, world)
    test = None if prepared.test is None else compute(probabilities, judged.labels, judged.names)
    return Judged(validation, test, probabilities, windows)


def identity(settings: FinetuneSettings, prepared: Prepared, seed: int) -> str:
    """What a checkpoint must have been made with to go on from it: the recipe, the documents, the seed."""
    recipe = settings.model_dump_json(
        exclude={"output": True, "data": {"cache"}, "training": {"seeds", "checkpoint_minutes", "device"}}
    )
    shards = [part.shard.path.name for part in prepared.parts().values()]
    return content_hash(recipe, *shards, str(seed))


def make_classifier(settings: FinetuneSettings, loaded: Loaded, prepared: Prepared) -> Classifier:
    """The classifier that the settings describe, on a loaded encoder; new layers come of the current random state."""
    features, training = settings.features, settings.training
    model = build_classifier(
        loaded,
        features.token_pooling,
        features.layer_pooling,
        len(prepared.names),
        training.label_smoothing,
        settings.encoder.dropout,
        features.window_pooling if settings.truncation.truncation == "windows" else None,
        features.bilstm,
    )
    model.windows_per_pass = training.windows_per_pass or model.windows_per_pass
    model.head.class_weights = class_weights(settings, prepared.train)
    if training.gradient_checkpointing and not model.encoder.recompute_activations():
        raise ConfigError(f"training.gradient_checkpointing: {loaded.config.model_type} does not support it")
    return model


def class_weights(settings: FinetuneSettings, train_set: Dataset) -> torch.Tensor | None:
    """Weights [C]: none, the numbers given, or "balanced": D / (C * documents of the class), as scikit-learn has it."""
    chosen = settings.training.class_weights
    if chosen == "none":
        return None
    counts = np.array(list(train_set.per_class().values()), float)
    if chosen == "balanced":
        return torch.tensor(len(train_set) / (len(counts) * np.maximum(counts, 1)), dtype=torch.float32)
    if len(chosen) != len(counts):
        raise ConfigError(
            f"training.class_weights: {len(chosen)} weights for {len(counts)} classes "
            f"({', '.join(train_set.names)}); give one for each"
        )
    return torch.tensor(chosen, dtype=torch.float32)


def metrics_on(
    model: Classifier, dataset: Dataset, collator: Collator, device: Device, world: World | None = None
) -> Metrics:
    """A model's figures on a data set."""
    return compute(predict(model, dataset, collator, device, world=world), dataset.labels, dataset.names)


def score(figures: Mapping[str, float], select: str) -> float:
    """What chooses the best epoch; higher is better. Where the last one is kept, patience goes by the accuracy."""
    return -figures["loss"] if select == "loss" else figures["macro_f1" if select == "macro_f1" else "accuracy"]


def headline(metrics: Metrics) -> dict[str, float]:
    """The figures that stand in the log."""
    return {
        "error_percent": metrics.error_percent, "accuracy": metrics.accuracy,
        "macro_f1": metrics.macro_f1, "loss": metrics.loss,
    }  # fmt: skip


def describe(settings: FinetuneSettings, model: Classifier, prepared: Prepared) -> Description:
    """What doctune.json says of a model."""
    data, features = settings.data, settings.features
    columns = data.model_dump(
        mode="json", include={"dataset", "header", "text", "text_pair", "join", "label", "format", "encoding"}
    )
    return Description(
        doctune=__version__, labels=prepared.names, truncation=settings.truncation, layers=model.encoder.layers,
        num_layers=model.encoder.num_layers, layer_pooling=features.layer_pooling,
        token_pooling="tokens" if features.head == "bilstm" else features.token_pooling,
        window_pooling=features.window_pooling, head=features.head, bilstm=features.bilstm,
        packing=model.encoder.packing, columns={k: v for k, v in columns.items() if v is not None},
    )  # fmt: skip


def encoder_facts(model: Classifier) -> dict[str, Any]:
    """What a report says of a model's encoder."""
    encoder = model.encoder
    return {
        "hidden_size": encoder.hidden_size, "num_layers": max(encoder.layers) + 1,
        "num_parameters": sum(p.numel() for p in model.parameters()), "packing": encoder.packing,
    }  # fmt: skip


def rate_table(rates: list[RateRow]) -> str:
    """The learning rates as lines of text, from the head down to the embeddings."""
    lines = [f"{'part':<20} {'peak rate':<12} {'parameters':>12}"]
    lines += [f"{row.part:<20} {row.learning_rate:<12.4g} {row.parameters:>12,}" for row in rates]
    return "\n".join(lines) + "\n"
