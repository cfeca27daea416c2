"""What the training loop eats: the batches of each optimiser step, from whatever they are made."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from doctune.batches.collate import Collator
from doctune.batches.plan import Plan, epoch_plan
from doctune.settings import TrainingSettings
from doctune.store.splits import Dataset
from doctune.tensors import Batch

Position = dict[str, int]


class Feed(Protocol):
    """Batches by optimiser step, in an order that depends on seed and data alone."""

    steps_per_epoch: float

    def window(self, step: int, progress: float) -> Sequence[Batch]:
        """The batches of one step, whose gradients are added up; steps are asked for in order.

        `progress` is the share of the run's budget that is spent.
        """
        ...

    def position(self) -> Position:
        """Where the feed stands, for a checkpoint."""
        ...

    def seek(self, position: Position) -> None:
        """Go on from a checkpoint's position."""
        ...

    def names(self, rows: Sequence[int]) -> list[str]:
        """The documents of a batch's rows, for messages."""
        ...


class Steps:
    """The accumulation windows of all epochs, cut from their plans when asked for: a run may have millions."""

    def __init__(self, accumulation: int) -> None:
        self.accumulation = accumulation
        self._plans: list[Plan] = []
        self._ends: list[int] = []

    def add(self, plan: Plan, share: float = 1.0) -> int:
        """Append an epoch, of which this share is used, at least one step; says how many steps that makes."""
        whole = -(-len(plan) // self.accumulation)
        number = min(max(round(share * whole), 1), whole)
        self._ends.append(len(self) + number)
        self._plans.append(plan[: number * self.accumulation])
        return number

    def num_documents(self) -> int:
        """Documents in all steps, repetitions counted."""
        return sum(plan.num_documents for plan in self._plans)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, step: int) -> Plan:
        step = range(len(self))[step]
        epoch = bisect_right(self._ends, step)
        first = (step - (self._ends[epoch - 1] if epoch else 0)) * self.accumulation
        return self._plans[epoch][first : first + self.accumulation]

    def __iter__(self) -> Iterator[Plan]:
        return map(self.__getitem__, range(len(self)))


class DocumentFeed:
    """Labelled documents, planned for all epochs before the first step: the schedule needs their number.

    `steps[i]` is the accumulation window of step i; `ends` are the steps after which a part of an epoch is complete.
    """

    def __init__(self, dataset: Dataset, collator: Collator, settings: TrainingSettings, seed: int) -> None:
        self.dataset, self.collator = dataset, collator
        lengths = collator.lengths(dataset)
        self.steps = Steps(settings.accumulation)
        self.ends: list[int] = []
        for epoch in range(math.ceil(settings.epochs)):
            share = min(settings.epochs - epoch, 1.0)
            parts = max(round(settings.evaluations_per_epoch * share), 1)
            done = len(self.steps)
            plan = epoch_plan(lengths, seed, epoch, settings.batch_size, settings.tokens_per_batch)
            number = self.steps.add(plan, share)
            self.ends += [done + math.ceil(number * (part + 1) / parts) for part in range(parts)]
        self.steps_per_epoch = len(self.steps) / settings.epochs

    def num_documents(self) -> int:
        """Documents in all steps, repetitions counted."""
        return self.steps.num_documents()

    def window(self, step: int, progress: float) -> list[Batch]:
        """The batches of one step."""
        return [self.collator(self.dataset, places) for places in self.steps[step]]

    def position(self) -> Position:
        """Nothing: the step says it all."""
        return {}

    def seek(self, position: Position) -> None:
        """Nothing to do."""

    def names(self, rows: Sequence[int]) -> list[str]:
        """The documents' ids."""
        return self.dataset.ids(np.asarray(rows, np.int64))
