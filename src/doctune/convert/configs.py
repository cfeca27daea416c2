"""BERT's configuration: bert_config.json of the original, config.json of transformers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from doctune.errors import CheckpointError

DIMENSIONS = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "type_vocab_size",
)  # fmt: skip
# The original's own defaults for what its bert_config.json may leave out, and transformers' for its config.json.
DEFAULTS = {
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
}  # fmt: skip
BERT_BASE = dict(zip(DIMENSIONS, (30522, 768, 12, 12, 3072, 512, 2), strict=True))
# Keys of Google's files that no code reads.
UNREAD = (
    "directionality", "pooler_fc_size", "pooler_num_attention_heads", "pooler_num_fc_layers", "pooler_size_per_head",
    "pooler_type",
)  # fmt: skip
ACTIVATIONS = ("gelu", "relu", "tanh", "linear")
EPSILON = 1e-12  # written into the code of the original
# What transformers' BERT can and the original cannot, with the only value that both know.
FIXED = {
    "layer_norm_eps": EPSILON,
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}


def parse(where: str, data: bytes) -> dict[str, Any]:
    """A JSON object; `CheckpointError` for anything else."""
    try:
        value = json.loads(data.decode("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{where}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{where}: not a JSON object with BERT's dimensions (hidden_size and so on)")
    return value


def from_tensorflow(where: str, original: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' config of a bert_config.json, without `architectures` and token ids; unread keys are kept."""
    missing = [key for key in DIMENSIONS if key not in original]
    if missing:
        raise CheckpointError(f"{where}: no {', '.join(missing)}; not the bert_config.json of a BERT")
    config = {**DEFAULTS, **original}
    config["hidden_act"] = config["hidden_act"] or "linear"  # the original allows for none
    _check(where, config)
    return {**config, "model_type": "bert", "layer_norm_eps": EPSILON, "dtype": "float32"}


def to_tensorflow(where: str, theirs: Mapping[str, Any]) -> dict[str, Any]:
    """bert_config.json of transformers' config; `CheckpointError` where the original could not compute the same."""
    kind = theirs.get("model_type")
    if kind != "bert":
        raise CheckpointError(f"{where}: model_type {kind!r}; only BERT has a TensorFlow 1 form (model_type 'bert')")
    for key, value in FIXED.items():
        found = theirs.get(key, value)
        if found is not None and found != value:
            raise CheckpointError(f"{where}: {key} is {found}; the TensorFlow 1 code of BERT knows only {value}")
    config = {**BERT_BASE, **DEFAULTS, **theirs}
    _check(where, config)
    return {key: config[key] for key in (*DIMENSIONS, *DEFAULTS, *UNREAD) if key in config}


def dump(config: Mapping[str, Any]) -> str:
    """bert_config.json as the original writes it."""
    return json.dumps(config, indent=2, sort_keys=True) + "\n"


def _check(where: str, config: Mapping[str, Any]) -> None:
    for key in DIMENSIONS:
        value = config[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise CheckpointError(f"{where}: {key} is {value!r}; a whole number of at least 1 is allowed")
    if config["hidden_size"] % config["num_attention_heads"]:
        raise CheckpointError(
            f"{where}: hidden_size {config['hidden_size']} is no multiple of "
            f"num_attention_heads {config['num_attention_heads']}"
        )
    if config["hidden_act"] not in ACTIVATIONS:
        raise CheckpointError(
            f"{where}: hidden_act is {config['hidden_act']!r}; the TensorFlow 1 code of BERT knows "
            f"{', '.join(ACTIVATIONS)}"
        )
