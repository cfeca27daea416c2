"""Optimisers: PyTorch's AdamW, and the original's BERTAdam for repeating the paper."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast, overload

import torch
from torch import Tensor

from doctune.settings import OptimizerSettings
from doctune.settings.implementations import choose
from doctune.training.schedule import Factor


class AdamW(torch.optim.AdamW):
    """PyTorch's, in one pass over the weights."""

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float], epsilon: float) -> None:
        super().__init__(groups, betas=betas, eps=epsilon, fused=True)


class BertAdam(torch.optim.Optimizer):
    """Adam as the original has it: no bias correction, clipping per tensor, a step count per parameter.

    A group has `base_lr` and `weight_decay`; the rate of a parameter's step is `base_lr * factor(its step)`, counted
    from 0 in the steps in which it had a gradient, wherever the run is. Source: the update rule of `BERTAdam` in the
    paper's code.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        factor: Factor,
        betas: tuple[float, float],
        epsilon: float,
        max_grad_norm: float,
    ) -> None:
        super().__init__(groups, {"lr": 0.0, "base_lr": 0.0, "weight_decay": 0.0})
        self.factor, self.betas, self.epsilon, self.max_grad_norm = factor, betas, epsilon, max_grad_norm

    def set_rates(self, position: int) -> float:
        """The highest rate that the step that comes uses; it depends on each parameter's own step alone."""
        used: list[float] = []
        for group in self.param_groups:
            steps = {self._steps(parameter) for parameter in group["params"] if parameter.grad is not None}
            rates = [group["base_lr"] * self.factor(step) for step in steps]
            group["lr"] = max(rates, default=0.0)
            used += rates
        return max(used, default=0.0)

    def _steps(self, parameter: Tensor) -> int:
        """The steps that a parameter has made."""
        return int(self.state[parameter]["step"]) if parameter in self.state else 0

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        first, second = self.betas
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = 0
                    state["m"], state["v"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
                gradient = self._clipped(parameter.grad)
                state["m"].mul_(first).add_(gradient, alpha=1 - first)
                state["v"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
                update = state["m"] / (state["v"].sqrt() + self.epsilon)
                if group["weight_decay"] > 0:
                    update += group["weight_decay"] * parameter
                parameter.sub_(update, alpha=group["base_lr"] * self.factor(state["step"]))
                state["step"] += 1
        return None

    def _clipped(self, gradient: Tensor) -> Tensor:
        if self.max_grad_norm <= 0:
            return gradient
        scale = self.max_grad_norm / (gradient.norm() + 1e-6)
        clipped: Tensor = gradient * scale.clamp(max=1.0)
        return clipped


def make_optimizer(
    groups: list[dict[str, Any]], settings: OptimizerSettings, factor: Factor, clips_per_tensor: bool = True
) -> torch.optim.Optimizer:
    """The optimiser that the settings name, on the groups of `parameter_groups`.

    The original's fine-tuning clips each tensor by itself; its further pre-training clips by the global norm.
    """
    optimizer = choose("optimizer", settings).make(
        groups=groups, factor=factor, betas=settings.betas, epsilon=settings.epsilon,
        max_grad_norm=settings.max_grad_norm if clips_per_tensor else 0.0,
    )  # fmt: skip
    return cast(torch.optim.Optimizer, optimizer)


def set_rates(optimizer: torch.optim.Optimizer, factor: Factor, position: int) -> float:
    """Set the rates of the step that comes, at this position of the budget; the highest that it uses.

    That is the peak rate `base_lr` of each group times the schedule's factor, unless the optimiser has a `set_rates` of
    its own, as BERTAdam does: then the rates are its own affair.
    """
    own = getattr(optimizer, "set_rates", None)
    if own is not None:
        return float(own(position))
    for group in optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor(position)
    return max(float(group["lr"]) for group in optimizer.param_groups)


def clip_gradients(optimizer: torch.optim.Optimizer, max_norm: float) -> float:
    """Clip by the global norm, and return that norm as it was before; 0 clips nothing.

    The same as PyTorch's `clip_grad_norm_`, but AdamW's fused step divides the gradients itself: they are not read and
    written once more. BERTAdam may clip each tensor itself; then the norm is only measured here.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    length = float(norm)  # a GPU is waited for here, once a step
    if isinstance(optimizer, torch.optim.AdamW) and norm.device.type in ("cpu", "cuda"):
        over = max_norm > 0 and math.isfinite(length) and length > max_norm
        optimizer.grad_scale = (norm + 1e-6) / max_norm if over else None  # type: ignore[attr-defined]
    elif max_norm > 0 and not (isinstance(optimizer, BertAdam) and optimizer.max_grad_norm > 0):
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    return length
