"""What a run's settings leave to the encoder: learning rate, pooling, longest sequence; and whether all of it fits."""

from __future__ import annotations

import json
from pathlib import Path

from doctune.encoders.load import Shape, asked_layers, read_shape
from doctune.encoders.resolve import resolve_encoder
from doctune.errors import CheckpointError, ConfigError
from doctune.runs.trial import try_parts
from doctune.settings import FinetuneSettings
from doctune.settings.implementations import chosen_parts, reads_windows
from doctune.text.tokenizer import TextTokenizer
from doctune.training.rates import default_learning_rate


def resolve(settings: FinetuneSettings) -> tuple[FinetuneSettings, Path, TextTokenizer]:
    """Fill in what depends on the encoder (learning rate, token pooling) and check that everything fits."""
    _check_windows(settings)
    folder = resolve_encoder(settings.encoder.encoder, settings.encoder.revision)
    shape = read_shape(folder)
    tokenizer = TextTokenizer.load(folder)
    tree = settings.model_dump()
    if "max_seq_len" not in settings.truncation.model_fields_set:
        # The default is the paper's, or all that a smaller encoder has.
        tree["truncation"]["max_seq_len"] = min(settings.truncation.max_seq_len, shape.max_seq_len)
    check_fit(tokenizer, shape, tree["truncation"]["max_seq_len"], str(folder))
    layers = asked_layers(settings.features.layers, shape.num_layers)  # told before hours of reading
    try_parts(chosen_parts(settings), shape.hidden_size, len(layers))
    if settings.optimizer.learning_rate is None:
        on_fixed_states = settings.features.reads_tokens and settings.layerwise.freeze_encoder
        tree["optimizer"]["learning_rate"] = default_learning_rate(shape.hidden_size, on_fixed_states)
    if settings.features.token_pooling == "auto" and not settings.features.reads_tokens:
        tree["features"]["token_pooling"] = "mean" if _pools_by_mean(folder) else "pooler"
    return FinetuneSettings.build(tree), folder, tokenizer


def _check_windows(settings: FinetuneSettings) -> None:
    pooling, truncation = settings.features.window_pooling, settings.truncation.truncation
    if pooling != "mean" and not reads_windows(truncation):
        raise ConfigError(
            f"features.window_pooling: {pooling} is for documents of several windows, and {truncation} makes one of "
            f"each; leave it out"
        )


def _pools_by_mean(folder: Path) -> bool:
    """Whether the folder is a sentence-transformers model that was trained with mean pooling."""
    path = folder / "1_Pooling" / "config.json"
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens"))
    except (OSError, ValueError, AttributeError):
        return False


def check_fit(tokenizer: TextTokenizer, shape: Shape, max_seq_len: int, where: str) -> None:
    """Whether tokenizer, length and encoder fit; `CheckpointError` or `ConfigError` says which does not."""
    if tokenizer.size > shape.vocab_size:
        raise CheckpointError(
            f"{where}: the tokenizer gives ids up to {tokenizer.size - 1}, the encoder's embeddings have "
            f"{shape.vocab_size} rows; they do not belong together"
        )
    if max_seq_len > shape.max_seq_len:
        raise ConfigError(
            f"truncation.max_seq_len: {max_seq_len} is more than the {shape.max_seq_len} positions of {where}; "
            f"set --max-seq-len {shape.max_seq_len} or less"
        )
