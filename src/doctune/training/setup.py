"""How a model is trained, once: model -> parameter groups -> schedule -> optimiser -> what the loop works with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from doctune.batches.feed import Feed
from doctune.devices import Device
from doctune.distributed import World
from doctune.settings import (
    FinetuneSettings,
    LayerwiseSettings,
    MultitaskSettings,
    OptimizerSettings,
    PretrainSettings,
    ScheduleSettings,
)
from doctune.training.budget import Budget
from doctune.training.layerwise import parameter_groups
from doctune.training.loop import Bar, TrainingSetup
from doctune.training.optim import make_optimizer
from doctune.training.rates import RateRow
from doctune.training.schedule import falls_from, make_schedule

UNIFORM = LayerwiseSettings(layerwise="none")


class Recipe(Protocol):
    """Settings that every training has."""

    @property
    def optimizer(self) -> OptimizerSettings: ...

    @property
    def schedule(self) -> ScheduleSettings: ...


@dataclass(frozen=True, slots=True)
class Course:
    """The way that a training goes: its batches, how long, when the model is validated, what the progress bar counts.

    `evaluate_after` are positions of the budget. `keep_last`: the last weights are kept, not the best.
    """

    feed: Feed
    budget: Budget
    evaluate_after: Sequence[int]
    bar: tuple[Bar, int]
    seed: int
    patience: int | None = None
    keep_last: bool = False


def fine_tuning(
    model: Any, course: Course, settings: FinetuneSettings | MultitaskSettings, device: Device, world: World
) -> tuple[TrainingSetup, list[RateRow]]:
    """The training of a classifier, or of several on one encoder, and its table of learning rates.

    Freezes the encoder where the settings say so. The settings are resolved: the learning rate is given.
    """
    if settings.layerwise.freeze_encoder:
        model.freeze_encoder()
    return _set_up(model, course, settings, settings.layerwise, device, world)


def pretraining(
    model: Any, course: Course, settings: PretrainSettings, device: Device, world: World, prolongable: bool = True
) -> TrainingSetup:
    """A further pre-training: one rate for all layers, gradients clipped by their global norm.

    `prolongable`: a second checkpoint is kept where the rate begins to fall, for a run that gets a larger budget.
    """
    keep_at = falls_from(settings.schedule, course.budget.end) if prolongable else None
    setup, _ = _set_up(model, course, settings, UNIFORM, device, world, clips_per_tensor=False, keep_at=keep_at)
    return setup


def keeps_a_second_checkpoint(settings: PretrainSettings) -> bool:
    """Whether a pre-training keeps a checkpoint where its rate begins to fall, beside the last one."""
    return falls_from(settings.schedule, 1) is not None


def _set_up(
    model: Any, course: Course, recipe: Recipe, layerwise: LayerwiseSettings, device: Device, world: World,
    clips_per_tensor: bool = True, keep_at: int | None = None,
) -> tuple[TrainingSetup, list[RateRow]]:  # fmt: skip
    optimizer = recipe.optimizer
    assert optimizer.learning_rate is not None
    groups, rates = parameter_groups(model, optimizer.learning_rate, optimizer.weight_decay, layerwise)
    schedule = make_schedule(recipe.schedule, course.budget.end)
    setup = TrainingSetup(
        model, course.feed, course.budget, course.evaluate_after, course.bar,
        make_optimizer(groups, optimizer, schedule, clips_per_tensor), schedule, optimizer.max_grad_norm, device,
        course.seed, course.patience, keep_at, course.keep_last, world,
    )  # fmt: skip
    return setup, rates
