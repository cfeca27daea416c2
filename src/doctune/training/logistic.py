"""Logistic regression on fixed features: what a linear probe is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

# Factors of half the squared weights beside the mean loss, strong ones first: each start is the end of the one before.
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
STEPS = 200
SMALLEST_DEVIATION = 1e-6


@dataclass(frozen=True, slots=True)
class Logistic:
    """Logits are `x @ weight.T + bias`, for x as it comes: the standardising is inside. `weight` [C, H], `bias` [C]."""

    weight: Tensor
    bias: Tensor
    l2: float

    def logits(self, x: Tensor) -> Tensor:
        """[D, H] to [D, C]."""
        return torch.addmm(self.bias, x, self.weight.T)


def fit_logistic(
    x: Tensor, labels: Tensor, num_labels: int, l2: float, start: tuple[Tensor, Tensor] | None = None
) -> tuple[Tensor, Tensor]:
    """The minimum of mean cross entropy + l2 / 2 * |weight|^2 by L-BFGS: weight [C, H] and bias [C].

    The problem is convex: `start` changes only how soon the minimum is found.
    """
    weight, bias = start or (x.new_zeros(num_labels, x.shape[1]), x.new_zeros(num_labels))
    weight, bias = (tensor.clone().requires_grad_() for tensor in (weight, bias))
    solver = torch.optim.LBFGS(
        [weight, bias], max_iter=STEPS, tolerance_grad=1e-5, tolerance_change=1e-6, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        solver.zero_grad()
        value = cross_entropy(torch.addmm(bias, x, weight.T), labels) + l2 / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    solver.step(loss)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()


def choose_logistic(
    x: Tensor, labels: Tensor, num_labels: int, held_out: tuple[Tensor, Tensor], strengths: Sequence[float] = STRENGTHS
) -> Logistic:
    """The fit to float32 features x [D, H] and labels [D] whose strength gives the least loss on `held_out` documents.

    Features are standardised, so that one strength means the same for every layer.
    """
    deviation, mean = torch.std_mean(x, dim=0, correction=0)
    scale = 1 / deviation.clamp_min(SMALLEST_DEVIATION)
    standard = (x - mean) * scale
    fitted: tuple[Tensor, Tensor] | None = None
    best, least = None, float("inf")
    for l2 in strengths:
        fitted = fit_logistic(standard, labels, num_labels, l2, fitted)
        weight = fitted[0] * scale
        model = Logistic(weight, fitted[1] - weight @ mean, l2)
        loss = float(cross_entropy(model.logits(held_out[0]), held_out[1]))
        if loss < least:
            best, least = model, loss
        else:  # it has one valley: weaker strengths, which take the longest, would do worse still
            break
    assert best is not None
    return best
