"""Dropout whose masks are drawn as random bytes: on a CPU `bernoulli_` costs more than a small encoder's softmax."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ByteDropout(nn.Module):
    """Dropout with 16-bit random numbers: the probability is `p` rounded to a multiple of 1/65536.

    The same in distribution as `torch.nn.Dropout`; survivors are scaled by the exact inverse of the share kept.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.threshold = round(p * 65536)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.threshold == 0:
            return x
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64, device=x.device).random_(-(2**63), None)
        keep = words.view(torch.int16)[: x.numel()].view(x.shape) >= self.threshold - 32768
        return x * keep.to(x.dtype).mul_(65536 / (65536 - self.threshold))

    def extra_repr(self) -> str:
        return f"p={self.p}"


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
