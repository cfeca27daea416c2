"""One process's share of a batch.

Every process collates the whole batch and keeps some of its documents: that costs little beside the encoder, and each
knows the counts of all of them, so that nothing of that need be sent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

import torch

from doctune.tensors import Batch, MaskedBatch

AnyBatch = TypeVar("AnyBatch", bound=Batch)


def share(batch: AnyBatch, rank: int, size: int) -> AnyBatch | None:
    """The documents of a batch that process `rank` of `size` computes, in their order; None if there are too few.

    Every document is of exactly one share, and the shares have about as many tokens.
    """
    if size == 1:
        return batch
    lengths = batch.cu_seqlens.diff()
    tokens = torch.zeros(batch.num_documents, dtype=torch.int64).index_add_(0, batch.window_of, lengths)
    mine = torch.tensor(_shares(tokens.tolist(), size)[rank], dtype=torch.int64)
    if not len(mine):
        return None
    place = torch.full((batch.num_documents,), -1)
    place[mine] = torch.arange(len(mine))
    windows = place[batch.window_of] >= 0
    kept = torch.repeat_interleave(windows, lengths)
    bounds = torch.cat([torch.zeros(1, dtype=torch.int64), lengths[windows].cumsum(0)])
    own = replace(
        batch,
        input_ids=batch.input_ids[kept],
        position_ids=batch.position_ids[kept],
        token_type_ids=batch.token_type_ids[kept],
        cu_seqlens=bounds,
        max_seqlen=int(lengths[windows].max()),
        window_of=place[batch.window_of][windows],
        rows=batch.rows[mine],
        labels=None if batch.labels is None else batch.labels[mine],
        lengths=tuple(lengths[windows].tolist()),
    )
    if not isinstance(batch, MaskedBatch):
        return own
    # The masked tokens go along, at their new places.
    chosen, moved = kept[batch.masked_positions], kept.cumsum(0) - 1
    masks: dict[str, Any] = {
        "masked_positions": moved[batch.masked_positions[chosen]],
        "masked_labels": batch.masked_labels[chosen],
        "pair_labels": None if batch.pair_labels is None else batch.pair_labels[windows],
    }
    return replace(own, **masks)


def _shares(tokens: list[int], size: int) -> list[list[int]]:
    """The documents of each share, ascending: longest first, each goes where the fewest tokens are."""
    shares: list[list[int]] = [[] for _ in range(size)]
    totals = [0] * size
    for document in sorted(range(len(tokens)), key=lambda place: -tokens[place]):
        least = min(range(size), key=totals.__getitem__)
        shares[least].append(document)
        totals[least] += tokens[document]
    return [sorted(own) for own in shares]
