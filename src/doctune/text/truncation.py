"""Which tokens of a long document the encoder reads.

A truncation gives a list of windows: `Windows` as many as the text needs, all others exactly one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from doctune.errors import ConfigError
from doctune.settings import TruncationSettings
from doctune.settings.implementations import Own, choose
from doctune.text.tokenizer import Ids

# The paper keeps 128 of BERT's 510 places for the head of a text.
PAPER_HEAD, PAPER_BUDGET = 128, 510
Counts = npt.NDArray[np.int64]


class Truncation(Protocol):
    """Cuts a document's tokens into windows of at most `budget` tokens, special tokens not counted."""

    def windows(self, ids: Ids, budget: int) -> list[Ids]: ...


@runtime_checkable
class SeveralWindows(Truncation, Protocol):
    """A truncation that may read a document in several windows; what it must tell of them is as in `Windows`."""

    def places(self, length: int, budget: int) -> list[tuple[int, int]]: ...

    def numbers(self, lengths: Counts, budget: int) -> Counts: ...

    def tokens(self, lengths: Counts, budget: int) -> Counts: ...

    def cuts(self, lengths: Counts, budget: int) -> npt.NDArray[np.bool_]: ...


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
    """Keeps the first `head_tokens` tokens and as many of the last as there is room for.

    `head_tokens` 0 is half of the budget, None the paper's share of it (128 of 510). `original_truncation` repeats the
    original, which leaves one place empty when it halves an odd budget.
    """

    head_tokens: int | None = None
    original_truncation: bool = False

    def windows(self, ids: Ids, budget: int) -> list[Ids]:
        if len(ids) <= budget:
            return [ids]
        head = self.head_of(budget)
        tail = head if self.original_truncation and self.head_tokens == 0 else budget - head
        return [np.concatenate([ids[:head], ids[len(ids) - tail :]])]

    def head_of(self, budget: int) -> int:
        """Tokens kept at the head for a budget."""
        if self.head_tokens is None:
            return round(budget * PAPER_HEAD / PAPER_BUDGET)
        return budget // 2 if self.head_tokens == 0 else min(self.head_tokens, budget)

    def check(self, budget: int, max_seq_len: int) -> None:
        """`ConfigError` where the head leaves no tail in `budget` tokens."""
        if self.head_tokens is not None and self.head_tokens >= budget:
            raise ConfigError(
                f"truncation.head_tokens: {self.head_tokens} leaves no tail in the {budget} tokens that "
                f"max_seq_len {max_seq_len} has room for; take fewer, or truncation = head-only"
            )


@dataclass(frozen=True, slots=True)
class Windows:
    """Keeps everything, in windows of the whole budget that begin `budget - overlap` tokens apart.

    With an overlap the last window reaches back as far as it must to be full, so that all windows of a long text have
    the same length; without one no token is read twice, and the last window has what is left. Of more than
    `max_windows` windows the first are kept. A text that fits is one window.
    """

    overlap: int = 0
    max_windows: int | None = None

    def windows(self, ids: Ids, budget: int) -> list[Ids]:
        return [ids[start : start + count] for start, count in self.places(len(ids), budget)]

    def check(self, budget: int, max_seq_len: int) -> None:
        """`ConfigError` where windows of `budget` tokens would not get on."""
        if self.overlap >= budget:
            raise ConfigError(
                f"truncation.overlap: {self.overlap} is not less than the {budget} tokens of a window that "
                f"max_seq_len {max_seq_len} has room for; take fewer"
            )

    def places(self, length: int, budget: int) -> list[tuple[int, int]]:
        """Where each window of a text of `length` tokens begins, and how many tokens it has."""
        last = max(length - budget, 0) if self.overlap else length
        number = int(self.numbers(np.array([length]), budget)[0])
        starts = [min(place * (budget - self.overlap), last) for place in range(number)]
        return [(start, min(budget, length - start)) for start in starts]

    def numbers(self, lengths: Counts, budget: int) -> Counts:
        """How many windows texts of these lengths are read in."""
        needed = np.maximum(-(-(lengths - self.overlap) // (budget - self.overlap)), 1)
        return needed if self.max_windows is None else np.minimum(needed, self.max_windows)

    def tokens(self, lengths: Counts, budget: int) -> Counts:
        """The tokens of all windows of each text; those that windows share count in each."""
        full = self.numbers(lengths, budget) * budget
        reaches_back = (self.overlap > 0) & (lengths > budget)
        return np.where(reaches_back, full, np.minimum(lengths, full))

    def cuts(self, lengths: Counts, budget: int) -> npt.NDArray[np.bool_]:
        """Which texts lose tokens."""
        reached = self.numbers(lengths, budget) * (budget - self.overlap) + self.overlap
        return np.asarray(lengths > reached)


def make_truncation(settings: TruncationSettings, budget: int, own: Own = ()) -> Truncation:
    """The truncation that the settings name; `ConfigError` where its parts do not fit into `budget` tokens.

    A truncation with such parts has `check(budget, max_seq_len)`. `own`: classes of the user's, see `implementation`.
    """
    truncation = cast(Truncation, choose("truncation", settings, own).make())
    check = getattr(truncation, "check", None)
    if check is not None:
        check(budget, settings.max_seq_len)
    return truncation


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
