"""Packed equals padded equals transformers itself: hidden states and gradients, fp32 1e-5, for every family."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from doctune.encoders import attention
from doctune.encoders.base import FAMILIES, chosen_layers
from doctune.encoders.layout import ROW_GRANULARITY, ROW_GRANULARITY_OF_ONE_TEXT
from doctune.encoders.load import Loaded, load_encoder, read_shape
from doctune.errors import ConfigError
from doctune.settings import EncoderSettings
from doctune.tensors import Batch

LENGTHS = (7, 50, 1, 33, 16, 17, 50, 3)
FAST = ("bert", "camembert", "electra", "roberta", "xlm-roberta")
PACKED = [name for name, family in FAMILIES.items() if family.packed]


@pytest.fixture(scope="module")
def batch(pack: Callable[..., Batch]) -> Batch:
    random = torch.Generator().manual_seed(1)
    return pack([torch.randint(5, 100, (n,), generator=random).tolist() for n in LENGTHS])


def load(folder: Path, packing: str = "auto", layers: tuple[int, ...] | str = "all") -> Loaded:
    loaded = load_encoder(folder, EncoderSettings(encoder=str(folder), packing=packing), layers)
    loaded.encoder.eval()
    return loaded


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_every_layer_equals_transformers_one_sequence_at_a_time(
    kind: str, family_folder: Callable[[str], Path], batch: Batch
) -> None:
    encoder = load(family_folder(kind)).encoder
    assert encoder.packing == ("packed" if kind in PACKED else "padded")
    reference = AutoModel.from_pretrained(family_folder(kind), attn_implementation="eager").eval()
    with torch.no_grad():
        states = encoder(batch)
        starts = batch.cu_seqlens.tolist()
        for start, stop in itertools.pairwise(starts):
            output = reference(input_ids=batch.input_ids[start:stop].unsqueeze(0), output_hidden_states=True)
            for ours, theirs in zip(states.layers, output.hidden_states[1:], strict=True):
                torch.testing.assert_close(ours[start:stop], theirs[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", PACKED)
def test_packed_equals_padded_in_states_and_gradients(
    kind: str, family_folder: Callable[[str], Path], batch: Batch
) -> None:
    gradients, outputs = [], []
    weights = torch.randn(batch.num_tokens, 32, generator=torch.Generator().manual_seed(2))
    for packing in ("packed", "padded"):
        encoder = load(family_folder(kind), packing).encoder
        states = encoder(batch)
        outputs.append(states.layers)
        sum((layer * weights).sum() * (place + 1) for place, layer in enumerate(states.layers)).backward()
        gradients.append({name: p.grad for name, p in encoder.named_parameters()})
    for packed, padded in zip(*outputs, strict=True):
        torch.testing.assert_close(packed, padded, rtol=1e-5, atol=1e-5)
    scale = max(g.abs().max() for g in gradients[1].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-5, atol=float(1e-5 * scale), msg=name)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_reading_some_rows_of_the_last_layer_is_the_same_as_reading_all(
    kind: str, family_folder: Callable[[str], Path], batch: Batch
) -> None:
    """States and gradients; families with fast layers compute no other rows."""
    rows = torch.tensor([0, 7, 8, 60, 61, 100, 176])
    weights = torch.randn(len(rows), 32, generator=torch.Generator().manual_seed(3))
    gradients, outputs = [], []
    for narrow in (False, True):
        encoder = load(family_folder(kind), layers=(-1,)).encoder
        seen: list[int] = []
        if kind in FAST:
            encoder.model.encoder.layer[-1].register_forward_hook(lambda m, a, o, to=seen: to.append(o.shape[1]))
        x = encoder.read(batch, rows) if narrow else encoder(batch).layers[0][rows]
        whole = -(-batch.num_tokens // ROW_GRANULARITY) * ROW_GRANULARITY
        assert seen == ([] if kind not in FAST else [len(rows) if narrow else whole])
        (x * weights).sum().backward()
        outputs.append(x)
        gradients.append({name: p.grad for name, p in encoder.named_parameters() if p.grad is not None})
        with torch.no_grad():
            assert len(encoder(batch).layers[0]) == batch.num_tokens
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-5, atol=1e-5)
    assert gradients[0].keys() == gradients[1].keys()
    scale = max(g.abs().max() for g in gradients[0].values())
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradient, gradients[0][name], rtol=1e-5, atol=float(1e-5 * scale), msg=name)


def test_recomputed_activations_are_those_of_all_rows(family_folder: Callable[[str], Path], batch: Batch) -> None:
    rows = torch.tensor([0, 7, 60])
    gradients = []
    for recompute in (False, True):
        encoder = load_encoder(family_folder("bert"), EncoderSettings(encoder="x", dropout=0.0), (-1,)).encoder.train()
        if recompute:
            assert encoder.recompute_activations()
        encoder.read(batch, rows).square().sum().backward()
        gradients.append([p.grad for p in encoder.parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(recomputed, plain, rtol=1e-4, atol=1e-6)


def test_attention_with_dropout_is_the_same_function_when_nothing_is_dropped(
    family_folder: Callable[[str], Path], batch: Batch
) -> None:
    """The twin through autograd, used with attention dropout, at a rate too small to drop anything."""
    folder = family_folder("modernbert")
    plain, twin = (
        load_encoder(folder, EncoderSettings(encoder="x", attention_dropout=rate, dropout=0.0), (-1,)).encoder
        for rate in (0.0, 1e-12)
    )
    outputs = []
    for encoder in (plain, twin):
        encoder.train()
        states = encoder(batch).layers[0]
        states.square().sum().backward()
        outputs.append((states.detach(), encoder.model.layers[1].attn.Wqkv.weight.grad))
    for ours, theirs in zip(*outputs, strict=True):  # 1e-5 of the largest: gradients are up to 19 here
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=float(1e-5 * (1 + theirs.abs().max())))


@pytest.mark.parametrize("kind", PACKED)
def test_long_sequences_take_the_other_path_to_the_same_result(
    kind: str, family_folder: Callable[[str], Path], batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = []
    for longest in (1024, 8):
        monkeypatch.setattr(attention, "LONGEST_WITH_SCORES", longest)
        encoder = load(family_folder(kind)).encoder
        states = encoder(batch)
        torch.stack(states.layers).square().sum().backward()
        results.append(
            [*(x.detach() for x in states.layers), *(p.grad for p in encoder.parameters() if p.grad is not None)]
        )
    for fast, plain in zip(*results, strict=True):
        torch.testing.assert_close(fast, plain, rtol=1e-4, atol=float(1e-5 * (1 + plain.abs().max())))


def test_attention_dropout_drops(family_folder: Callable[[str], Path], batch: Batch) -> None:
    settings = EncoderSettings(encoder="x", attention_dropout=0.5, dropout=0.0)
    encoder = load_encoder(family_folder("bert"), settings, (-1,)).encoder.train()
    first, second = encoder(batch).layers[0], encoder(batch).layers[0]
    assert not torch.equal(first, second)
    encoder.eval()
    assert torch.equal(encoder(batch).layers[0], encoder(batch).layers[0])


def test_the_order_of_sequences_does_not_matter(
    family_folder: Callable[[str], Path], pack: Callable[..., Batch]
) -> None:
    encoder = load(family_folder("bert"), layers=(-1,)).encoder
    sequences = [[5 + i] * n for i, n in enumerate((4, 40, 9))]
    there = encoder(pack(sequences)).layers[0].split([4, 40, 9])
    back = encoder(pack(sequences[::-1])).layers[0].split([9, 40, 4])
    for ours, theirs in zip(there, reversed(back), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_layers_above_the_highest_one_used_are_gone(
    kind: str, family_folder: Callable[[str], Path], batch: Batch
) -> None:
    whole = load(family_folder(kind)).encoder(batch).layers
    cut = load(family_folder(kind), layers=(1, 0)).encoder
    names = [name for name, _ in cut.named_parameters()]
    if not FAMILIES[kind].shared_layers:
        assert not any(cut.layer_of(name) == 2 for name in names)
    first, second = cut(batch).layers
    torch.testing.assert_close(first, whole[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(second, whole[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_every_parameter_has_a_layer(kind: str, family_folder: Callable[[str], Path]) -> None:
    encoder = load(family_folder(kind)).encoder
    found = {encoder.layer_of(name) for name, _ in encoder.named_parameters()}
    assert {-1, 2} <= found
    assert FAMILIES[kind].shared_layers or {0, 1} <= found
    assert not any("embed" in name and encoder.layer_of(name) != -1 for name, _ in encoder.named_parameters())


def test_an_encoder_that_would_be_wrong_when_packed_is_padded(
    family_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A family whose positions are misunderstood fails the probe."""
    import dataclasses

    monkeypatch.setitem(FAMILIES, "roberta", dataclasses.replace(FAMILIES["roberta"], position_offset=False))
    assert load(family_folder("roberta")).encoder.packing == "padded"
    with pytest.raises(ConfigError, match="does not run packed"):
        load(family_folder("roberta"), "packed")


def test_chosen_layers() -> None:
    assert chosen_layers((-1, 0), 12) == (11, 0)
    assert chosen_layers("all", 3) == (0, 1, 2)
    with pytest.raises(IndexError, match="layer 12 does not exist"):
        chosen_layers((12,), 12)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_shape(kind: str, family_folder: Callable[[str], Path], pack: Callable[..., Batch]) -> None:
    """As many positions as the shape says can be used, and no more are promised."""
    shape = read_shape(family_folder(kind))
    assert (shape.vocab_size, shape.hidden_size) == (100, 32)
    encoder = load(family_folder(kind), layers=(-1,)).encoder
    assert encoder(pack([[7] * shape.max_seq_len])).layers[0].isfinite().all()
    learnt = [name for name, _ in encoder.named_parameters() if "position_embeddings.weight" in name]
    if learnt:
        rows = encoder.get_parameter(learnt[0]).shape[0]
        assert shape.max_seq_len == rows - encoder.position_offset


@pytest.mark.parametrize("kind", sorted(FAST))
def test_one_short_text_is_answered_in_few_rows(
    kind: str, family_folder: Callable[[str], Path], pack: Callable[..., Batch]
) -> None:
    """Where nothing is learnt a text of twelve tokens goes through as 16 rows and not as 64, with the same states."""
    encoder, short = load(family_folder(kind), layers=(-1,)).encoder, pack([list(range(5, 17))])
    rows: list[int] = []
    encoder.model.encoder.layer[0].register_forward_hook(lambda module, args, output: rows.append(output.shape[1]))
    with torch.inference_mode():
        answered = encoder(short).layers[0]
    with torch.no_grad():
        learnt = encoder(short).layers[0]
    assert rows == [ROW_GRANULARITY_OF_ONE_TEXT, ROW_GRANULARITY]
    torch.testing.assert_close(answered, learnt, rtol=1e-5, atol=1e-6)
