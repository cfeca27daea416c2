"""The learning rate over time, as a factor of the peak rate; pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable

from doctune.settings import ScheduleSettings

Factor = Callable[[int], float]


def make_schedule(settings: ScheduleSettings, total_steps: int) -> Factor:
    """The factor for each optimiser step, counted from 0, of a run of `total_steps`."""
    warmup, total = settings.warmup, total_steps
    schedules: dict[str, Factor] = {
        "slanted-triangular": lambda step: _rise(step, warmup, total, _line),
        "constant": lambda step: _rise(step, warmup, total, lambda _: 1.0),
        "trapezoid": lambda step: _trapezoid(step, warmup, total, settings.decay),
        "cosine": lambda step: _rise(step, warmup, total, lambda x: 0.5 * (1.0 + math.cos(math.pi * x))),
        "warmup-linear": lambda step: original(step, warmup, total, _line),
        "warmup-constant": lambda step: original(step, warmup, total, lambda _: 1.0),
        "warmup-cosine": lambda step: original(step, warmup, total, lambda x: 0.5 * (1.0 + math.cos(math.pi * x))),
    }
    return schedules[settings.schedule]


def falls_from(settings: ScheduleSettings, total_steps: int) -> int | None:
    """The last step before the rate falls, for a schedule that stays at its peak until then; None for others."""
    if settings.schedule != "trapezoid":
        return None
    return max(total_steps - max(round(settings.decay * total_steps), 1), 1)


def _line(x: float) -> float:
    return 1.0 - x


def _rise(step: int, warmup: float, total: int, fall: Callable[[float], float]) -> float:
    """Rise to 1 over the warm-up, then fall over what is left; no step has rate 0, and nothing jumps."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / rising
    return max(fall((step - rising) / max(total - rising, 1)), 0.0)


def _trapezoid(step: int, warmup: float, total: int, decay: float) -> float:
    """Rise to 1, stay there, and fall to 0 over the last `decay` of the steps."""
    falling = max(round(decay * total), 1)
    return min(_rise(step, warmup, total, lambda _: 1.0), max((total - step) / falling, 0.0))


def original(step: int, warmup: float, total: int, fall: Callable[[float], float]) -> float:
    """As the original: x = step / total; x / warmup below the warm-up, and then `fall(x)` and not fall(x - warmup).

    So the first step has rate 0, the rate drops at the end of the warm-up, and past `total` it is negative.
    """
    x = step / total
    return x / warmup if x < warmup else fall(x)
