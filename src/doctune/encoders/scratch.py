"""An untrained BERT, saved as a folder that any command takes as its encoder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from doctune.errors import ConfigError
from doctune.files import write_json


@dataclass(frozen=True, slots=True)
class Preset:
    """A size of BERT, by the names of Google's small BERTs."""

    num_layers: int
    hidden_size: int


PRESETS = {"mini": Preset(4, 256), "small": Preset(4, 512), "medium": Preset(8, 512)}
# What a config file for a new encoder may say; everything else is BERT's.
SIZES = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "max_position_embeddings",
    "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "type_vocab_size", "initializer_range",
    "layer_norm_eps",
)  # fmt: skip


def scratch_config(name: str, vocab_size: int) -> BertConfig:
    """The config of a preset, or of a config.json, for a vocabulary of this size.

    Raises `ConfigError` for a name that is neither, or a file that is not a BERT's.
    """
    if name in PRESETS:
        preset = PRESETS[name]
        return bert_config(vocab_size, preset.num_layers, preset.hidden_size)
    path = Path(name).expanduser()
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise ConfigError(
            f"start.from_scratch: {name!r} is no preset ({', '.join(PRESETS)}) and no config.json; give one of them"
        )
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        kind = content.get("model_type", "bert")
    except (json.JSONDecodeError, UnicodeDecodeError, AttributeError) as error:
        raise ConfigError(f"start.from_scratch: {path}: not a config.json: {error}") from None
    if kind != "bert":
        raise ConfigError(f"start.from_scratch: {path}: model_type {kind!r}; new encoders are of model_type bert")
    sizes = {key: content[key] for key in SIZES if key in content}
    return BertConfig(vocab_size=vocab_size, **sizes)


def bert_config(
    vocab_size: int, num_layers: int, hidden_size: int, max_seq_len: int = 512, head_size: int = 64
) -> BertConfig:
    """BERT's config for a width and a depth, in its usual proportions."""
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=max(hidden_size // head_size, 1),
        intermediate_size=4 * hidden_size,
        max_position_embeddings=max_seq_len,
    )


def new_bert(folder: Path, config: BertConfig, seed: int) -> None:
    """Write config.json and model.safetensors of a BERT with random weights.

    The tokenizer's files are not written here.
    """
    torch.manual_seed(seed)
    model = BertModel(config)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {**config.to_dict(), "architectures": ["BertModel"]})
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
