"""Dropout whose masks are drawn as random bytes: on a CPU `bernoulli_` costs more than a small encoder's softmax.

On a GPU it is PyTorch's own, whose mask costs nothing beside the bytes that it reads and writes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

LEVELS = 65536
# Places that share a level; see `keep_mask`.
GROUP = 512


def keep_mask(x: Tensor, p: float) -> tuple[Tensor, float]:
    """Ones of the shape and type of `x` with zeros at the rate `p`, and the inverse of the share kept.

    `p` is rounded to a multiple of 1/65536. A byte a place decides; as 256 levels are too few, the bytes of a group are
    compared with the level below or the level above, in the proportion that makes the rate exact.
    """
    threshold = min(round(p * LEVELS), LEVELS - 257)
    below, rest = divmod(threshold, 256)
    count = x.numel()
    groups = -(-count // GROUP)
    noise = torch.empty(groups, GROUP // 8, dtype=torch.int64, device=x.device).random_(-(2**63), None)
    draws = torch.empty(groups, 1, dtype=torch.int16, device=x.device).random_(0, 256)
    level = ((draws < rest).to(torch.int16) + (below - 128)).to(torch.int8)
    # Written as numbers at once: a mask of booleans would have to be converted where it is used.
    keep = torch.empty(groups, GROUP, dtype=x.dtype, device=x.device)
    torch.ge(noise.view(torch.int8), level, out=keep)
    return keep.flatten()[:count].view(x.shape), LEVELS / (LEVELS - threshold)


def dropped_and_added(x: Tensor, branch: Tensor, p: float) -> tuple[Tensor, Tensor, float]:
    """x + dropout(branch), with the mask and the inverse of the share kept; the mask is empty if nothing is dropped."""
    if round(p * LEVELS) == 0:
        return x + branch, x.new_empty(0), 1.0
    if x.is_cuda:
        dropped, keep = torch.native_dropout(branch, p, True)
        return dropped.add_(x), keep, 1.0 / (1.0 - p)
    keep, scale = keep_mask(branch, p)
    return torch.addcmul(x, branch, keep, value=scale), keep, scale


def scaled(x: Tensor, keep: Tensor, scale: float) -> Tensor:
    """x * keep * scale in one pass, the scale in float32 whatever the type: rounded to bf16 it would be off."""
    if keep.dtype == torch.bool:
        gradient: Tensor = torch.ops.aten.native_dropout_backward(x, keep, scale)
        return gradient
    return torch.addcmul(x.new_zeros(()), x, keep, value=scale)


class ByteDropout(nn.Module):
    """Dropout with `keep_mask`: the same in distribution as `torch.nn.Dropout`."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or round(self.p * LEVELS) == 0 or not x.numel():
            return x
        if x.is_cuda:
            return nn.functional.dropout(x, self.p)
        keep, scale = keep_mask(x, self.p)
        dropped: Tensor = _Dropout.apply(x, keep, scale)  # type: ignore[no-untyped-call]
        return dropped

    def extra_repr(self) -> str:
        return f"p={self.p}"


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, keep: Tensor, scale: float) -> Tensor:
        ctx.save_for_backward(keep)
        ctx.scale = scale
        return scaled(x, keep, scale)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (keep,) = ctx.saved_tensors
        return scaled(gradient, keep, ctx.scale), None, None


def replace_dropout(module: nn.Module, p: float | None) -> int:
    """Put `ByteDropout`, at rate `p` or the old one's, in the place of every `nn.Dropout` below; how many there are."""
    count = 0
    for name, child in module.named_children():
        if isinstance(child, nn.Dropout):
            setattr(module, name, ByteDropout(child.p if p is None else p))
            count += 1
        else:
            count += replace_dropout(child, p)
    return count
