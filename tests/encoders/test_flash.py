"""Attention by variable lengths: the way to its kernels on every machine, the kernels themselves where a GPU is."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from doctune.encoders import flash
from doctune.encoders.base import FAMILIES
from doctune.encoders.flash import Spans, plain_attention
from doctune.encoders.load import load_encoder
from doctune.encoders.packed import TransformersEncoder
from doctune.settings import EncoderSettings
from doctune.tensors import Batch

LENGTHS = (7, 50, 1, 33, 16, 17, 50, 3)
ROWS = (57, 0, 8, 9, 176, 60, 7)
"""Several rows of one sequence, one of others, none of some, in any order."""
PACKED = sorted(name for name, family in FAMILIES.items() if family.packed)


@pytest.fixture(scope="module")
def batch(pack: Callable[..., Batch]) -> Batch:
    random = torch.Generator().manual_seed(1)
    return pack([torch.randint(5, 100, (n,), generator=random).tolist() for n in LENGTHS])


@pytest.fixture
def spelled_out(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The kernels' work done sequence by sequence in plain PyTorch, on any device; tells how often it was asked for."""
    calls: list[int] = []

    def attend(
        query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float, dropout: float = 0.0,
        reach: int | None = None,
    ) -> tuple[Tensor, list[Tensor]]:  # fmt: skip
        calls.append(len(query))
        assert spans.bounds.dtype == spans.query_bounds.dtype == torch.int32
        assert len(query) == int(spans.query_bounds[-1])
        lengths, asking = spans.bounds.diff().tolist(), spans.query_bounds.diff().tolist()
        assert max(lengths) == spans.longest
        assert max(asking) <= spans.longest_query
        parts = zip(query.split(asking), key.split(lengths), value.split(lengths), strict=True)
        out = [plain_attention(q, k, v, too_far(q, k, reach)) for q, k, v in parts]
        assert scale == query.shape[-1] ** -0.5
        return torch.cat(out), [query, key, value]

    def attend_backward(
        grad_out: Tensor, saved: Sequence[Tensor], spans: Spans, scale: float, dropout: float = 0.0,
        reach: int | None = None,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        leaves = [x.detach().clone().requires_grad_() for x in saved]
        with torch.enable_grad():
            out, _ = attend(*leaves, spans, scale, dropout, reach)
        return torch.autograd.grad(out, leaves, grad_out)

    monkeypatch.setattr(flash, "attend", attend)
    monkeypatch.setattr(flash, "attend_backward", attend_backward)
    monkeypatch.setattr(flash, "usable", lambda device, head_size: True)
    yield calls
    assert calls


def too_far(query: Tensor, key: Tensor, reach: int | None) -> Tensor:
    """Where all tokens ask: which pairs are further apart than `reach`."""
    if reach is None:
        return torch.zeros(len(query), len(key), dtype=torch.bool)
    assert len(query) == len(key)
    place = torch.arange(len(key))
    return (place[:, None] - place[None, :]).abs() > reach


def load(folder: Path, packing: str = "auto", layers: tuple[int, ...] | str = "all") -> TransformersEncoder:
    settings = EncoderSettings(encoder=str(folder), packing=packing, dropout=0.0)
    return load_encoder(folder, settings, layers).encoder.train()


def run(encoder: TransformersEncoder, batch: Batch, rows: Tensor | None) -> list[Tensor]:
    """The states of all layers, or of some rows of the highest, and all gradients."""
    device = batch.input_ids.device
    states = torch.stack(encoder(batch).layers) if rows is None else encoder.read(batch, rows)
    random = torch.Generator().manual_seed(2)
    (states.float() * torch.randn(states.shape, generator=random).to(device)).sum().backward()
    return [states.detach(), *(p.grad for p in encoder.parameters() if p.grad is not None)]


@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("kind", PACKED)
def test_by_spans_as_by_buckets(
    kind: str, some: bool, family_folder: Callable[[str], Path], batch: Batch, monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    """States and gradients of every family, of all rows and of some of the highest layer."""
    rows, layers = (torch.tensor(ROWS), (-1,)) if some else (None, "all")
    buckets = run(load(family_folder(kind), layers=layers), batch, rows)
    calls = request.getfixturevalue("spelled_out")
    spans = run(load(family_folder(kind), layers=layers), batch, rows)
    assert len(buckets) == len(spans)
    scale = max(float(x.abs().max()) for x in buckets[1:])
    for place, (ours, theirs) in enumerate(zip(spans, buckets, strict=True)):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * (scale if place else 1.0))
    if some and kind in ("bert", "roberta"):
        assert len(ROWS) in calls  # the highest layer asked for those alone


def test_only_a_gpu_in_half_precision_has_them() -> None:
    assert not flash.usable(torch.device("cpu"), 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not flash.usable(torch.device("cpu"), 64)


@pytest.fixture
def gpu() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no GPU here")
    return torch.device("cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("some", [False, True])
@pytest.mark.parametrize("kind", PACKED)
def test_on_a_gpu_as_near_to_float32_as_autocast_is(
    kind: str, some: bool, family_folder: Callable[[str], Path], batch: Batch, gpu: torch.device
) -> None:
    rows, layers = (torch.tensor(ROWS).to(gpu), (-1,)) if some else (None, "all")
    results = []
    for packing, half in (("padded", False), ("padded", True), ("packed", True)):
        encoder = load(family_folder(kind), packing, layers).to(gpu)
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=half):
            assert flash.usable(gpu, 8) == half
            results.append(run(encoder, batch.to(gpu), rows))
    exact, autocast, ours = (torch.cat([x.float().flatten() for x in found[1:]]) for found in results)
    assert float((ours - exact).norm()) <= 2 * float((autocast - exact).norm()) + 1e-3 * float(exact.norm())
    assert float((results[2][0] - results[0][0]).norm()) <= 0.03 * float(results[0][0].norm())


@pytest.mark.gpu
def test_on_a_gpu_a_document_is_the_same_in_any_company(
    family_folder: Callable[[str], Path], batch: Batch, pack: Callable[..., Batch], gpu: torch.device
) -> None:
    encoder = load(family_folder("bert"), layers=(-1,)).to(gpu).eval()
    with torch.no_grad(), torch.autocast("cuda", dtype=torch.bfloat16):
        together = encoder(batch.to(gpu)).layers[0]
        for start, stop in itertools.pairwise(batch.cu_seqlens.tolist()):
            alone = encoder(pack([batch.input_ids[start:stop].tolist()]).to(gpu)).layers[0]
            torch.testing.assert_close(alone, together[start:stop], rtol=0.05, atol=0.05)


@pytest.mark.gpu
def test_on_a_gpu_dropout_keeps_its_share_and_its_gradient(
    family_folder: Callable[[str], Path], gpu: torch.device
) -> None:
    from doctune.encoders.dropout import dropped_and_added, scaled

    x, branch = torch.zeros(1000, 64, device=gpu), torch.ones(1000, 64, device=gpu)
    out, keep, scale = dropped_and_added(x, branch, 0.1)
    assert abs(float((out == 0).float().mean()) - 0.1) < 0.01
    torch.testing.assert_close(scaled(branch, keep, scale), out)


def probe() -> bool:
    with torch.inference_mode():  # as the first prediction of a process has it
        return flash._works.__wrapped__(torch.device("cpu"), 8, torch.bfloat16)


@pytest.mark.usefixtures("spelled_out")
def test_the_probe_takes_what_is_right_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe()
    attend, backward = flash.attend, flash.attend_backward
    wrong = {
        "attend": lambda *args, **kwargs: (1.1 * attend(*args, **kwargs)[0], attend(*args, **kwargs)[1]),
        "attend_backward": lambda *args, **kwargs: [1.1 * x for x in backward(*args, **kwargs)],
    }
    for name, function in wrong.items():
        with monkeypatch.context() as patch:
            patch.setattr(flash, name, function)
            assert not probe()


def test_the_probe_refuses_where_there_are_no_kernels() -> None:
    """On a processor PyTorch has none of them."""
    assert not probe()
