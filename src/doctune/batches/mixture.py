"""Several tasks in one training: which task each step is of, and which of its documents the step has.

Sampling: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer",
section 3.5.2, with one difference: nothing is drawn by chance. An epoch has a number of steps of each task, in an order
shuffled by (seed, epoch), and a task's documents are gone through one epoch of its own after another.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from doctune import seeding
from doctune.batches.collate import Collator
from doctune.batches.feed import Position, Steps
from doctune.batches.plan import Plan, documents_per_epoch, epoch_plan
from doctune.settings import MixtureSettings, TrainingSettings
from doctune.store.splits import Dataset
from doctune.tensors import Batch


@dataclass(frozen=True, slots=True)
class Part:
    """The training documents of one task."""

    task: str
    dataset: Dataset
    collator: Collator


class Stream:
    """One task's steps, cut from epochs of its own that follow one another and do not depend on the other tasks.

    `documents` is how many of them a joint epoch has. As many as there are: then every one of them, exactly once.
    """

    def __init__(self, part: Part, documents: float, training: TrainingSettings, seed: int) -> None:
        self._lengths = part.collator.lengths(part.dataset)
        self._seed = seeding.derive(seed, "task", part.task)
        self._training, self._share = training, documents / len(part.dataset)
        self.steps = Steps(training.accumulation)
        self.used = self._epochs = 0

    def more(self, share: float) -> int:
        """Take this share of one more joint epoch; says how many steps that makes."""
        if self._share == 1.0:
            number = self._add(share)
        else:
            whole = -(-len(self._plan(0)) // self._training.accumulation)
            number = max(round(share * self._share * whole), 1)
            while len(self.steps) < self.used + number:
                self._add(1.0)
        self.used += number
        return number

    def num_documents(self, steps: int) -> int:
        """Documents in the first `steps` steps, repetitions counted."""
        return sum(self.steps[step].num_documents for step in range(steps))

    def _add(self, share: float) -> int:
        number = self.steps.add(self._plan(self._epochs), share)
        self._epochs += 1
        return number

    def _plan(self, epoch: int) -> Plan:
        training = self._training
        return epoch_plan(self._lengths, self._seed, epoch, training.batch_size, training.tokens_per_batch)


class MixedFeed:
    """Documents of several tasks, planned for all epochs before the first step; a step is of one task.

    `task_of[i]` is the number of the task of step i, and `place_of[i]` which of that task's own steps it is. `ends` are
    the steps after which a part of an epoch is complete. Rows of batches count through the tasks, one after another.
    """

    def __init__(self, parts: Sequence[Part], training: TrainingSettings, mixture: MixtureSettings, seed: int) -> None:
        self.parts = list(parts)
        sizes = [len(part.dataset) for part in self.parts]
        self._first_row = [0, *np.cumsum(sizes).tolist()]
        wanted = documents_per_epoch(sizes, mixture)
        self.streams = [Stream(part, number, training, seed) for part, number in zip(self.parts, wanted, strict=True)]
        self.ends: list[int] = []
        epochs: list[npt.NDArray[np.int16]] = []
        for epoch in range(math.ceil(training.epochs)):
            share = min(training.epochs - epoch, 1.0)
            counts = [stream.more(share) for stream in self.streams]
            done, number = sum(map(len, epochs)), sum(counts)
            order = np.repeat(np.arange(len(counts), dtype=np.int16), counts)
            epochs.append(seeding.generator(seed, "tasks", epoch).permutation(order))
            parts_of_it = max(round(training.evaluations_per_epoch * share), 1)
            self.ends += [done + math.ceil(number * (part + 1) / parts_of_it) for part in range(parts_of_it)]
        self.task_of = np.concatenate(epochs)
        self.place_of = np.zeros(len(self.task_of), np.int64)
        for task in range(len(self.parts)):
            mine = np.flatnonzero(self.task_of == task)
            self.place_of[mine] = np.arange(len(mine))
        self.steps_per_epoch = len(self.task_of) / training.epochs

    def __len__(self) -> int:
        return len(self.task_of)

    def num_steps(self, steps: int | None = None) -> list[int]:
        """How many of the first `steps` steps are of each task; of all of them by default."""
        return [int(np.count_nonzero(self.task_of[:steps] == task)) for task in range(len(self.parts))]

    def num_documents(self, steps: int | None = None) -> list[int]:
        """Documents of each task in those steps, repetitions counted."""
        counts = self.num_steps(steps)
        return [stream.num_documents(count) for stream, count in zip(self.streams, counts, strict=True)]

    def window(self, step: int, progress: float) -> list[Batch]:
        """The batches of one step, all of one task."""
        number = int(self.task_of[step])
        part = self.parts[number]
        plan = self.streams[number].steps[int(self.place_of[step])]
        batches = [part.collator(part.dataset, places) for places in plan]
        return [replace(batch, task=part.task, rows=batch.rows + self._first_row[number]) for batch in batches]

    def position(self) -> Position:
        """Nothing: the step says it all."""
        return {}

    def seek(self, position: Position) -> None:
        """Nothing to do."""

    def names(self, rows: Sequence[int]) -> list[str]:
        """The documents' tasks and ids."""
        found = []
        for row in rows:
            number = bisect_right(self._first_row, row) - 1
            part = self.parts[number]
            found.append(f"{part.task}: {part.dataset.ids(np.array([row - self._first_row[number]]))[0]}")
        return found
