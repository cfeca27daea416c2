"""Predictors on random encoders of every family, with a vocabulary of letters."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from doctune.batches.collate import make_collator
from doctune.classifier.folder import Description, save_model
from doctune.classifier.predictor import Predictor
from doctune.devices import Device
from doctune.encoders.load import load_encoder
from doctune.models.classifier import build_classifier
from doctune.settings import EncoderSettings, TruncationSettings
from doctune.text.tokenizer import TextTokenizer
from doctune.text.vocabulary import SPECIAL_TOKENS

LABELS = ("neg", "pos", "so-so")


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    folder = tmp_path_factory.mktemp("letters")
    pieces = [*SPECIAL_TOKENS, *string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")
    return TextTokenizer.load(folder)


@pytest.fixture(scope="session")
def make_predictor(family_folder: Callable[[str], Path], letters: TextTokenizer) -> Callable[..., Predictor]:
    """A predictor of three classes with a random head; with `folder` it is saved there, too."""

    def make(
        kind: str = "bert", token_pooling: str = "mean", layers: Any = (-1,), packing: str = "auto",
        truncation: TruncationSettings | None = None, folder: Path | None = None,
    ) -> Predictor:  # fmt: skip
        torch.manual_seed(1)
        truncation = truncation or TruncationSettings(max_seq_len=32)
        encoder = family_folder(kind)
        loaded = load_encoder(encoder, EncoderSettings(encoder=str(encoder), packing=packing), layers)
        windows = "mean" if truncation.truncation == "windows" else None
        model = build_classifier(loaded, token_pooling, "concat", len(LABELS), window_pooling=windows).eval()
        with torch.no_grad():
            model.task.head.linear.weight.normal_()
        description = Description(
            doctune="0", labels=LABELS, truncation=truncation, layers=model.encoder.layers,
            num_layers=model.encoder.num_layers, layer_pooling="concat", token_pooling=token_pooling,
            packing=model.encoder.packing,
        )  # fmt: skip
        if folder is not None:
            save_model(model, loaded.config, description, letters, folder)
        collator = make_collator(letters, truncation)
        return Predictor(model, description, letters, collator, Device(torch.device("cpu"), "fp32"))

    return make
