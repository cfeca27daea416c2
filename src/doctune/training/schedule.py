"""The learning rate over time, as a factor of the peak rate; pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from doctune.settings import ScheduleSettings
from doctune.settings.implementations import choose

Factor = Callable[[int], float]


def make_schedule(settings: ScheduleSettings, total_steps: int) -> Factor:
    """The factor for each optimiser step, counted from 0, of a run of `total_steps`."""
    return cast(Factor, choose("schedule", settings).make(warmup=settings.warmup, total_steps=total_steps))


def falls_from(settings: ScheduleSettings, total_steps: int) -> int | None:
    """The last step before the rate falls, for a schedule that stays at its peak until then; None for others."""
    last: int | None = getattr(make_schedule(settings, total_steps), "falls_from", None)
    return last


@dataclass(frozen=True, slots=True)
class Schedule:
    """A run of `total_steps`, the share `warmup` of which is the warm-up; called with a step it gives the factor."""

    warmup: float
    total_steps: int


class SlantedTriangular(Schedule):
    """Rises to 1 over the warm-up and falls to 0 in a line."""

    def __call__(self, step: int) -> float:
        return _rise(step, self.warmup, self.total_steps, _line)


class Constant(Schedule):
    """Rises to 1 over the warm-up and stays there."""

    def __call__(self, step: int) -> float:
        return _rise(step, self.warmup, self.total_steps, _level)


class Cosine(Schedule):
    """Rises to 1 over the warm-up and falls to 0 in half a wave."""

    def __call__(self, step: int) -> float:
        return _rise(step, self.warmup, self.total_steps, _half_wave)


@dataclass(frozen=True, slots=True)
class Trapezoid(Schedule):
    """Rises to 1, stays there, and falls to 0 over the last `decay` of the steps."""

    decay: float

    @property
    def falls_from(self) -> int:
        """The last step before the fall."""
        return max(self.total_steps - self._falling, 1)

    @property
    def _falling(self) -> int:
        return max(round(self.decay * self.total_steps), 1)

    def __call__(self, step: int) -> float:
        level = _rise(step, self.warmup, self.total_steps, _level)
        return min(level, max((self.total_steps - step) / self._falling, 0.0))


class WarmupLinear(Schedule):
    """The original's, see `original`: falls in a line."""

    def __call__(self, step: int) -> float:
        return original(step, self.warmup, self.total_steps, _line)


class WarmupConstant(Schedule):
    """The original's, see `original`: stays at 1."""

    def __call__(self, step: int) -> float:
        return original(step, self.warmup, self.total_steps, _level)


class WarmupCosine(Schedule):
    """The original's, see `original`: falls in half a wave."""

    def __call__(self, step: int) -> float:
        return original(step, self.warmup, self.total_steps, _half_wave)


def _line(x: float) -> float:
    return 1.0 - x


def _level(x: float) -> float:
    return 1.0


def _half_wave(x: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * x))


def _rise(step: int, warmup: float, total: int, fall: Callable[[float], float]) -> float:
    """Rise to 1 over the warm-up, then fall over what is left; no step has rate 0, and nothing jumps."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return max(fall((step - rising) / max(total - rising, 1)), 0.0)


def original(step: int, warmup: float, total: int, fall: Callable[[float], float]) -> float:
    """As the original: x = step / total; x / warmup below the warm-up, and then `fall(x)` and not fall(x - warmup).

    So the first step has rate 0, the rate drops at the end of the warm-up, and past `total` it is negative.
    """
    x = step / total
    return x / warmup if x < warmup else fall(x)
