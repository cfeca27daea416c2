"""The solver finds the minimum, whatever it starts from, and the strength is that of the least loss."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from doctune.training.logistic import STRENGTHS, choose_logistic, fit_logistic


def data(count: int = 300, size: int = 12, classes: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(count, size, generator=random)
    scores = x @ torch.randn(size, classes, generator=random) + torch.randn(count, classes, generator=random)
    return x, scores.argmax(dim=1)


@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_the_gradient_vanishes(l2: float) -> None:
    x, labels = data()
    weight, bias = (t.double().requires_grad_() for t in fit_logistic(x, labels, 4, l2))
    loss = cross_entropy(x.double() @ weight.T + bias, labels) + l2 / 2 * weight.square().sum()
    loss.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert bias.grad is not None
    assert max(float(weight.grad.abs().max()), float(bias.grad.abs().max())) < 1e-3


def test_the_start_changes_nothing() -> None:
    x, labels = data()
    first = fit_logistic(x, labels, 4, 1e-2)
    second = fit_logistic(x, labels, 4, 1e-2, (torch.randn(4, 12), torch.randn(4)))
    torch.testing.assert_close(first[0], second[0], atol=5e-3, rtol=0)


def test_scale_and_offset_of_a_feature_change_nothing() -> None:
    x, labels = data()
    moved = x * torch.logspace(-2, 3, 12) + torch.linspace(-50, 50, 12)
    fits = [choose_logistic(v[:200], labels[:200], 4, (v[200:], labels[200:])) for v in (x, moved)]
    assert fits[0].l2 == fits[1].l2
    torch.testing.assert_close(fits[0].logits(x), fits[1].logits(moved), atol=2e-2, rtol=0)


def test_a_feature_that_never_changes_is_harmless() -> None:
    x, labels = data()
    x[:, 3] = 7.0
    assert choose_logistic(x, labels, 4, (x, labels)).logits(x).isfinite().all()


def test_the_strength_is_that_of_the_least_loss_on_held_out_documents() -> None:
    x, labels = data()
    train, held_out = (x[:60], labels[:60]), (x[60:], labels[60:])
    chosen = choose_logistic(*train, 4, held_out)
    losses = {}
    for l2 in STRENGTHS:
        alone = choose_logistic(*train, 4, held_out, (l2,))
        losses[l2] = float(cross_entropy(alone.logits(held_out[0]), held_out[1]))
    assert chosen.l2 == min(losses, key=lambda l2: losses[l2])
    assert chosen.l2 not in (STRENGTHS[0], STRENGTHS[-1])
