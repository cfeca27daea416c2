from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from doctune.encoders.base import FAMILIES
from doctune.encoders.load import load_encoder
from doctune.models.classifier import Classifier, build_classifier
from doctune.pooling import layers as layer_poolings
from doctune.pooling.tokens import Attention, Cls, Max, Mean
from doctune.settings import EncoderSettings
from doctune.tensors import Batch, HiddenStates

LENGTHS = (4, 1, 6)


@pytest.fixture
def states() -> HiddenStates:
    x = torch.randn(sum(LENGTHS), 8, generator=torch.Generator().manual_seed(0))
    return HiddenStates((x,), torch.tensor([0, *LENGTHS]).cumsum(0), torch.arange(3), 3)


def test_token_poolings_equal_one_sequence_at_a_time(states: HiddenStates) -> None:
    x = states.layers[0]
    parts = x.split(LENGTHS)
    torch.testing.assert_close(Cls()(x, states), torch.stack([p[0] for p in parts]))
    torch.testing.assert_close(Mean()(x, states), torch.stack([p.mean(0) for p in parts]))
    torch.testing.assert_close(Max()(x, states), torch.stack([p.amax(0) for p in parts]))
    pooling = Attention(8)
    expected = []
    for part in parts:
        scores = pooling.linear_second(torch.tanh(pooling.linear_first(part)))
        expected.append((torch.softmax(scores, 0) * part).sum(0))
    torch.testing.assert_close(pooling(x, states), torch.stack(expected))


def test_layer_poolings() -> None:
    layers = [torch.randn(3, 8) for _ in range(4)]
    assert layer_poolings.Concat(8, 4)(layers).shape == (3, layer_poolings.Concat(8, 4).output_size)
    torch.testing.assert_close(layer_poolings.Mean(8, 4)(layers), sum(layers) / 4)
    torch.testing.assert_close(layer_poolings.Max(8, 4)(layers), torch.stack(layers).amax(0))
    learned = layer_poolings.Attention(8, 4)
    torch.testing.assert_close(learned.weights(torch.stack(layers)).sum(0), torch.ones(3, 1))


@pytest.fixture
def model(tiny_encoder: Path) -> Classifier:
    loaded = load_encoder(tiny_encoder, EncoderSettings(encoder="x"), (-1,))
    return build_classifier(loaded, "pooler", "concat", 2)


def test_a_frozen_encoder_gets_no_gradient(model: Classifier, pack: Callable[..., Batch]) -> None:
    model.freeze_encoder()
    model.train()
    assert not model.encoder.training
    losses, _ = model.losses(pack([[7, 8, 9], [8, 9]], labels=[0, 1]))
    losses["label"].sum.backward()
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert with_gradient == {"task.head.linear.weight", "task.head.linear.bias"}


def test_gradient_checkpointing_changes_nothing(tiny_encoder: Path, pack: Callable[..., Batch]) -> None:
    gradients = []
    for recompute in (False, True):
        torch.manual_seed(5)
        loaded = load_encoder(tiny_encoder, EncoderSettings(encoder="x"), (0, 1))
        model = build_classifier(loaded, "mean", "concat", 2)
        if recompute:
            assert model.encoder.recompute_activations()
        model.train()
        torch.manual_seed(6)
        losses, _ = model.losses(pack([[7, 8, 9] * 9, [8, 9]], labels=[0, 1]))
        losses["label"].sum.backward()
        gradients.append([p.grad for p in model.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", sorted(name for name, family in FAMILIES.items() if family.packed))
def test_packed_equals_padded_in_logits_and_gradients(
    kind: str, family_folder: Callable[[str], Path], pack: Callable[..., Batch]
) -> None:
    random = torch.Generator().manual_seed(2)
    batch = pack([torch.randint(5, 100, (n,), generator=random).tolist() for n in (60, 5, 31, 32)], labels=[0, 1, 1, 0])
    folder, logits, gradients = family_folder(kind), [], []
    for packing in ("packed", "padded"):
        torch.manual_seed(3)
        loaded = load_encoder(folder, EncoderSettings(encoder="x", packing=packing), (0, -1))
        model = build_classifier(loaded, "pooler", "concat", 2).eval()
        losses, found = model.losses(batch)
        (losses["label"].sum / losses["label"].count).backward()
        logits.append(found)
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(*logits, rtol=1e-5, atol=1e-5)
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-5, atol=1e-5, msg=name)
