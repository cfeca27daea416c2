"""The types in which the data side and the model side meet.

`Batch` is packed: the tokens of all sequences end to end, nothing padded. T is the number of tokens in a batch,
N the number of sequences (windows), D the number of documents, H the hidden size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

ONE_TASK = "default"
"""What the task of a batch is called where there is only one."""


@dataclass(frozen=True, slots=True)
class Batch:
    """N sequences end to end.

    `input_ids`, `position_ids` (from 0 within each sequence), `token_type_ids`: int64 [T].
    `cu_seqlens`: int64 [N + 1], where each sequence begins and the last one ends; `max_seqlen` its longest.
    `window_of`: int64 [N], ascending, the document of this batch that a window belongs to; each has one or more.
    `labels`: int64 [D], or None where there is nothing to learn from. `rows`: int64 [D], where each document stands
    in its data set. `task` names the head. `lengths` repeats the sequence lengths on the host, so that planning
    attention needs no copy from a device.
    """

    input_ids: Tensor
    position_ids: Tensor
    token_type_ids: Tensor
    cu_seqlens: Tensor
    max_seqlen: int
    window_of: Tensor
    rows: Tensor
    labels: Tensor | None = None
    task: str = ONE_TASK
    lengths: tuple[int, ...] = field(default=())

    @property
    def num_tokens(self) -> int:
        """T, the tokens of the batch; all of them are real."""
        return int(self.input_ids.shape[0])

    @property
    def num_documents(self) -> int:
        """D, the documents of the batch."""
        return int(self.rows.shape[0])

    @property
    def num_windows(self) -> int:
        """N, the sequences of the batch."""
        return int(self.window_of.shape[0])

    def pieces(self, max_tokens: int) -> Iterator[Batch]:
        """The sequences in runs of at most `max_tokens` tokens; one that is longer is a run of its own.

        In a run every sequence is a document, without a label, in the row of the document that it is a window of.
        """
        first = start = 0
        while first < len(self.lengths):
            last, stop = first + 1, start + self.lengths[first]
            while last < len(self.lengths) and stop + self.lengths[last] - start <= max_tokens:
                stop += self.lengths[last]
                last += 1
            yield Batch(
                input_ids=self.input_ids[start:stop], position_ids=self.position_ids[start:stop],
                token_type_ids=self.token_type_ids[start:stop],
                cu_seqlens=self.cu_seqlens[first : last + 1] - start, max_seqlen=max(self.lengths[first:last]),
                window_of=torch.arange(last - first, device=self.window_of.device),
                rows=self.rows[self.window_of[first:last]], task=self.task, lengths=self.lengths[first:last],
            )  # fmt: skip
            first, start = last, stop

    def to(self, device: torch.device) -> Batch:
        """The same batch on another device."""
        names = ("input_ids", "position_ids", "token_type_ids", "cu_seqlens", "window_of", "rows")
        moved = {name: getattr(self, name).to(device, non_blocking=True) for name in names}
        labels = None if self.labels is None else self.labels.to(device, non_blocking=True)
        return replace(self, **moved, labels=labels)


@dataclass(frozen=True, slots=True)
class MaskedBatch(Batch):
    """Sequences for further pre-training: some tokens are masked, and a pair may be a true one or not.

    `masked_positions`: int64 [M], places in the packed row, sorted; `masked_labels`: int64 [M], the ids they had.
    `pair_labels`: int64 [N], 1 for a random or swapped second part; None where there are no pairs.
    """

    masked_positions: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    masked_labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))
    pair_labels: Tensor | None = None

    def to(self, device: torch.device) -> MaskedBatch:
        """The same batch on another device."""
        moved = Batch.to(self, device)
        assert isinstance(moved, MaskedBatch)
        return replace(
            moved,
            masked_positions=self.masked_positions.to(device, non_blocking=True),
            masked_labels=self.masked_labels.to(device, non_blocking=True),
            pair_labels=None if self.pair_labels is None else self.pair_labels.to(device, non_blocking=True),
        )


@dataclass(frozen=True, slots=True)
class HiddenStates:
    """What an encoder gives: for each layer asked for, in the order asked for, a packed [T, H] tensor."""

    layers: tuple[Tensor, ...]
    cu_seqlens: Tensor
    window_of: Tensor
    num_documents: int

    @property
    def first_rows(self) -> Tensor:
        """Indices of the [CLS] tokens: int64 [N]."""
        return self.cu_seqlens[:-1]

    @property
    def sequence_of(self) -> Tensor:
        """The sequence that each token belongs to: int64 [T]."""
        lengths = self.cu_seqlens.diff()
        numbers = torch.arange(len(lengths), device=lengths.device)
        # The size is known: without it a GPU would have to be waited for.
        return torch.repeat_interleave(numbers, lengths, output_size=len(self.layers[0]))


def one_token_each(x: Tensor) -> HiddenStates:
    """Hidden states [N, H] of N sequences of one token: what a pooling of the first token needs."""
    bounds = torch.arange(len(x) + 1, device=x.device)
    return HiddenStates((x,), bounds, bounds[:-1], len(x))


@dataclass(frozen=True, slots=True)
class Loss:
    """A sum over `count` weighted examples; the loop divides by the count of the whole accumulation window."""

    sum: Tensor
    count: Tensor
