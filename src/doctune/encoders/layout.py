"""Where the tokens of a packed row stand when sequences of near-equal length are attended together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from doctune.tensors import Batch

# Lengths are rounded up to multiples of this, so that the same few shapes come again and their kernels with them.
GRANULARITY = 32
# Tokens of a packed row are filled up to a multiple of this, for the same reason: a product of a new shape has to be
# compiled first, which costs a small encoder a tenth of its step.
ROW_GRANULARITY = 64
# And a short text that is answered by itself up to a multiple of this: there the products cost more than new shapes.
ROW_GRANULARITY_OF_ONE_TEXT = 16
# Elements of one bucket's score matrix: keeps a bucket's working set near the processor's caches.
SCORES_PER_BUCKET = 1 << 22
# A bucket has a price of its own, as high as that of so many more scores.
SCORES_PER_CALL = 1 << 18
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bucket:
    """`count` sequences attended together, from rows `first_query` and `first_key` of the gathered tokens on.

    Each has `queries` and `keys` places; `padded` [count, 1, 1, keys] marks keys past the end, None if there are none.
    """

    count: int
    queries: int
    keys: int
    first_query: int
    first_key: int
    padded: Tensor | None


@dataclass(frozen=True, slots=True)
class BucketIndex:
    """Where the rows of a tensor [T, ...] stand in their buckets' places [R].

    `rows` [R]: which row a place reads; a pad reads the first one of its own sequence, so that a number that is not
    finite stays in its document. `rows_or_end` [R]: the same, but a pad reads row T, which the caller fills with zeros.
    `of` [T]: the place of each row; rows that only fill up have place R, which the caller fills with zeros.
    """

    rows: Tensor
    rows_or_end: Tensor
    of: Tensor


@dataclass(frozen=True, slots=True)
class Layout:
    """How a batch's sequences are bucketed; made once a batch, used by every layer.

    `keys` and `queries` are the same where every token attends. `num_filling`: rows behind the last token, which belong
    to no sequence. `rows` [Q]: the tokens that attend, if only some do.
    `top`: the layout of the highest layer, if that is read in some rows only.
    """

    buckets: tuple[Bucket, ...]
    keys: BucketIndex
    queries: BucketIndex
    longest: int
    num_filling: int = 0
    rows: Tensor | None = None
    top: Layout | None = None

    @classmethod
    def of(cls, batch: Batch, num_heads: int, rows: Tensor | None = None, fills: bool = False) -> Layout:
        """The layout of a batch, of whose highest layer only `rows` [Q] of the packed row are read, or all.

        `fills`: the packed row will be filled up to a multiple of `ROW_GRANULARITY`; see also that of one text.
        """
        device = batch.input_ids.device
        one_text = batch.num_tokens < ROW_GRANULARITY and torch.is_inference_mode_enabled()
        granularity = ROW_GRANULARITY_OF_ONE_TEXT if one_text else ROW_GRANULARITY
        filling = -batch.num_tokens % granularity if fills else 0
        top = None if rows is None else cls.plan(batch.lengths, num_heads, device, rows, filling)
        return replace(cls.plan(batch.lengths, num_heads, device, num_filling=filling), top=top)

    @classmethod
    def plan(
        cls, lengths: Sequence[int], num_heads: int, device: torch.device, rows: Tensor | None = None,
        num_filling: int = 0,
    ) -> Layout:  # fmt: skip
        """Sort by length, round up, and cut where the scores would leave the caches."""
        length = np.asarray(lengths, np.int64)
        starts = np.cumsum(length) - length
        sequence_of = np.repeat(np.arange(len(length)), length)
        number_in = np.arange(len(sequence_of)) - starts[sequence_of]
        asking, counts = (None, length) if rows is None else _queries(rows, starts)
        rounded = -(-length // GRANULARITY) * GRANULARITY
        first_key, first_query = np.zeros_like(length), np.zeros_like(length)
        buckets, num_keys, num_queries = [], 0, 0
        sequence_at_key, sequence_at_query = [], []
        for chosen in _groups(rounded, num_heads):
            keys = int(rounded[chosen].max())
            asked = keys if rows is None else _few(int(counts[chosen].max()))
            first_key[chosen] = num_keys + keys * np.arange(len(chosen))
            first_query[chosen] = num_queries + asked * np.arange(len(chosen))
            padded = np.arange(keys) >= length[chosen, None]
            pads = torch.from_numpy(padded[:, None, None, :]).to(device) if padded.any() else None
            buckets.append(Bucket(len(chosen), asked, keys, num_queries, num_keys, pads))
            sequence_at_key.append(np.repeat(chosen, keys))
            sequence_at_query.append(np.repeat(chosen, asked))
            num_keys, num_queries = num_keys + keys * len(chosen), num_queries + asked * len(chosen)
        places = _places(
            first_key[sequence_of] + number_in, starts[np.concatenate(sequence_at_key)], device, num_filling
        )
        if asking is None:
            return cls(tuple(buckets), places, places, int(length.max()), num_filling)
        order = np.argsort(asking, kind="stable")
        number = np.empty(len(asking), np.int64)
        behind = np.cumsum(counts) - counts
        number[order] = np.arange(len(asking)) - np.repeat(behind, counts)
        first_row = np.append(order, 0)[np.where(counts > 0, behind, len(order))]
        queries = _places(first_query[asking] + number, first_row[np.concatenate(sequence_at_query)], device)
        return cls(tuple(buckets), places, queries, int(length.max()), num_filling, rows)


def _queries(rows: Tensor, starts: Ints) -> tuple[Ints, Ints]:
    """The sequence of each row, and how many rows each sequence has."""
    sequence: Ints = np.searchsorted(starts, rows.cpu().numpy(), side="right") - 1
    return sequence, np.bincount(sequence, minlength=len(starts))


def _groups(rounded: Ints, num_heads: int) -> list[Ints]:
    """The sequences of each bucket: of one rounded length, or of several where a bucket more would cost more."""
    order = np.argsort(rounded, kind="stable")
    sizes, counts = np.unique(rounded, return_counts=True)
    groups, start, waiting = [], 0, 0
    for place, (size, count) in enumerate(zip(sizes.tolist(), counts.tolist(), strict=True)):
        waiting += count
        if place + 1 < len(sizes):
            more = waiting * (int(sizes[place + 1]) ** 2 - size**2) * num_heads
            if more < SCORES_PER_CALL:
                continue
        per_bucket = max(1, SCORES_PER_BUCKET // (num_heads * size * size))
        groups += [order[first : min(first + per_bucket, start + waiting)]
                   for first in range(start, start + waiting, per_bucket)]  # fmt: skip
        start, waiting = start + waiting, 0
    return groups


def _few(count: int) -> int:
    """Places for so many queries: one for [CLS] alone, multiples of 8 for masked tokens."""
    return 1 if count <= 1 else -(-count // 8) * 8


def _places(place_of: Ints, pads_read: Ints, device: torch.device, num_filling: int = 0) -> BucketIndex:
    """`place_of` [T]: the place of each row; `pads_read` [R]: what a place reads if it is a pad."""
    number, total = len(place_of), len(pads_read)
    rows, rows_or_end = pads_read.copy(), np.full(total, number + num_filling)
    rows[place_of] = rows_or_end[place_of] = np.arange(number)
    of = np.concatenate([place_of, np.full(num_filling, total)])
    first, second, third = (torch.from_numpy(x).to(device) for x in (rows, rows_or_end, of))
    return BucketIndex(first, second, third)


def ended(rows: Tensor) -> Tensor:
    """A row of zeros more, which `BucketIndex` refers to: [R, ...] to [R + 1, ...]."""
    return torch.cat([rows, rows.new_zeros(1, *rows.shape[1:])])
