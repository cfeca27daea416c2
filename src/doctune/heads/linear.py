"""The classification head: dropout and one linear layer."""

from __future__ import annotations

from torch import Tensor, nn


class LinearHead(nn.Module):
    """Features [D, F] to logits [D, num_outputs]."""

    def __init__(self, dropout: nn.Module, size: int, num_outputs: int, initializer_range: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.linear = nn.Linear(size, num_outputs)
        nn.init.normal_(self.linear.weight, std=initializer_range)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(features))
        return logits
