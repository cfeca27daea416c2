"""The BiLSTM with self-attention: its formula, and that a document's vector is its own affair."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from doctune.encoders.load import load_encoder
from doctune.heads.bilstm import BiLstm
from doctune.models.classifier import Classifier, build_classifier
from doctune.settings import BiLstmSettings, EncoderSettings, FeatureSettings
from doctune.settings.implementations import Part
from doctune.tensors import Batch, HiddenStates

SIZES = BiLstmSettings(lstm_hidden=5, attention_hops=3, attention_size=7)
LENGTHS = (4, 1, 9, 4, 2)


def states(lengths: tuple[int, ...], size: int = 6) -> HiddenStates:
    torch.manual_seed(1)
    bounds = torch.tensor([0, *lengths]).cumsum(0)
    return HiddenStates((torch.randn(sum(lengths), size),), bounds, torch.arange(len(lengths)), len(lengths))


def test_the_formula_of_lin_et_al() -> None:
    torch.manual_seed(0)
    module, given = BiLstm(6, SIZES), states(LENGTHS)
    vectors = module(given.layers[0], given)
    assert vectors.shape == (5, module.output_size) == (5, 3 * 10)
    for vector, x in zip(vectors, given.layers[0].split(LENGTHS), strict=True):
        h = module.lstm(x)[0]
        attention = torch.softmax(module.linear_second.weight @ torch.tanh(module.linear_first.weight @ h.T), dim=1)
        torch.testing.assert_close(vector, (attention @ h).flatten(), atol=1e-6, rtol=1e-5)


def test_gradients_reach_every_token_and_weight() -> None:
    module, given = BiLstm(6, SIZES), states(LENGTHS)
    x = given.layers[0].clone().requires_grad_()
    module(x, given).square().sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum(dim=1) > 0).all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_it_computes_in_float32_where_the_encoder_does_not() -> None:
    module, given = BiLstm(6, SIZES), states(LENGTHS)
    rounded = given.layers[0].bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        vectors = module(rounded, given)
    assert vectors.dtype == torch.float32
    torch.testing.assert_close(vectors, module(rounded.float(), given), atol=0, rtol=0)


@pytest.fixture
def classifier(tiny_encoder: Path) -> Callable[..., Classifier]:
    def make(kind: str) -> Classifier:
        torch.manual_seed(0)
        loaded = load_encoder(tiny_encoder, EncoderSettings(encoder=str(tiny_encoder)), "all")
        return build_classifier(loaded, "auto", kind, 3, head=Part(BiLstm, SIZES)).eval()

    return make


@pytest.mark.parametrize("kind", ["concat", "mean", "max", "attention"])
def test_other_documents_of_a_batch_change_no_logits(
    classifier: Callable[..., Classifier], pack: Callable[..., Batch], kind: str
) -> None:
    model = classifier(kind)
    documents = [[2, *range(10, 10 + length), 3] for length in (3, 40, 1, 12, 12, 0)]
    with torch.no_grad():
        together = model(pack(documents))
        alone = torch.cat([model(pack([document])) for document in documents])
        turned = model(pack(documents[::-1])).flip(0)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(together, turned, atol=1e-5, rtol=1e-5)


def test_layers_come_before_tokens(classifier: Callable[..., Classifier], pack: Callable[..., Batch]) -> None:
    model, batch = classifier("mean"), pack([[2, 10, 11, 3], [2, 12, 3]])
    with torch.no_grad():
        hidden = model.encoder(batch)
        mean = (hidden.layers[0] + hidden.layers[1]) / 2
        torch.testing.assert_close(model.features(batch), model.task.token_pooling(mean, hidden))


def test_the_sizes_are_those_of_the_settings() -> None:
    assert FeatureSettings().bilstm is None
    given = FeatureSettings(head="bilstm", lstm_hidden=5, attention_hops=3, attention_size=7)
    assert given.bilstm == SIZES
    assert FeatureSettings(head="bilstm").bilstm == BiLstmSettings()
