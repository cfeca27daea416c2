"""A family of encoders is two lines: where its layers are, and what transformers calls its classifier."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, AutoTokenizer

import doctune
from doctune.encoders.base import FAMILIES, Family
from doctune.errors import CheckpointError
from doctune.models.standard import STANDARD, Standard


@pytest.fixture
def ernie(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A random ERNIE with the tokenizer of the tiny encoder; doctune does not come with this family."""
    folder = tmp_path / "ernie"
    shutil.copytree(tiny_encoder, folder)
    bert = AutoConfig.from_pretrained(tiny_encoder)
    sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
    config = AutoConfig.for_model(
        "ernie", **{name: getattr(bert, name) for name in sizes}, max_position_embeddings=bert.max_position_embeddings
    )
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(folder)
    return folder


def test_a_family_is_two_lines(
    ernie: Path, tiny_csv: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, output = str(tiny_csv()), tmp_path / "run"
    with pytest.raises(CheckpointError, match="'ernie' is not of the BERT family"):
        doctune.finetune(train=train, encoder=str(ernie), output=str(output), epochs=1)
    monkeypatch.setitem(FAMILIES, "ernie", Family())
    own = Standard("ErnieForSequenceClassification", "ernie", "ernie.pooler.dense", "classifier")
    monkeypatch.setitem(STANDARD, "ernie", own)
    doctune.finetune(train=train, encoder=str(ernie), output=str(output), epochs=1)
    model, text = doctune.load(output), "the film is great"
    assert model.model.encoder.packing == "packed"
    plain = AutoModelForSequenceClassification.from_pretrained(output / "model").eval()
    inputs = AutoTokenizer.from_pretrained(output / "model")(text, return_tensors="pt")
    with torch.inference_mode():
        expected = plain(**inputs).logits.softmax(dim=1)[0]
    torch.testing.assert_close(torch.tensor(model.predict_proba(text)).float(), expected, rtol=0.02, atol=1e-3)
