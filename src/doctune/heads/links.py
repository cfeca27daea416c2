"""From the outputs of a head to a loss and to probabilities: the only part of a target that needs torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from doctune.tensors import Loss


class Link(Protocol):
    """What a kind of answer makes of logits. A link has no weights, so it is no module and is not saved."""

    def loss(self, logits: Tensor, labels: Tensor) -> Loss:
        """The weighted sum of the examples' losses, and the sum of their weights."""
        ...

    def count(self, labels: Tensor) -> float:
        """The sum of the examples' weights, which is known before the loss is computed."""
        ...

    def probabilities(self, logits: Tensor) -> Tensor:
        """Float64 probabilities on the host, [D, C] from logits [D, num_outputs]."""
        ...


@dataclass(frozen=True, slots=True)
class Softmax:
    """One class of several: softmax and cross entropy, logits [D, C] and labels int64 [D].

    `class_weights` [C] weigh the examples of each class; `label_smoothing` spreads that share of the target evenly.
    """

    class_weights: Tensor | None = None
    label_smoothing: float = 0.0

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

    def probabilities(self, logits: Tensor) -> Tensor:
        """The classes' probabilities, [D, C], which add up to 1 for each document."""
        return torch.softmax(logits.cpu().double(), dim=-1)


LINKS = {"softmax": Softmax}
"""The links by the names that targets have for them."""
