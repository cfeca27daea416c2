"""Which documents make a batch: by count, or by a budget of tokens."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from doctune import seeding

Places = npt.NDArray[np.int64]


def epoch_plan(
    lengths: npt.NDArray[np.int64], seed: int, epoch: int, batch_size: int, tokens_per_batch: int | None = None
) -> list[Places]:
    """The batches of one epoch over documents of these lengths, in an order that depends on seed and epoch alone.

    Every document occurs once. With a token budget the shuffled documents are cut where the next one would not fit.
    """
    order = seeding.generator(seed, "order", epoch).permutation(len(lengths))
    if tokens_per_batch is None:
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    return _by_tokens(order, lengths, tokens_per_batch)


def sorted_plan(lengths: npt.NDArray[np.int64], tokens_per_batch: int) -> list[Places]:
    """Batches for evaluation: documents of like length together, longest first, so that memory is tried at once."""
    return _by_tokens(np.argsort(-lengths, kind="stable"), lengths, tokens_per_batch)


def _by_tokens(order: Places, lengths: npt.NDArray[np.int64], budget: int) -> list[Places]:
    """Cut `order` into runs whose lengths add up to at most `budget`; a longer document is a batch of its own."""
    ends = np.cumsum(lengths[order])
    plan, start, done = [], 0, 0
    while start < len(order):
        stop = max(int(np.searchsorted(ends, done + budget, side="right")), start + 1)
        plan.append(order[start:stop])
        done, start = int(ends[stop - 1]), stop
    return plan
