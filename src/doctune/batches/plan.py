"""Which documents make a batch: by count, or by a budget of tokens."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from doctune import seeding
from doctune.settings import MixtureSettings

Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Plan(Sequence[Places]):
    """Batches as views of two arrays, whatever their number: batch i is `order[bounds[i] : bounds[i + 1]]`."""

    order: Places
    bounds: Places

    @property
    def num_documents(self) -> int:
        """Documents in all batches."""
        return int(self.bounds[-1] - self.bounds[0])

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, index: int) -> Places: ...

    @overload
    def __getitem__(self, index: slice) -> Plan: ...

    def __getitem__(self, index: int | slice) -> Places | Plan:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError("a plan can only be cut into runs of batches")
            return Plan(self.order, self.bounds[start : max(start, stop) + 1])
        place = range(len(self))[index]
        return self.order[self.bounds[place] : self.bounds[place + 1]]


def epoch_plan(
    lengths: npt.NDArray[np.int64], seed: int, epoch: int, batch_size: int, tokens_per_batch: int | None = None
) -> Plan:
    """The batches of one epoch over documents of these lengths, in an order that depends on seed and epoch alone.

    Every document occurs once. With a token budget the shuffled documents are cut where the next one would not fit.
    """
    order = seeding.generator(seed, "order", epoch).permutation(len(lengths))
    if tokens_per_batch is None:
        return Plan(order, np.append(np.arange(0, len(order), batch_size), len(order)))
    return _by_tokens(order, lengths, tokens_per_batch)


def documents_per_epoch(sizes: Sequence[int], settings: MixtureSettings) -> list[float]:
    """How many documents of each task an epoch has; their sum does not depend on the temperature.

    `sizes` are the tasks' documents, counted up to `examples_cap`. Proportional: just those. Temperature: task i has
    the share n_i^(1/T) of their sum, so that large tasks are not seen to their end and small ones more than once.
    """
    counted = np.array([min(size, settings.examples_cap or size) for size in sizes], float)
    if settings.mixture == "proportional":
        return [float(count) for count in counted]
    weights = counted ** (1.0 / settings.temperature)
    return [float(count) for count in weights / weights.sum() * counted.sum()]


def sorted_plan(lengths: npt.NDArray[np.int64], tokens_per_batch: int) -> Plan:
    """Batches for evaluation: documents of like length together, longest first, so that memory is tried at once."""
    return _by_tokens(np.argsort(-lengths, kind="stable"), lengths, tokens_per_batch)


def _by_tokens(order: Places, lengths: npt.NDArray[np.int64], budget: int) -> Plan:
    """Cut `order` into runs whose lengths add up to at most `budget`; a longer document is a batch of its own."""
    ends = np.asarray(lengths, np.int64)[order]
    np.cumsum(ends, out=ends)
    shortest = int(lengths.min(initial=budget))
    most = budget // shortest if shortest > 0 else len(order)
    return Plan(order, np.fromiter(_cuts(ends, budget, most), np.int64))


def _cuts(ends: Places, budget: int, most: int) -> Iterator[int]:
    """The bounds of batches, found one by one: each begins where the last one ended.

    `ends` are the tokens up to the end of each document; no batch can have more than `most` documents.
    """
    # Searching a few hundred numbers of a memoryview costs a quarter of a call of np.searchsorted.
    end_of, number = ends.data, len(ends)
    stop = done = 0
    yield stop
    while stop < number:
        stop = bisect_right(end_of, done + budget, stop + 1, min(stop + most, number))
        done = end_of[stop - 1]
        yield stop
