"""Attention over a packed row on a GPU: FlashAttention by variable lengths, which moves no token and pads nothing.

The kernels are those of `torch.nn.attention.varlen`, called below their autograd, because the layer written by hand has
a backward pass of its own. A GPU gets them only if they give there what plain attention gives (`usable`).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from doctune.tensors import Batch

HALF = (torch.bfloat16, torch.float16)
LARGEST_HEAD = 256
PROBE_LENGTHS, PROBE_REACH, PROBE_TOLERANCE = (3, 70, 1), 8, 0.03


@dataclass(frozen=True, slots=True)
class Spans:
    """Where the sequences of a packed row begin and end; planned on its device, without a copy to the host.

    `bounds`: int32 [N + 1], of the keys. `rows` [Q]: the tokens that attend, if only some do; then `order` sorts them
    by place, `back` undoes that, and `query_bounds` int32 [N + 1] are their sequences' bounds in that order.
    `top` is as in `Layout`, whose place this takes.
    """

    bounds: Tensor
    longest: int
    query_bounds: Tensor
    longest_query: int
    rows: Tensor | None = None
    order: Tensor | None = None
    back: Tensor | None = None
    top: Spans | None = None
    num_filling: ClassVar[int] = 0
    """Rows behind the last token: none, where `Layout` may have some."""

    @classmethod
    def of(cls, batch: Batch, rows: Tensor | None = None) -> Spans:
        """The spans of a batch, of whose highest layer only `rows` [Q] of the packed row are read, or all."""
        bounds, longest = batch.cu_seqlens.to(torch.int32), batch.max_seqlen
        if rows is None:
            return cls(bounds, longest, bounds, longest)
        ordered, order = torch.sort(rows)
        query_bounds = torch.searchsorted(ordered, batch.cu_seqlens).to(torch.int32)
        top = cls(bounds, longest, query_bounds, min(longest, len(rows)), rows, order, torch.argsort(order))
        return cls(bounds, longest, bounds, longest, top=top)


def usable(device: torch.device, head_size: int) -> bool:
    """Whether attention under the autocast that is on runs here by these kernels, and rightly."""
    if device.type != "cuda" or not torch.is_autocast_enabled("cuda"):
        return False
    fits = head_size % 8 == 0 and head_size <= LARGEST_HEAD and torch.get_autocast_dtype("cuda") in HALF
    return fits and _works(device, head_size, torch.get_autocast_dtype("cuda"))


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    spans: Spans,
    scale: float,
    dropout: float = 0.0,
    reach: int | None = None,
) -> tuple[Tensor, list[Tensor]]:
    """Attention of queries [Q, heads, d], in the order of their places, to keys and values [T, heads, d].

    Also gives what the backward pass needs. `reach`: how far a local layer sees to each side.
    """
    out, logsumexp, state, offset, _ = torch.ops.aten._flash_attention_forward(
        query, key, value, spans.query_bounds, spans.bounds, spans.longest_query, spans.longest, dropout, False, False,
        scale=scale, **_window(reach),
    )  # fmt: skip
    return out, [query, key, value, out, logsumexp, state, offset]


def attend_backward(
    grad_out: Tensor,
    saved: Sequence[Tensor],
    spans: Spans,
    scale: float,
    dropout: float = 0.0,
    reach: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, given that of `attend`'s result."""
    query, key, value, out, logsumexp, state, offset = saved
    grads: tuple[Tensor, Tensor, Tensor] = torch.ops.aten._flash_attention_backward(
        grad_out, query, key, value, out, logsumexp, spans.query_bounds, spans.bounds, spans.longest_query,
        spans.longest, dropout, False, state, offset, scale=scale, **_window(reach),
    )  # fmt: skip
    return grads


class FlashAttention(torch.autograd.Function):
    """`attend` on all tokens of a packed row, for layers that autograd differentiates."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float, dropout: float,
        reach: int | None,
    ) -> Tensor:  # fmt: skip
        out, saved = attend(query, key, value, spans, scale, dropout, reach)
        ctx.call = (spans, scale, dropout, reach)
        ctx.save_for_backward(*saved)
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        return (*attend_backward(grad_out.contiguous(), ctx.saved_tensors, *ctx.call), None, None, None, None)


def _window(reach: int | None) -> dict[str, int]:
    return {} if reach is None else {"window_size_left": reach, "window_size_right": reach}


@functools.cache
def _works(device: torch.device, head_size: int, dtype: torch.dtype) -> bool:
    """Compare with plain attention in float32, forward and backward, whole and local, some rows and all."""
    random = torch.Generator(device).manual_seed(0)
    total, bounds = sum(PROBE_LENGTHS), torch.tensor([0, *PROBE_LENGTHS], device=device).cumsum(0)
    shape = (total, 2, head_size)
    q, k, v, g = (torch.randn(shape, generator=random, device=device).to(dtype) for _ in range(4))
    of = torch.repeat_interleave(torch.arange(len(PROBE_LENGTHS), device=device), bounds.diff(), output_size=total)
    place = torch.arange(total, device=device)
    spans = Spans(bounds.to(torch.int32), max(PROBE_LENGTHS), bounds.to(torch.int32), max(PROBE_LENGTHS))
    try:
        with torch.inference_mode(False), torch.autocast(device.type, enabled=False):
            for reach in (None, PROBE_REACH):
                apart = of[:, None] != of[None, :]
                if reach is not None:
                    apart |= (place[:, None] - place[None, :]).abs() > reach
                with torch.enable_grad():
                    leaves = (q.float(), k.float(), v.float())
                    for leaf in leaves:
                        leaf.requires_grad_()
                    plain = plain_attention(*leaves, apart)
                    expected = torch.autograd.grad(plain, leaves, g.float())
                found, saved = attend(q, k, v, spans, head_size**-0.5, reach=reach)
                grads = attend_backward(g, saved, spans, head_size**-0.5, reach=reach)
                for ours, theirs in zip((found, *grads), (plain, *expected), strict=True):
                    if not (ours - theirs).norm() <= PROBE_TOLERANCE * theirs.norm():
                        return False
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return False  # a build without these kernels, a card too old for them, or other arguments
    return True


def plain_attention(query: Tensor, key: Tensor, value: Tensor, apart: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v of [T, heads, d]; `apart` [T, T] marks pairs that do not see each other."""
    scores = torch.einsum("qhd,khd->hqk", query, key) * query.shape[-1] ** -0.5
    weights = torch.softmax(scores.masked_fill(apart, float("-inf")), dim=-1)
    return torch.einsum("hqk,khd->qhd", weights, value)
