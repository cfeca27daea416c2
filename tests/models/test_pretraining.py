"""Masked logits, losses and gradients equal transformers' own classes; what is saved loads there without a gap."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM, AutoModelForPreTraining

from doctune.encoders.base import FAMILIES
from doctune.encoders.embedding import RowEmbedding
from doctune.errors import ConfigError
from doctune.models.pretrained_folder import save_pretrained
from doctune.models.pretraining import Objective, PretrainingLoaded, load_pretraining
from doctune.settings import EncoderSettings
from doctune.tensors import Batch, MaskedBatch
from doctune.text.tokenizer import TextTokenizer

LENGTHS = (7, 40, 3, 16)
FAMILY_NAMES = sorted(FAMILIES)


@pytest.fixture(scope="module")
def batch(pack: Callable[..., Batch]) -> MaskedBatch:
    random = torch.Generator().manual_seed(1)
    plain = pack([torch.randint(5, 100, (n,), generator=random).tolist() for n in LENGTHS])
    positions = torch.tensor([1, 2, 9, 30, 44, 48, 51, 60])
    return MaskedBatch(
        **{field.name: getattr(plain, field.name) for field in fields(Batch)},
        masked_positions=positions,
        masked_labels=torch.randint(5, 100, (8,), generator=random),
        pair_labels=torch.tensor([0, 1, 1, 0]),
    )


def load(folder: Path, objective: Objective = "none", dropout: float = 0.0) -> PretrainingLoaded:
    torch.manual_seed(0)
    return load_pretraining(folder, EncoderSettings(encoder=str(folder), dropout=dropout), objective)


def split(batch: Batch, values: torch.Tensor) -> list[torch.Tensor]:
    return [values[a:b] for a, b in itertools.pairwise(batch.cu_seqlens.tolist())]


@pytest.mark.parametrize("kind", FAMILY_NAMES)
def test_logits_of_masked_tokens_and_gradients_equal_transformers(
    kind: str, family_folder: Callable[..., Path], batch: MaskedBatch
) -> None:
    """One sequence at a time through transformers' whole head, tied word embeddings and their gradient included."""
    folder = family_folder(kind, "AutoModelForMaskedLM")
    model = load(folder).model.train()
    reference = AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="eager").eval()
    whole = torch.cat([reference(input_ids=ids.unsqueeze(0)).logits[0] for ids in split(batch, batch.input_ids)])
    expected = whole[batch.masked_positions]
    words, pairs = model(batch)
    assert pairs is None
    assert words.shape == (8, 100)
    torch.testing.assert_close(words, expected, rtol=1e-5, atol=1e-5)

    loss = model.losses(batch)[0]["mlm"]
    (loss.sum / loss.count).backward()
    torch.nn.functional.cross_entropy(expected, batch.masked_labels).backward()
    theirs = {name: p.grad for name, p in reference.named_parameters() if p.grad is not None}
    table = model.encoder.model.get_input_embeddings()
    assert isinstance(table, RowEmbedding)
    assert table.shared
    own = reference.get_input_embeddings().weight.grad
    torch.testing.assert_close(table.weight.grad, own, rtol=1e-4, atol=1e-6)
    assert len(theirs) > 20
    norm = sum(float(g.square().sum()) for g in theirs.values()) ** 0.5
    ours = sum(float(p.grad.square().sum()) for p in model.parameters() if p.grad is not None) ** 0.5
    assert ours == pytest.approx(norm, rel=1e-4)


def test_gradients_add_up_over_the_batches_of_a_window(family_folder: Callable[..., Path], batch: MaskedBatch) -> None:
    """The row-wise gradient of tied embeddings is added to the decoder's dense one, whichever comes first."""
    model = load(family_folder("bert", "AutoModelForMaskedLM")).model
    weight = model.encoder.model.get_input_embeddings().weight
    gradients = []
    for times in (1, 2):
        for _ in range(times):
            model.losses(batch)[0]["mlm"].sum.backward()
        gradients.append(weight.grad.clone())
        model.zero_grad(set_to_none=True)
    torch.testing.assert_close(gradients[1], 2 * gradients[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["bert", "albert"])
def test_pairs_equal_transformers(kind: str, family_folder: Callable[..., Path], batch: MaskedBatch) -> None:
    folder = family_folder(kind, "AutoModelForPreTraining")
    loaded = load(folder, "nsp")
    assert loaded.new_heads == ()
    reference = AutoModelForPreTraining.from_pretrained(folder).eval()
    outputs = [reference(input_ids=ids.unsqueeze(0)) for ids in split(batch, batch.input_ids)]
    expected = torch.cat([o.get("seq_relationship_logits", o.get("sop_logits")) for o in outputs])
    _, pairs = loaded.model.eval()(batch)
    torch.testing.assert_close(pairs, expected, rtol=1e-5, atol=1e-5)
    losses, _ = loaded.model.losses(batch)
    assert set(losses) == {"mlm", "pair"} == set(loaded.model.counts(batch))
    assert {name: loss.count.item() for name, loss in losses.items()} == loaded.model.counts(batch) == {
        "mlm": 8.0, "pair": 4.0,
    }  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path) -> TextTokenizer:
    return TextTokenizer.load(tiny_encoder)


@pytest.mark.parametrize("objective", ["none", "nsp"])
@pytest.mark.parametrize("kind", FAMILY_NAMES)
def test_a_saved_model_loads_in_transformers_without_a_gap_and_here_as_it_was(
    kind: str, objective: Objective, family_folder: Callable[..., Path], tokenizer: TextTokenizer,
    batch: MaskedBatch, tmp_path: Path,
) -> None:  # fmt: skip
    loaded = load(family_folder(kind, "AutoModelForMaskedLM"), objective)
    with torch.no_grad():
        for parameter in loaded.model.parameters():
            parameter.add_(0.01)
    folder = tmp_path / "model"
    save_pretrained(loaded.model, loaded.config, tokenizer, {"steps": 1}, None, folder)

    reference, info = AutoModelForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    _, info = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert not {name for name in info["missing_keys"] if "pooler" not in name or (objective, kind) == ("nsp", "bert")}

    again = load(folder, objective)
    assert again.new_heads == ()
    pairs: Sequence[Any] = loaded.model.eval()(batch), again.model.eval()(batch)
    torch.testing.assert_close(pairs[1][0], pairs[0][0], rtol=0, atol=0)
    if objective == "nsp":
        torch.testing.assert_close(pairs[1][1], pairs[0][1], rtol=0, atol=0)
    ids = split(batch, batch.input_ids)[1]
    theirs = reference.eval()(input_ids=ids.unsqueeze(0)).logits[0]
    inside = (batch.masked_positions >= 7) & (batch.masked_positions < 47)
    torch.testing.assert_close(
        pairs[0][0][inside], theirs[batch.masked_positions[inside] - 7], rtol=1e-5, atol=1e-5
    )  # fmt: skip


def test_an_encoder_without_heads_gets_new_ones_and_says_so(family_folder: Callable[..., Path]) -> None:
    loaded = load(family_folder("bert"), "nsp")
    assert loaded.new_heads == ("masked words", "sentence pairs")
    assert loaded.model.mlm.embeddings() is loaded.model.encoder.model.get_input_embeddings().weight


def test_an_electra_without_generator_is_refused(family_folder: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match="discriminator is not trained by masked words"):
        load(family_folder("electra"))


def test_with_a_frozen_encoder_only_the_heads_learn(family_folder: Callable[..., Path], batch: MaskedBatch) -> None:
    model = load(family_folder("bert"), "nsp", dropout=0.1).model.train()
    model.freeze_encoder()
    assert not model.encoder.training
    losses, _ = model.losses(batch)
    sum(loss.sum for loss in losses.values()).backward()  # type: ignore[union-attr]
    learning = {name for name, p in model.named_parameters() if p.grad is not None}
    assert not any(name.startswith("encoder.") for name in learning)
    assert {"mlm.cls.predictions.bias", "pair_head.linear.weight", "pooler.dense.weight"} <= learning
    model.freeze_encoder(False)
    assert model.encoder.training
    assert all(p.requires_grad for p in model.parameters())
