"""What a task has on its encoder: its two stages, which tokens it reads, and the names of its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from doctune.classifier.folder import HEAD, Description, load_model, save_model
from doctune.encoders.load import load_encoder
from doctune.heads.bilstm import BiLstm
from doctune.models.classifier import Classifier, build_classifier
from doctune.models.multitask import MultitaskModel
from doctune.settings import BiLstmSettings, EncoderSettings, TruncationSettings
from doctune.settings.implementations import Part
from doctune.tensors import Batch

SMALL = BiLstmSettings(lstm_hidden=4, attention_hops=2, attention_size=3)
EVERY_PART: dict[str, Any] = {"token_pooling": "attention", "layer_pooling": "attention", "window_pooling": "attention"}


def make(
    folder: Path, layers: Any = (-1,), token_pooling: str = "pooler", layer_pooling: Any = "concat", **more: Any
) -> Classifier:
    torch.manual_seed(1)
    loaded = load_encoder(folder, EncoderSettings(encoder="x"), layers)
    return build_classifier(loaded, token_pooling, layer_pooling, 3, **more)


@pytest.fixture
def batch(pack: Callable[..., Batch]) -> Batch:
    """Two documents, the second of two windows."""
    sequences = pack([[2, 9, 10, 3], [2, 11, 3], [2, 12, 13, 14, 3]])
    number = torch.arange(2)
    return replace(sequences, window_of=torch.tensor([0, 1, 1]), rows=number, labels=number)


@pytest.mark.parametrize("layers", [(-1,), (0, 1)])
@pytest.mark.parametrize("token_pooling", ["pooler", "cls", "mean", "max", "attention", "bilstm"])
def test_only_the_tokens_that_are_said_to_be_read_matter(
    token_pooling: str, layers: tuple[int, ...], tiny_encoder: Path, batch: Batch
) -> None:
    own: dict[str, Any] = (
        {"head": Part(BiLstm, SMALL)} if token_pooling == "bilstm" else {"token_pooling": token_pooling}
    )
    model = make(tiny_encoder, layers, window_pooling="mean", **own).eval()
    states = model.encoder(batch)
    first = torch.zeros(batch.num_tokens, dtype=torch.bool)
    first[batch.cu_seqlens[:-1]] = True
    changed = replace(states, layers=tuple(torch.where(first[:, None], x, x + 1) for x in states.layers))
    same = torch.equal(model.task.vectors(states), model.task.vectors(changed))
    assert same == (token_pooling in ("pooler", "cls"))
    assert model.task.reads_first_tokens_only == (same and len(layers) == 1)


def test_the_first_stage_is_what_vectors_need_and_nothing_else(tiny_encoder: Path, batch: Batch) -> None:
    model = make(tiny_encoder, (0, 1), **EVERY_PART)
    states = model.encoder(batch)
    model.zero_grad()
    model.task.vectors(states).sum().backward()
    reached = {name for name, p in model.task.named_parameters() if p.grad is not None}
    first = {id(p) for module in model.task.first_stage for p in module.parameters()}
    assert reached == {name for name, p in model.task.named_parameters() if id(p) in first}
    model.task.answer(model.task.vectors(model.encoder(batch)), batch).sum().backward()
    assert all(p.grad is not None for p in model.task.parameters())


def test_the_stages_one_after_the_other_are_the_classifier(tiny_encoder: Path, batch: Batch) -> None:
    model = make(tiny_encoder, (0, 1), **EVERY_PART).eval()
    vectors = model.task.vectors(model.encoder(batch))
    assert vectors.shape[0] == batch.num_windows
    torch.testing.assert_close(model.task.answer(vectors, batch), model(batch))


def test_names_on_disk_have_no_prefix_and_nothing_is_lost(tiny_encoder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    class NoTokenizer:
        def save(self, folder: Path) -> None:
            """The folder is loaded for its weights only."""

    model = make(tiny_encoder, (0, 1), **EVERY_PART).eval()
    description = Description(
        doctune="0", labels=("a", "b", "c"), truncation=TruncationSettings(truncation="windows"), layers=(0, 1),
        num_layers=2, layer_pooling="attention", token_pooling="attention", window_pooling="attention",
        packing="packed",
    )  # fmt: skip
    loaded = load_encoder(tiny_encoder, EncoderSettings(encoder="x"), (0, 1))
    save_model(model, loaded.config, description, NoTokenizer(), tmp_path / "model")
    above = {name.partition(".")[0] for name in load_file(tmp_path / "model" / HEAD)}
    assert above == {"token_pooling", "layer_pooling", "head", "window_pooling"}
    again, _ = load_model(tmp_path / "model")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


@pytest.mark.parametrize("window_pooling", ["mean", "attention"])
@pytest.mark.parametrize("layer_pooling", ["concat", "attention"])
@pytest.mark.parametrize("token_pooling", ["pooler", "mean", "attention", "bilstm"])
def test_a_joint_model_has_exactly_the_parameters_of_its_classifiers(
    token_pooling: str, layer_pooling: Any, window_pooling: Any, tiny_encoder: Path
) -> None:
    loaded = load_encoder(tiny_encoder, EncoderSettings(encoder="x"), (0, 1))
    own: dict[str, Any] = {"head": Part(BiLstm, SMALL)} if token_pooling == "bilstm" else {}
    tokens = "cls" if token_pooling == "bilstm" else token_pooling
    classifiers = {
        name: build_classifier(loaded, tokens, layer_pooling, 2, window_pooling=window_pooling, **own)
        for name in ("type", "a.b", "train")
    }
    model = MultitaskModel(classifiers)
    joint = [id(p) for p in model.parameters()]
    assert len(joint) == len(set(joint))
    assert set(joint) == {id(p) for one in classifiers.values() for p in one.parameters()}
    model.to(torch.device("meta"))
    assert all(p.device.type == "meta" for one in classifiers.values() for p in one.parameters())
