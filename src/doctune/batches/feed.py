"""What the training loop eats: the batches of each optimiser step, from whatever they are made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from doctune.batches.collate import Collator
from doctune.batches.plan import Places, epoch_plan
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


class DocumentFeed:
    """Labelled documents, planned for all epochs before the first step: the schedule needs their number.

    `steps[i]` is the accumulation window of step i; `ends` are the steps after which a part of an epoch is complete.
    """

    def __init__(self, dataset: Dataset, collator: Collator, settings: TrainingSettings, seed: int) -> None:
        self.dataset, self.collator = dataset, collator
        lengths = collator.lengths(dataset)
        self.steps: list[list[Places]] = []
        self.ends: list[int] = []
        for epoch in range(math.ceil(settings.epochs)):
            batches = epoch_plan(lengths, seed, epoch, settings.batch_size, settings.tokens_per_batch)
            window = settings.accumulation
            epoch_steps = [batches[i : i + window] for i in range(0, len(batches), window)]
            share = min(settings.epochs - epoch, 1.0)
            epoch_steps = epoch_steps[: max(round(share * len(epoch_steps)), 1)]
            parts = max(round(settings.evaluations_per_epoch * share), 1)
            done = len(self.steps)
            self.ends += [done + math.ceil(len(epoch_steps) * (part + 1) / parts) for part in range(parts)]
            self.steps += epoch_steps
        self.steps_per_epoch = len(self.steps) / settings.epochs

    def num_documents(self) -> int:
        """Documents in all steps, repetitions counted."""
        return sum(len(places) for window in self.steps for places in window)

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
