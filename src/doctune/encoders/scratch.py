"""An untrained BERT, saved as a folder that any command takes as its encoder."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel

from doctune.files import write_json


def new_bert(
    folder: Path,
    vocab_size: int,
    num_layers: int,
    hidden_size: int,
    seed: int,
    max_seq_len: int = 512,
    head_size: int = 64,
) -> None:
    """Write config.json and model.safetensors of a BERT with random weights.

    The tokenizer's files are not written here.
    """
    config = BertConfig(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        num_hidden_layers=num_layers,
        num_attention_heads=max(hidden_size // head_size, 1),
        intermediate_size=4 * hidden_size,
        max_position_embeddings=max_seq_len,
    )
    torch.manual_seed(seed)
    model = BertModel(config)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", {**config.to_dict(), "architectures": ["BertModel"]})
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
