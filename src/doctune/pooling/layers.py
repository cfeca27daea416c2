"""How the vectors of several layers become one. Each takes [L, N, H] as a list of L tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

ATTENTION_SIZE = 128
Kind = Literal["concat", "mean", "max", "attention"]


class LayerPooling(nn.Module):
    """L vectors [N, H] to one: [N, L * H] for concat, [N, H] for mean, max and learned attention.

    Attention is the original's: softmax over the layers of w2 tanh(w1 x), with 128 units.
    """

    def __init__(self, kind: Kind, num_layers: int, hidden_size: int) -> None:
        super().__init__()
        self.kind, self.num_layers = kind, num_layers
        self.output_size = hidden_size * num_layers if kind == "concat" else hidden_size
        if kind == "attention":
            self.linear_first = nn.Linear(hidden_size, ATTENTION_SIZE)
            self.linear_second = nn.Linear(ATTENTION_SIZE, 1)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        if self.kind == "concat":
            return torch.cat(list(layers), dim=-1)
        stacked = torch.stack(list(layers))
        if self.kind == "mean":
            return stacked.mean(dim=0)
        if self.kind == "max":
            return stacked.amax(dim=0)
        return (self.weights(stacked) * stacked).sum(dim=0)

    def weights(self, stacked: Tensor) -> Tensor:
        """Attention weights over layers, [L, N, 1], summing to 1 over L."""
        return torch.softmax(self.linear_second(torch.tanh(self.linear_first(stacked))), dim=0)
