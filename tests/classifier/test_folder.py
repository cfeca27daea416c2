"""A saved classifier is the same when doctune loads it, and, where its head is the standard one, for transformers."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification

from doctune.classifier.folder import Description, is_standard, load_model, read_description, save_model
from doctune.encoders.base import FAMILIES
from doctune.encoders.load import load_encoder
from doctune.errors import CheckpointError
from doctune.models.classifier import Classifier, build_classifier
from doctune.settings import EncoderSettings, TruncationSettings
from doctune.tensors import Batch

LABELS = ("neg", "pos", "so-so")


class NoTokenizer:
    def save(self, folder: Path) -> None:
        """The folders here are loaded for their weights only."""


def make(folder: Path, token_pooling: str = "pooler", layers: tuple[int, ...] = (-1,), layer_pooling: str = "concat"):
    torch.manual_seed(1)
    loaded = load_encoder(folder, EncoderSettings(encoder=str(folder)), layers)
    model = build_classifier(loaded, token_pooling, layer_pooling, len(LABELS)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder."):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    description = Description(
        doctune="0", labels=LABELS, truncation=TruncationSettings(), layers=model.encoder.layers,
        num_layers=model.encoder.num_layers, layer_pooling=layer_pooling, token_pooling=token_pooling,
        packing=model.encoder.packing,
    )  # fmt: skip
    return model, loaded, description


@pytest.fixture(scope="module")
def batch(pack: Callable[..., Batch]) -> Batch:
    random = torch.Generator().manual_seed(4)
    return pack([torch.randint(5, 100, (n,), generator=random).tolist() for n in (9, 30, 2)])


@torch.no_grad()
def logits(model: Classifier, batch: Batch) -> torch.Tensor:
    return model(batch)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_plain_transformers_loads_the_standard_head(
    kind: str, family_folder: Callable[[str], Path], batch: Batch, tmp_path: Path
) -> None:
    model, loaded, description = make(family_folder(kind))
    assert is_standard(model)
    save_model(model, loaded.config, description, NoTokenizer(), tmp_path / "model")
    theirs, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert theirs.config.id2label == dict(enumerate(LABELS))
    ours = logits(model, batch)
    starts = batch.cu_seqlens.tolist()
    for row, (start, stop) in enumerate(itertools.pairwise(starts)):
        with torch.no_grad():
            expected = theirs.eval()(input_ids=batch.input_ids[start:stop].unsqueeze(0)).logits[0]
        torch.testing.assert_close(ours[row], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", "albert", "deberta-v2"])
@pytest.mark.parametrize(
    ("token_pooling", "layers", "layer_pooling"),
    [
        ("pooler", (-1,), "concat"),
        ("mean", (-1,), "concat"),
        ("cls", (0, 1), "max"),
        ("attention", (1, -1), "attention"),
    ],
)
def test_what_is_saved_is_what_is_loaded(
    kind: str, token_pooling: str, layers: tuple[int, ...], layer_pooling: str,
    family_folder: Callable[[str], Path], batch: Batch, tmp_path: Path,
) -> None:  # fmt: skip
    model, loaded, description = make(family_folder(kind), token_pooling, layers, layer_pooling)
    save_model(model, loaded.config, description, NoTokenizer(), tmp_path / "model")
    again, read = load_model(tmp_path / "model")
    assert read == description
    torch.testing.assert_close(logits(again, batch), logits(model, batch), rtol=1e-6, atol=1e-6)
    # Whatever the head: transformers loads the encoder, cut to the layers in use.
    encoder, info = AutoModel.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert {key for key in info["missing_keys"] if "pooler" not in key} == set()
    assert encoder.config.num_hidden_layers == max(model.encoder.layers) + 1


def test_bad_folders(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no doctune\.json"):
        read_description(tmp_path)
    model, loaded, description = make(family_folder("bert"))
    save_model(model, loaded.config, description, NoTokenizer(), tmp_path / "run" / "model")
    with pytest.raises(CheckpointError, match="did you mean its model folder"):
        read_description(tmp_path / "run")
    path = tmp_path / "run" / "model" / "doctune.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "labels": ["a", "b"]}))
    with pytest.raises(CheckpointError, match=r"does not fit doctune\.json"):
        load_model(tmp_path / "run" / "model")
    path.write_text(json.dumps({**content, "format": 2}))
    with pytest.raises(CheckpointError, match="newer doctune"):
        load_model(tmp_path / "run" / "model")
