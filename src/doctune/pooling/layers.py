"""How the vectors of several layers become one. Each takes [L, N, H] as a list of L tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

ATTENTION_SIZE = 128


class LayerPooling(nn.Module):
    """L vectors [N, H] to one, [N, output_size]; each kind has its own `forward`."""

    def __init__(self, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.output_size = hidden_size


class Concat(LayerPooling):
    """The layers side by side: [N, L * H]."""

    def __init__(self, hidden_size: int, num_layers: int) -> None:
        super().__init__(hidden_size, num_layers)
        self.output_size = hidden_size * num_layers

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        return torch.cat(list(layers), dim=-1)


class Mean(LayerPooling):
    """The mean of the layers: [N, H]."""

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(layers)).mean(dim=0)


class Max(LayerPooling):
    """The largest value of each dimension over the layers: [N, H]."""

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        return torch.stack(list(layers)).amax(dim=0)


class Attention(LayerPooling):
    """The original's weighted mean of the layers, [N, H]: softmax over the layers of w2 tanh(w1 x), with 128 units."""

    def __init__(self, hidden_size: int, num_layers: int) -> None:
        super().__init__(hidden_size, num_layers)
        self.linear_first = nn.Linear(hidden_size, ATTENTION_SIZE)
        self.linear_second = nn.Linear(ATTENTION_SIZE, 1)

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        stacked = torch.stack(list(layers))
        return (self.weights(stacked) * stacked).sum(dim=0)

    def weights(self, stacked: Tensor) -> Tensor:
        """Attention weights over layers, [L, N, 1], summing to 1 over L."""
        return torch.softmax(self.linear_second(torch.tanh(self.linear_first(stacked))), dim=0)
