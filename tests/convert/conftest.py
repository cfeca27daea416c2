"""A small random BERT with both heads, in transformers' form and in TensorFlow's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctune.convert.bundle import write_bundle

TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "aeiou")]
CONFIG = {
    "vocab_size": len(TOKENS), "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
    "intermediate_size": 12, "max_position_embeddings": 20, "type_vocab_size": 2, "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02,
}  # fmt: skip


def original_name(name: str) -> str:
    """TensorFlow's name by rule, not by the table that is tested."""
    name = name.replace("cls.predictions.bias", "cls.predictions.output_bias")
    name = re.sub(r"seq_relationship\.(weight|bias)", r"seq_relationship.output_\1s", name).replace("biass", "bias")
    name = re.sub(r"LayerNorm\.weight", "LayerNorm.gamma", name)
    name = re.sub(r"LayerNorm\.bias", "LayerNorm.beta", name)
    name = re.sub(r"embeddings\.weight", "embeddings", name)
    name = re.sub(r"layer\.(\d+)", r"layer_\1", name)
    return re.sub(r"\.weight$", ".kernel", name).replace(".", "/")


def variables_of(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """A model's parameters as TensorFlow's variables."""
    variables = {}
    for name, tensor in state.items():
        if not name.startswith("cls.predictions.decoder."):
            ours = original_name(name)
            value = tensor.numpy()
            variables[ours] = np.array(value.T if ours.endswith("/kernel") else value, order="C")
    return variables


@pytest.fixture(scope="session")
def pretrained() -> Any:
    """A random BertForPreTraining whose weights are all different and large enough for a mistake to show."""
    import torch
    from transformers import BertConfig, BertForPreTraining

    torch.manual_seed(3)
    model = BertForPreTraining(BertConfig(**CONFIG)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
    return model


@pytest.fixture
def make_checkpoint(pretrained: Any, tmp_path: Path) -> Callable[..., Path]:
    """Makes a TensorFlow checkpoint of it; `left` chooses variables by name, `more` adds some."""

    def make(
        name: str = "original",
        left: str = "",
        more: dict[str, np.ndarray] | None = None,
        shards: int = 1,
        **config: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        variables = {key: v for key, v in variables_of(pretrained.state_dict()).items() if re.match(left, key)}
        variables |= more or {}
        names = sorted(variables)
        parts = [{key: variables[key] for key in names[part::shards]} for part in range(shards)]
        write_bundle(folder, "bert_model.ckpt", *parts)
        (folder / "bert_config.json").write_text(json.dumps({**CONFIG, **config}), encoding="utf-8")
        (folder / "vocab.txt").write_text("\n".join(TOKENS) + "\n", encoding="utf-8")
        return folder

    return make


@pytest.fixture
def checkpoint(make_checkpoint: Callable[..., Path]) -> Path:
    """The folder of a whole checkpoint."""
    return make_checkpoint()
