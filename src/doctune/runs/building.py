"""The classifier that a run's settings describe, and what its folder and its report say of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from doctune.classifier.card import Measured, write_card
from doctune.classifier.folder import Description, TrainingColumns, stored_parts
from doctune.encoders.load import Loaded
from doctune.errors import ConfigError
from doctune.heads.links import LINKS
from doctune.models.classifier import Classifier, build_classifier
from doctune.runs.data import Prepared
from doctune.runs.evaluation import Evaluated
from doctune.settings import FinetuneSettings, TrainingSettings
from doctune.settings.implementations import chosen_parts, reads_windows
from doctune.store.splits import Dataset
from doctune.version import __version__


def make_classifier(settings: FinetuneSettings, loaded: Loaded, prepared: Prepared) -> Classifier:
    """The classifier that the settings describe, on a loaded encoder; new layers come of the current random state."""
    training, target = settings.training, prepared.target
    weights = class_weights(training, prepared.train)
    parts, several = chosen_parts(settings), reads_windows(settings.truncation.truncation)
    model = build_classifier(
        loaded, parts.get("token_pooling", "auto"), parts["layer_pooling"], target.num_outputs,
        LINKS[target.link](weights, training.label_smoothing), settings.encoder.dropout,
        parts["window_pooling"] if several else None, parts["head"],
    )  # fmt: skip
    model.windows_per_pass = training.windows_per_pass or model.windows_per_pass
    if training.gradient_checkpointing and not model.encoder.recompute_activations():
        raise ConfigError(f"training.gradient_checkpointing: {loaded.config.model_type} does not support it")
    return model


def class_weights(training: TrainingSettings, train_set: Dataset) -> torch.Tensor | None:
    """Weights [C]: none, the numbers given, or "balanced": D / (C * documents of the class), as scikit-learn has it."""
    chosen = training.class_weights
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


def description_of(settings: FinetuneSettings, model: Classifier, prepared: Prepared) -> Description:
    """What doctune.json says of a model."""
    data, features = settings.data, settings.features
    return Description(
        doctune=__version__, labels=prepared.names, answer=prepared.target.to_json(),
        truncation=settings.truncation,
        layers=model.encoder.layers, num_layers=model.encoder.num_layers, **stored_parts(features),
        packing=model.encoder.packing, columns=TrainingColumns.of(data.model_dump()),
    )  # fmt: skip


def write_model_card(folder: Path, encoder: str, prepared: Prepared, evaluated: Evaluated) -> None:
    """The card of the model in `folder`, made of this `encoder`, with what was measured of it."""
    measured = [Measured("validation", evaluated.validation)]
    if evaluated.test is not None:
        measured.append(Measured("test", evaluated.test))
    write_card(folder, prepared.title, len(prepared.train), encoder, measured)


def encoder_facts(model: Classifier) -> dict[str, Any]:
    """What a report says of a model's encoder."""
    encoder = model.encoder
    return {
        "hidden_size": encoder.hidden_size, "num_layers": max(encoder.layers) + 1,
        "num_parameters": sum(p.numel() for p in model.parameters()), "packing": encoder.packing,
    }  # fmt: skip
