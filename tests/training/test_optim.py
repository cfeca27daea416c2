"""Clipping by the global norm, whichever way the optimiser takes it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from doctune.settings import OptimizerSettings
from doctune.training.optim import clip_gradients, make_optimizer

SHAPES = ((7, 3), (3,), (5, 2))


def model(seed: int) -> list[nn.Parameter]:
    random = torch.Generator().manual_seed(seed)
    parameters = [nn.Parameter(torch.randn(shape, generator=random)) for shape in SHAPES]
    return [*parameters, nn.Parameter(torch.ones(2))]  # the last one gets no gradient


@pytest.mark.parametrize("max_norm", [0.0, 0.5, 1e6])
@pytest.mark.parametrize("kind", ["adamw", "bert-adam"])
def test_a_clipped_step_is_that_of_pytorchs_clipping(kind: str, max_norm: float) -> None:
    ours, theirs = model(0), model(0)
    optimizers = []
    for parameters in (ours, theirs):
        groups = [{"params": parameters, "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.01}]
        settings = OptimizerSettings(optimizer=kind, max_grad_norm=0.0)
        optimizers.append(make_optimizer(groups, settings, lambda step: 1.0))
    random = torch.Generator().manual_seed(1)
    for step in range(3):
        for a, b in zip(ours[:-1], theirs[:-1], strict=True):
            a.grad = torch.randn(a.shape, generator=random) * (0.01 if step == 1 else 1.0)
            b.grad = a.grad.clone()
        norm = clip_gradients(optimizers[0], max_norm)
        expected = torch.nn.utils.clip_grad_norm_(theirs, max_norm or float("inf"))
        assert norm == pytest.approx(float(expected), rel=1e-6)
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


def test_clipping_per_tensor_leaves_the_gradients_to_the_optimiser() -> None:
    parameters = model(0)
    groups = [{"params": parameters, "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.0}]
    optimizer = make_optimizer(groups, OptimizerSettings(optimizer="bert-adam"), lambda step: 1.0)
    for parameter in parameters[:-1]:
        parameter.grad = torch.full_like(parameter, 10.0)
    norm = clip_gradients(optimizer, 1.0)
    assert norm == pytest.approx(10 * (21 + 3 + 10) ** 0.5)
    assert all(float(parameter.grad.max()) == 10.0 for parameter in parameters[:-1] if parameter.grad is not None)


def test_adamw_has_the_betas_and_the_epsilon_of_the_settings() -> None:
    """Equal to PyTorch's own with these numbers, of which none is its default."""
    betas, epsilon = (0.6, 0.83), 0.02
    ours, theirs = model(0), model(0)
    groups = [{"params": ours, "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.05}]
    made = make_optimizer(groups, OptimizerSettings(betas=betas, epsilon=epsilon), lambda step: 1.0)
    plain = torch.optim.AdamW(theirs, lr=0.1, betas=betas, eps=epsilon, weight_decay=0.05)
    random = torch.Generator().manual_seed(1)
    for _ in range(4):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=random)
            b.grad = a.grad.clone()
        made.step()
        plain.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)
