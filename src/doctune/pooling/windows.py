"""How the vectors of a document's windows become one: mean, max or learned attention, as in the paper."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doctune.tensors import HiddenStates


class WindowPooling(nn.Module):
    """[N, F] to [D, F]: to a document its windows are what to a sequence its tokens are.

    `pooling` is one of tokens whose `shares` say what each gives to the vector.
    """

    def __init__(self, pooling: nn.Module) -> None:
        super().__init__()
        self.pooling = pooling

    def forward(self, x: Tensor, window_of: Tensor, num_documents: int) -> Tensor:
        """`window_of` [N] as in `Batch`."""
        pooled: Tensor = self.pooling(x, _documents(x, window_of, num_documents))
        return pooled

    def shares(self, x: Tensor, window_of: Tensor, num_documents: int) -> Tensor:
        """What each window gives to its document's vector, [N, F]: their sum over a document is that vector."""
        shares: Tensor = self.pooling.shares(x, _documents(x, window_of, num_documents))  # type: ignore[operator]
        return shares


def _documents(x: Tensor, window_of: Tensor, num_documents: int) -> HiddenStates:
    """Documents as sequences, whose tokens are the windows."""
    counts = torch.bincount(window_of, minlength=num_documents)
    bounds = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    return HiddenStates((x,), bounds, torch.arange(num_documents, device=x.device), num_documents)
