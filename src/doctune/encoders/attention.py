"""Attention over a packed row: sequences of near-equal length are gathered into buckets and multiplied in batches.

transformers calls `packed_attention` through its attention interface with q, k, v as [1, heads, T, head_dim] and the
`layout` keyword of the model call. Nothing attends across sequences, and no token is a pad on the way out.
The backward pass is written by hand: autograd through slices would fill a whole-size tensor of zeros per bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from doctune.tensors import Batch

NAME = "doctune_packed"
GRANULARITY = 16
# Elements of one bucket's score matrix: keeps a bucket's working set near the processor's caches.
SCORES_PER_BUCKET = 1 << 22
# Beyond this length the probabilities, which the fast path keeps for its backward pass, would fill the memory.
LONG = 1024


@dataclass(frozen=True, slots=True)
class Bucket:
    """Sequences attended together.

    `index` [n, L] gathers their tokens, `padded` [n, 1, 1, L] marks places past the end, and `kept` are the flat
    positions of the real tokens in [n * L]; both are None if there is no pad.
    """

    index: Tensor
    padded: Tensor | None
    kept: Tensor | None


@dataclass(frozen=True, slots=True)
class Layout:
    """How a batch's sequences are bucketed; made once a batch, used by every layer."""

    buckets: tuple[Bucket, ...]
    longest: int

    @classmethod
    def of(cls, batch: Batch, num_heads: int) -> Layout:
        """Plan the buckets of a batch from its sequence lengths."""
        return cls.plan(batch.lengths, num_heads, batch.input_ids.device)

    @classmethod
    def plan(cls, lengths: Sequence[int], num_heads: int, device: torch.device) -> Layout:
        """Sort by length, round up to multiples of 16, and cut where the scores would leave the caches."""
        starts, total = [], 0
        for length in lengths:
            starts.append(total)
            total += length
        order = sorted(range(len(lengths)), key=lambda i: lengths[i])
        groups: dict[int, list[int]] = {}
        for i in order:
            groups.setdefault(-(-lengths[i] // GRANULARITY) * GRANULARITY, []).append(i)
        buckets = []
        for rounded, members in groups.items():
            per_bucket = max(1, SCORES_PER_BUCKET // (num_heads * rounded * rounded))
            for first in range(0, len(members), per_bucket):
                chosen = members[first : first + per_bucket]
                buckets.append(_bucket([starts[i] for i in chosen], [lengths[i] for i in chosen], device))
        return cls(tuple(buckets), max(lengths))


def _bucket(starts: list[int], lengths: list[int], device: torch.device) -> Bucket:
    longest = max(lengths)
    places = torch.arange(longest)
    length = torch.tensor(lengths).unsqueeze(1)
    real = places < length
    # Places past the end read the sequence's first token: any finite value does, for they are masked out.
    index = torch.tensor(starts).unsqueeze(1) + torch.where(real, places, 0)
    if bool(real.all()):
        return Bucket(index.to(device), None, None)
    return Bucket(index.to(device), ~real[:, None, None, :].to(device), real.flatten().nonzero().flatten().to(device))


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer over a packed row.

    q, k, v are [1, heads, T, head_dim]; the result is [1, T, heads, head_dim], as transformers expects it.
    `sliding_window` is one more than the reach to each side (ModernBERT's local layers). Source of the calling
    convention: transformers' `AttentionInterface`.
    """
    layout: Layout = kwargs["layout"]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    reach = None if sliding_window is None else sliding_window - 1
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if dropout > 0.0 or layout.longest > LONG:
        return _through_autograd(q, k, v, layout, scale, dropout, reach).unsqueeze(0), None
    out: Tensor = _PackedAttention.apply(q, k, v, layout, scale, reach)  # type: ignore[no-untyped-call]
    return out.unsqueeze(0), None


def _gather(rows: Tensor, bucket: Bucket) -> Tensor:
    """[T, heads, d] -> [n, heads, L, d]."""
    n, length = bucket.index.shape
    taken = rows.index_select(0, bucket.index.flatten())
    return taken.view(n, length, *rows.shape[1:]).transpose(1, 2)


def _scatter(into: Tensor, values: Tensor, bucket: Bucket) -> None:
    """[n, heads, L, d] -> its rows of [T, heads, d]; pads are dropped."""
    index, flat = _real(values, bucket)
    into.index_copy_(0, index, flat)


def _real(values: Tensor, bucket: Bucket) -> tuple[Tensor, Tensor]:
    """[n, heads, L, d] -> the rows of the real tokens and where they stand in the packed row."""
    flat, index = values.transpose(1, 2).flatten(0, 1), bucket.index.flatten()
    if bucket.kept is None:
        return index, flat
    return index.index_select(0, bucket.kept), flat.index_select(0, bucket.kept)


def _far(bucket: Bucket, reach: int | None) -> Tensor | None:
    """Which pairs of places [L, L] a local layer does not connect; None if it connects all."""
    length = bucket.index.shape[1]
    if reach is None or length <= reach + 1:
        return None
    place = torch.arange(length, device=bucket.index.device)
    return (place[:, None] - place[None, :]).abs() > reach


def _probabilities(q: Tensor, k: Tensor, bucket: Bucket, scale: float, reach: int | None) -> Tensor:
    """softmax(q k^T * scale) [n, heads, L, L], in float32 as transformers computes it, returned in q's type."""
    scores = torch.matmul(q * scale, k.transpose(-1, -2)).float()
    # The lowest finite number and not -inf: a pad row of a local layer may see no key at all, and must not become NaN.
    lowest = torch.finfo(torch.float32).min
    if bucket.padded is not None:
        scores.masked_fill_(bucket.padded, lowest)
    far = _far(bucket, reach)
    if far is not None:
        scores.masked_fill_(far, lowest)
    return torch.softmax(scores, dim=-1).to(q.dtype)


class _PackedAttention(torch.autograd.Function):
    """Attention without dropout; saves the probabilities, as batches of short sequences are small."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, reach: int | None
    ) -> Tensor:
        out = query.new_empty(query.shape)
        saved: list[Tensor] = []
        for bucket in layout.buckets:
            q, k, v = (_gather(x, bucket) for x in (query, key, value))
            p = _probabilities(q, k, bucket, scale, reach)
            _scatter(out, torch.matmul(p, v), bucket)
            saved += (q, k, v, p)
        ctx.layout, ctx.scale = layout, scale
        ctx.save_for_backward(*saved)
        return out

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        grads = [grad_out.new_empty(grad_out.shape) for _ in range(3)]
        saved = ctx.saved_tensors
        for number, bucket in enumerate(ctx.layout.buckets):
            q, k, v, p = saved[4 * number : 4 * number + 4]
            g = _gather(grad_out, bucket)
            if bucket.padded is not None:
                # A pad row gathered the gradient of a real token: it must not count twice.
                g = g.masked_fill(bucket.padded.transpose(-1, -2), 0.0)
            grad_p = torch.matmul(g, v.transpose(-1, -2))
            inner = torch.einsum("nhij,nhij->nhi", grad_p, p).unsqueeze(-1)
            grad_scores = (grad_p.sub_(inner)).mul_(p).mul_(ctx.scale)
            _scatter(grads[0], torch.matmul(grad_scores, k), bucket)
            _scatter(grads[1], torch.matmul(grad_scores.transpose(-1, -2), q), bucket)
            _scatter(grads[2], torch.matmul(p.transpose(-1, -2), g), bucket)
        return (*grads, None, None, None)


def _through_autograd(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, dropout: float, reach: int | None
) -> Tensor:
    """The plain twin, by PyTorch's own attention and autograd: with dropout, and for long sequences in O(L) memory."""
    parts, order = [], []
    for bucket in layout.buckets:
        q, k, v = (_gather(x, bucket) for x in (query, key, value))
        mask = _mask(bucket, reach, q.dtype)
        index, flat = _real(scaled_dot_product_attention(q, k, v, mask, dropout, scale=scale), bucket)
        parts.append(flat)
        order.append(index)
    return torch.cat(parts).index_select(0, torch.argsort(torch.cat(order)))


def _mask(bucket: Bucket, reach: int | None, dtype: torch.dtype) -> Tensor | None:
    """What to add to the scores, or None: as `_probabilities` masks them."""
    hidden, far = bucket.padded, _far(bucket, reach)
    if far is not None:
        hidden = far if hidden is None else hidden | far
    if hidden is None:
        return None
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)
