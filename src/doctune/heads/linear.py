"""The classification head: dropout, one linear layer, cross entropy."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from doctune.tensors import Loss


class LinearHead(nn.Module):
    """Features [D, F] to logits [D, C].

    `class_weights` [C] weigh the examples of each class; `label_smoothing` spreads that share of the target evenly.
    """

    def __init__(
        self, dropout: nn.Module, size: int, num_labels: int, initializer_range: float, label_smoothing: float = 0.0
    ) -> None:
        super().__init__()
        self.dropout = dropout
        self.linear = nn.Linear(size, num_labels)
        nn.init.normal_(self.linear.weight, std=initializer_range)
        nn.init.zeros_(self.linear.bias)
        self.label_smoothing = label_smoothing
        self.class_weights: Tensor | None = None

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.dropout(features))
        return logits

    def loss(self, logits: Tensor, labels: Tensor) -> Loss:
        """The weighted sum of the cross entropies, and the sum of the weights: their quotient is PyTorch's mean."""
        weights = None if self.class_weights is None else self.class_weights.to(logits.device)
        total = cross_entropy(logits.float(), labels, weights, reduction="sum", label_smoothing=self.label_smoothing)
        return Loss(total, torch.tensor(self.count(labels), device=total.device))

    def count(self, labels: Tensor) -> float:
        """The sum of the labels' weights."""
        if self.class_weights is None:
            return float(len(labels))
        return float(self.class_weights[labels.to(self.class_weights.device)].sum())
