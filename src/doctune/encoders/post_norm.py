"""One layer of BERT and its like as one function, forward and backward written by hand.

The same mathematics as transformers' layer. What is saved: q, k and v in one product; parameters turned into bf16 once
an optimiser step and not in every call; everything between two products in the products' own type, where autocast
converts back and forth; hardly any nodes in autograd's graph; and in a layer of which some rows are read, queries for
these rows only. The plain twin is the layer that it is made from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear
from torch.utils.checkpoint import checkpoint

from doctune.encoders.attention import LONGEST_WITH_SCORES, attend_rows, attend_rows_backward
from doctune.encoders.dropout import dropped_and_added, scaled
from doctune.encoders.flash import Spans
from doctune.encoders.layout import Layout

aten = torch.ops.aten


@dataclass(frozen=True, slots=True)
class Call:
    """What a call of a layer knows beside its tensors."""

    layout: Layout | Spans
    heads: int
    dropout: tuple[float, float]
    epsilon: tuple[float, float]


class PostNormLayer(nn.Module):
    """A layer with transformers' parameters under transformers' names; `plain` is the layer that it was made from.

    `highest`: it gives only the rows that are read.
    """

    plain: nn.Module

    def __init__(self, plain: Any, heads: int, highest: bool) -> None:
        super().__init__()
        self.attention: Any = plain.attention
        self.intermediate: Any = plain.intermediate
        self.output: Any = plain.output
        # Not as a submodule: every parameter would have two names.
        self.__dict__["plain"] = plain
        self.heads, self.highest, self.recompute = heads, highest, False
        self._kept: tuple[tuple[Any, ...], tuple[Tensor, ...]] | None = None
        self.train(plain.training)

    @staticmethod
    def fits(layer: nn.Module, config: Any) -> bool:
        """Whether a layer computes what this one does."""
        parts = ("attention.self.query", "attention.output.LayerNorm", "intermediate.dense", "output.LayerNorm")
        names = dict(layer.named_modules())
        return all(part in names for part in parts) and config.hidden_act == "gelu"

    def forward(self, hidden_states: Tensor, *args: Any, layout: Layout | Spans, **kwargs: Any) -> Tensor:
        """[1, T, H] to [1, T, H]; in the highest layer to [1, Q, H] if the layout says that Q rows are read.

        What else transformers gives its layers is for decoders.
        """
        if self.recompute and torch.is_grad_enabled():
            out: Tensor = checkpoint(self._either, hidden_states, layout, use_reentrant=False)
            return out
        return self._either(hidden_states, layout)

    def _either(self, hidden_states: Tensor, layout: Layout | Spans) -> Tensor:
        """The plain layer where attention has dropout or a sequence is too long, else the fast one."""
        drops_attention = self.training and self.attention.self.dropout.p > 0
        if not drops_attention and (isinstance(layout, Spans) or layout.longest <= LONGEST_WITH_SCORES):
            return self._fast(hidden_states[0], layout).unsqueeze(0)
        out: Tensor = self.plain(hidden_states, None, layout=layout)
        rows = None if layout.top is None or not self.highest else layout.top.rows
        return out if rows is None else out.index_select(1, rows)

    def _fast(self, x: Tensor, layout: Layout | Spans) -> Tensor:
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        first, second = self.attention.output, self.output
        call = Call(
            (layout.top if self.highest else None) or layout,
            self.heads,
            (first.dropout.p, second.dropout.p) if self.training else (0.0, 0.0),
            (first.LayerNorm.eps, second.LayerNorm.eps),
        )
        parameters = self._parameters_in_order()
        with torch.autocast(device, enabled=False):
            out: Tensor = _Layer.apply(x.to(dtype), call, self._converted(parameters, dtype), *parameters)  # type: ignore[no-untyped-call]
        return out

    def _parameters_in_order(self) -> list[Tensor]:
        """Weight and bias of the six products, in the order in which they are applied, then of the two norms."""
        own, first, second = self.attention.self, self.attention.output, self.output
        dense = (own.query, own.key, own.value, first.dense, self.intermediate.dense, second.dense)
        norms = (first.LayerNorm, second.LayerNorm)
        return [p for module in (*dense, *norms) for p in (module.weight, module.bias)]

    def _converted(self, parameters: list[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
        """Weights and biases of the products in their type, q, k and v in one; behind them those of the norms.

        Made anew for every pass that records gradients: a step of the optimiser may have come between, and PyTorch's
        fused steps leave no trace in a tensor's version. Kept from one pass without gradients to the next.
        """
        if torch.is_grad_enabled():
            self._kept = None
            return _convert(parameters, dtype)
        made_of = (dtype, *((p._version, p.data_ptr()) for p in parameters))
        kept = self._kept  # read and set as a whole: other threads do the same
        if kept is None or kept[0] != made_of:
            self._kept = kept = (made_of, _convert(parameters, dtype))
        return kept[1]


@torch.no_grad()
def _convert(parameters: list[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    if parameters[0].is_cuda:
        # One call for all: on a GPU a small encoder waits for calls, not for bytes. Its norms take one type only.
        given = [*parameters[0:6:2], *parameters[1:6:2], *parameters[6:]]
        flat = torch.empty(sum(p.numel() for p in given), dtype=dtype, device=given[0].device)
        pieces = torch.split(flat, [p.numel() for p in given])
        parts = [piece.view_as(p) for piece, p in zip(pieces, given, strict=True)]
        torch._foreach_copy_(parts, given)
        weights, biases = (sum(p.numel() for p in some) for some in (given[:3], given[3:6]))
        return (flat[:weights].view(-1, given[0].shape[1]), flat[weights : weights + biases], *parts[6:])
    joined = []
    for part in (parameters[0:6:2], parameters[1:6:2]):
        whole = part[0].new_empty((3, *part[0].shape), dtype=dtype)
        for into, parameter in zip(whole, part, strict=True):
            into.copy_(parameter)
        joined.append(whole.flatten(0, 1))
    return (*joined, *(p.detach().to(dtype) for p in parameters[6:12]), *(p.detach() for p in parameters[12:]))


class _Layer(torch.autograd.Function):
    """x [T, H] to [T, H] or [Q, H]; parameters are given so that autograd knows them, `weights` are what is used."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, call: Call, weights: tuple[Tensor, ...], *parameters: Tensor) -> Tensor:
        w_qkv, b_qkv, w_out, b_out, w_up, b_up, w_down, b_down, *norms = weights
        layout, size = call.layout, x.shape[1]
        head = (call.heads, size // call.heads)
        if layout.rows is None:
            read = x
            context, saved = attend_rows(None, linear(x, w_qkv, b_qkv).view(-1, 3, *head), layout)
        else:
            read = x.index_select(0, layout.rows)
            q = linear(read, w_qkv[:size], b_qkv[:size]).view(-1, *head)
            context, saved = attend_rows(q, linear(x, w_qkv[size:], b_qkv[size:]).view(-1, 2, *head), layout)
        first, keep_first, scale_first = dropped_and_added(read, linear(context, w_out, b_out), call.dropout[0])
        normed, *statistics_first = _norm(first, norms[0], norms[1], call.epsilon[0])
        up = linear(normed, w_up, b_up)
        active = gelu(up)
        down = linear(active, w_down, b_down)
        second, keep_second, scale_second = dropped_and_added(normed, down, call.dropout[1])
        out, *statistics_second = _norm(second, norms[2], norms[3], call.epsilon[1])
        ctx.call, ctx.scales = call, (scale_first, scale_second)
        ctx.save_for_backward(
            x, read, context, first, *statistics_first, normed, up, active, second, *statistics_second, keep_first,
            keep_second, *weights, *saved,
        )  # fmt: skip
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, read, context, first, mean_1, rstd_1, normed, up, active, second, mean_2, rstd_2, keep_1, keep_2, *rest = (
            ctx.saved_tensors
        )
        (w_qkv, _, w_out, _, w_up, _, w_down, _), norms, saved = rest[:8], rest[8:12], rest[12:]
        call, layout, size = ctx.call, ctx.call.layout, x.shape[1]
        wanted = ctx.needs_input_grad[3:]
        grads: list[Tensor | None] = [None] * 16

        def dense(number: int, grad: Tensor, x: Tensor, parts: int = 1) -> None:
            """The gradients of products `number` and following, `parts` of them in one."""
            these = slice(2 * number, 2 * (number + parts))
            if any(wanted[these]):
                weight, bias = torch.mm(grad.t(), x).float(), grad.sum(0).float()
                both = zip(weight.chunk(parts), bias.chunk(parts), strict=True)
                grads[these] = [g for pair in both for g in pair]

        grad, grads[14], grads[15] = _norm_backward(
            grad, second, mean_2, rstd_2, norms[2:], call.epsilon[1], wanted[14:16]
        )
        branch = _dropped(grad, keep_2, ctx.scales[1])
        dense(5, branch, active)
        branch = aten.gelu_backward(torch.mm(branch, w_down), up)
        dense(4, branch, normed)
        grad = torch.addmm(grad, branch, w_up)
        grad, grads[12], grads[13] = _norm_backward(
            grad, first, mean_1, rstd_1, norms[:2], call.epsilon[0], wanted[12:14]
        )
        branch = _dropped(grad, keep_1, ctx.scales[0])
        dense(3, branch, context)
        on_queries, on_keys = attend_rows_backward(branch, w_out, saved, layout, call.heads)
        if layout.rows is None or on_queries is None:
            dense(0, on_keys, x, parts=3)
            grad = torch.addmm(grad, on_keys, w_qkv)
        else:
            dense(0, on_queries, read)
            dense(1, on_keys, x, parts=2)
            of_rows = torch.addmm(grad, on_queries, w_qkv[:size])
            grad = torch.mm(on_keys, w_qkv[size:]).index_add_(0, layout.rows, of_rows)
        return (grad if ctx.needs_input_grad[0] else None, None, None, *grads)


def _dropped(grad: Tensor, keep: Tensor, scale: float) -> Tensor:
    return scaled(grad, keep, scale) if keep.numel() else grad


def _norm(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float) -> tuple[Tensor, Tensor, Tensor]:
    out, mean, rstd = aten.native_layer_norm(x, x.shape[1:], weight, bias, epsilon)
    return out, mean, rstd


def _norm_backward(
    grad: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, norm: list[Tensor], epsilon: float, wanted: tuple[bool, ...]
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    shape = x.shape[1:]
    # PyTorch's kernel for processors adds up gradients in the inputs' type: in bf16, over thousands of tokens, they
    # are off by several percent. Sums over tokens have float32 inside.
    sums = x.dtype != norm[0].dtype
    mask = (True, False, False) if sums else (True, *wanted)
    on_x, weight, bias = aten.native_layer_norm_backward(grad, x, shape, mean, rstd, norm[0], norm[1], mask)
    if sums and wanted[0]:
        weight = aten.native_layer_norm(x, shape, None, None, epsilon)[0].mul_(grad).sum(0)
    if sums and wanted[1]:
        bias = grad.sum(0)
    return on_x, None if weight is None else weight.float(), None if bias is None else bias.float()
