"""Which tokens of a long document the encoder reads.

A truncation gives a list of windows; all of these here give exactly one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from doctune.errors import ConfigError
from doctune.settings import TruncationSettings
from doctune.text.tokenizer import Ids

# The paper keeps 128 of BERT's 510 places for the head of a text.
PAPER_HEAD, PAPER_BUDGET = 128, 510


class Truncation(Protocol):
    """Cuts a document's tokens into windows of at most `budget` tokens, special tokens not counted."""

    def windows(self, ids: Ids, budget: int) -> list[Ids]: ...


@dataclass(frozen=True, slots=True)
class HeadOnly:
    """Keeps the first tokens."""

    def windows(self, ids: Ids, budget: int) -> list[Ids]:
        return [ids[:budget]]


@dataclass(frozen=True, slots=True)
class TailOnly:
    """Keeps the last tokens."""

    def windows(self, ids: Ids, budget: int) -> list[Ids]:
        return [ids[max(len(ids) - budget, 0) :]]


@dataclass(frozen=True, slots=True)
class HeadTail:
    """Keeps the first `head` tokens and as many of the last as there is room for.

    `head` 0 is half of the budget, None the paper's share of it (128 of 510). `lose_odd` repeats the original, which
    leaves one place empty when it halves an odd budget. A budget not above `head` leaves no tail: see `check`.
    """

    head: int | None = None
    lose_odd: bool = False

    def windows(self, ids: Ids, budget: int) -> list[Ids]:
        if len(ids) <= budget:
            return [ids]
        head = self.head_of(budget)
        tail = head if self.lose_odd and self.head == 0 else budget - head
        return [np.concatenate([ids[:head], ids[len(ids) - tail :]])]

    def head_of(self, budget: int) -> int:
        """Tokens kept at the head for a budget."""
        if self.head is None:
            return round(budget * PAPER_HEAD / PAPER_BUDGET)
        return budget // 2 if self.head == 0 else min(self.head, budget)


def make_truncation(settings: TruncationSettings, budget: int) -> Truncation:
    """The truncation that the settings name; `ConfigError` where its parts do not fit into `budget` tokens."""
    if settings.truncation == "head-only":
        return HeadOnly()
    if settings.truncation == "tail-only":
        return TailOnly()
    if settings.head_tokens is not None and settings.head_tokens >= budget:
        raise ConfigError(
            f"truncation.head_tokens: {settings.head_tokens} leaves no tail in the {budget} tokens that "
            f"max_seq_len {settings.max_seq_len} has room for; take fewer, or truncation = head-only"
        )
    return HeadTail(settings.head_tokens, settings.original_truncation)


def truncate_pair(first: Ids, second: Ids, budget: int) -> tuple[Ids, Ids]:
    """Cut the longer text from its end until both fit, the second one on a tie, as the original does token by token."""
    a, b = len(first), len(second)
    excess = a + b - budget
    if excess > 0:
        cut = min(excess, abs(a - b))
        a, b = (a - cut, b) if a > b else (a, b - cut)
        excess -= cut
        a, b = a - excess // 2, b - (excess - excess // 2)
    return first[: max(a, 0)], second[: max(b, 0)]
