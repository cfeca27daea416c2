"""Attention over a packed row: sequences of near-equal length are gathered into buckets and multiplied in batches.

That is for processors; on a GPU in bf16 `encoders/flash.py` attends to the row as it is.

transformers calls `packed_attention` through its attention interface with q, k, v as [1, heads, T, head_dim] and the
`layout` keyword of the model call. Nothing attends across sequences, and no token is a pad on the way out.
The backward pass is written by hand: autograd through slices would fill a whole-size tensor of zeros per bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from doctune.encoders import flash
from doctune.encoders.flash import FlashAttention, Spans
from doctune.encoders.layout import Bucket, Layout, ended

NAME = "doctune_packed"
# Beyond this length the probabilities are computed again in the backward pass: kept, they would fill the memory.
KEPT = 128
# Beyond this length even one sequence's scores are too many: PyTorch's own attention, in O(L) memory.
LONGEST_WITH_SCORES = 1024


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
    layout: Layout | Spans = kwargs["layout"]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    reach = None if sliding_window is None else sliding_window - 1
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))
    if isinstance(layout, Spans):
        # Rotations may have made float32 of queries and keys.
        same = (q.to(v.dtype), k.to(v.dtype), v)
        attended: Tensor = FlashAttention.apply(*same, layout, scale, dropout, reach)  # type: ignore[no-untyped-call]
        return attended.unsqueeze(0), None
    if dropout > 0.0 or layout.longest > LONGEST_WITH_SCORES:
        return _through_autograd(q, k, v, layout, scale, dropout, reach).unsqueeze(0), None
    out: Tensor = _PackedAttention.apply(q, k, v, layout, scale, reach)  # type: ignore[no-untyped-call]
    return out.unsqueeze(0), None


def attend_rows(query: Tensor | None, joined: Tensor, layout: Layout | Spans) -> tuple[Tensor, list[Tensor]]:
    """Attention of the tokens that attend, [Q, H], and what its backward pass needs.

    `joined` [T, 3, heads, d] has query, key and value of all tokens; or [T, 2, heads, d] key and value, and `query`
    [Q, heads, d] those of the layout's `rows`.
    """
    scale = joined.shape[-1] ** -0.5
    if isinstance(layout, Spans):
        own, key, value = (query, *joined.unbind(1)) if query is not None else joined.unbind(1)
        out, saved = flash.attend(own if layout.order is None else own[layout.order], key, value, layout, scale)
        return (out if layout.back is None else out[layout.back]).flatten(1), saved
    places = joined.index_select(0, layout.keys.rows)
    if query is None:
        own, key, value = places.unbind(1)
    else:
        own, (key, value) = query.index_select(0, layout.queries.rows), places.unbind(1)
    out, saved = attend(own, key, value, layout, scale)
    return out.index_select(0, layout.queries.of).flatten(1), saved


def attend_rows_backward(
    branch: Tensor, weight: Tensor, saved: Sequence[Tensor], layout: Layout | Spans, heads: int
) -> tuple[Tensor | None, Tensor]:
    """The gradients of `attend_rows`' query, None if it had none, and of `joined` [T, 3 * H or 2 * H].

    The gradient of its result is `branch` [Q, H] times `weight` [H, H].
    """
    size = weight.shape[1]
    shape, scale = (-1, heads, size // heads), (size // heads) ** -0.5
    if isinstance(layout, Spans):
        on_context = torch.mm(branch, weight).view(shape)
        on_context = on_context if layout.order is None else on_context[layout.order]
        on_query, on_key, on_value = flash.attend_backward(on_context, saved, layout, scale)
        if layout.back is None:
            return None, torch.stack((on_query, on_key, on_value), 1).flatten(1)
        return on_query[layout.back].flatten(1), torch.stack((on_key, on_value), 1).flatten(1)
    # Here and below one row of zeros more: pads read it, and so do rows that only fill up.
    on_context = branch.new_empty(len(branch) + 1, size)
    torch.mm(branch, weight, out=on_context[:-1])
    on_context[-1] = 0
    gathered = on_context.view(shape).index_select(0, layout.queries.rows_or_end)
    joined = gathered.new_empty(len(layout.keys.rows) + 1, 3 if layout.rows is None else 2, *gathered.shape[1:])
    joined[-1] = 0
    query = joined[:, 0] if layout.rows is None else torch.empty_like(gathered)
    attend_backward(gathered, (query, joined[:, -2], joined[:, -1]), saved, layout, scale)
    on_joined = joined.index_select(0, layout.keys.of).flatten(1)
    return None if layout.rows is None else query.index_select(0, layout.queries.of).flatten(1), on_joined


def attend(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, reach: int | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Attention over gathered tokens, and what its backward pass needs.

    Places [R, heads, d] to [R + 1, heads, d]: the last row is zero, for rows that only fill up.
    """
    out = query.new_empty(len(query) + 1, *query.shape[1:])
    out[-1] = 0
    saved: list[Tensor] = []
    for bucket in layout.buckets:
        q = _take(query, bucket.first_query, bucket.count, bucket.queries).mul_(scale)
        k, v = (_take(x, bucket.first_key, bucket.count, bucket.keys) for x in (key, value))
        p = _probabilities(q, k, bucket, reach)
        _put(out, bucket.first_query, bucket, torch.bmm(p, v))
        saved += (q, k, v, p) if bucket.keys <= KEPT else (q, k, v, p.new_empty(0))
    return out, saved


def attend_backward(
    grad_out: Tensor, into: Sequence[Tensor], saved: Sequence[Tensor], layout: Layout, scale: float,
    reach: int | None = None,
) -> None:  # fmt: skip
    """Fill the gradients of query, key and value [R, heads, d], given that of `attend`'s result but for its last row.

    `grad_out` must be zero at the pads: their queries would count otherwise.
    """
    for number, bucket in enumerate(layout.buckets):
        q, k, v, p = saved[4 * number : 4 * number + 4]
        if not p.numel():
            p = _probabilities(q, k, bucket, reach)
        g = _take(grad_out, bucket.first_query, bucket.count, bucket.queries)
        _put(into[2], bucket.first_key, bucket, torch.bmm(p.transpose(1, 2), g))
        grad_p = torch.bmm(g, v.transpose(1, 2))
        grad_scores = torch._softmax_backward_data(grad_p, p, -1, p.dtype)
        _put(into[0], bucket.first_query, bucket, torch.bmm(grad_scores, k).mul_(scale))
        _put(into[1], bucket.first_key, bucket, torch.bmm(grad_scores.transpose(1, 2), q))


def _take(rows: Tensor, first: int, count: int, length: int) -> Tensor:
    """[R, heads, d] -> [count * heads, length, d], a new tensor."""
    heads, size = rows.shape[1:]
    taken = rows[first : first + count * length].view(count, length, heads, size).transpose(1, 2)
    return taken.clone(memory_format=torch.contiguous_format).view(count * heads, length, size)


def _put(into: Tensor, first: int, bucket: Bucket, values: Tensor) -> None:
    """[count * heads, length, d] -> its rows of [R, heads, d]."""
    heads, (length, size) = into.shape[1], values.shape[1:]
    rows = into[first : first + bucket.count * length].view(bucket.count, length, heads, size)
    rows.copy_(values.view(bucket.count, heads, length, size).transpose(1, 2))


def _probabilities(q: Tensor, k: Tensor, bucket: Bucket, reach: int | None) -> Tensor:
    """softmax(q k^T) [count * heads, queries, keys]; PyTorch's softmax computes in float32 inside."""
    scores = torch.bmm(q, k.transpose(1, 2))
    bias = _bias(bucket, reach, q)
    if bias is not None:
        scores.view(bucket.count, -1, *scores.shape[1:]).add_(bias)
    return torch.softmax(scores, dim=-1)


def _bias(bucket: Bucket, reach: int | None, like: Tensor) -> Tensor | None:
    """What hides pads and, in a local layer, far places, when it is added to the scores; None if there are none.

    The lowest finite number and not -inf: a pad row of a local layer may see no key at all, and must not become NaN.
    """
    hidden, far = bucket.padded, _far(bucket, reach, like.device)
    if far is not None:
        hidden = far if hidden is None else hidden | far
    if hidden is None:
        return None
    return like.new_zeros(hidden.shape).masked_fill_(hidden, torch.finfo(like.dtype).min)


def _far(bucket: Bucket, reach: int | None, device: torch.device) -> Tensor | None:
    """Which pairs of places [1, 1, L, L] a local layer does not connect; None if it connects all."""
    if reach is None or bucket.keys <= reach + 1:
        return None
    place = torch.arange(bucket.keys, device=device)
    return ((place[:, None] - place[None, :]).abs() > reach)[None, None]


class _PackedAttention(torch.autograd.Function):
    """`attend` on the tokens of a packed row [T, heads, d]."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, reach: int | None
    ) -> Tensor:
        q, k, v = (x.index_select(0, layout.keys.rows) for x in (query, key, value))
        out, saved = attend(q, k, v, layout, scale, reach)
        ctx.layout, ctx.scale, ctx.reach = layout, scale, reach
        ctx.save_for_backward(*saved)
        return out.index_select(0, layout.keys.of)

    @staticmethod
    def backward(ctx: Any, grad_out: Tensor) -> tuple[Tensor | None, ...]:
        places = ctx.layout.keys
        gathered = ended(grad_out).index_select(0, places.rows_or_end)
        grads = [torch.empty_like(gathered) for _ in range(3)]
        attend_backward(gathered, grads, ctx.saved_tensors, ctx.layout, ctx.scale, ctx.reach)
        return (*(ended(x).index_select(0, places.of) for x in grads), None, None, None)


def _through_autograd(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float, dropout: float, reach: int | None
) -> Tensor:
    """The plain twin, by PyTorch's own attention and autograd: with dropout, and for long sequences in O(L) memory."""
    gathered = [x.index_select(0, layout.keys.rows) for x in (query, key, value)]
    heads, size = query.shape[1:]
    parts = []
    for bucket in layout.buckets:
        q, k, v = (
            x[bucket.first_key : bucket.first_key + bucket.count * bucket.keys]
            .view(bucket.count, bucket.keys, heads, size)
            .transpose(1, 2)
            for x in gathered
        )
        out = scaled_dot_product_attention(q, k, v, _bias(bucket, reach, q), dropout, scale=scale)
        parts.append(out.transpose(1, 2).flatten(0, 1))
    return ended(torch.cat(parts)).index_select(0, layout.keys.of)
