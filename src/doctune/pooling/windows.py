"""How the vectors of a document's windows become one: mean, max or learned attention, as in the paper."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from doctune.pooling.tokens import Attention, Max, Mean
from doctune.tensors import HiddenStates

Kind = Literal["mean", "max", "attention"]


class WindowPooling(nn.Module):
    """[N, F] to [D, F]: to a document its windows are what to a sequence its tokens are."""

    def __init__(self, kind: Kind, size: int) -> None:
        super().__init__()
        self.kind = kind
        self.pooling: nn.Module = Attention(size) if kind == "attention" else Max() if kind == "max" else Mean()

    def forward(self, x: Tensor, window_of: Tensor, num_documents: int) -> Tensor:
        """`window_of` [N] as in `Batch`."""
        pooled: Tensor = self.pooling(x, _documents(x, window_of, num_documents))
        return pooled

    def shares(self, x: Tensor, window_of: Tensor, num_documents: int) -> Tensor:
        """What each window gives to its document's vector, [N, F]: their sum over a document is that vector.

        A window gives its weight times its vector, with max the dimensions in which it is highest (one of equals, the
        first, gives it all).
        """
        states = _documents(x, window_of, num_documents)
        if isinstance(self.pooling, Attention):
            return x.float() * self.pooling.weights(x, states).unsqueeze(1)
        if not isinstance(self.pooling, Max):
            return x.float() / states.cu_seqlens.diff()[window_of].unsqueeze(1)
        number = torch.arange(len(x), device=x.device).unsqueeze(1).expand_as(x)
        reaches = x == self.pooling(x, states)[window_of]
        index = window_of.unsqueeze(1).expand_as(x)
        first = number.new_full((num_documents, x.shape[1]), len(x))
        first = first.scatter_reduce(0, index, number.masked_fill(~reaches, len(x)), "amin")
        return x.float() * (number == first[window_of])


def _documents(x: Tensor, window_of: Tensor, num_documents: int) -> HiddenStates:
    """Documents as sequences, whose tokens are the windows."""
    counts = torch.bincount(window_of, minlength=num_documents)
    bounds = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return HiddenStates((x,), bounds, torch.arange(num_documents, device=x.device), num_documents)
