"""Which tokens are predicted, and what stands in their places.

Every random number is a hash of the sequence's key and of the place in the sequence, so that a sequence has the same
masks in whatever batch it comes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from doctune.seeding import Words, below, hashed, uniform
from doctune.settings.pretraining import MaskingSettings

Ids = npt.NDArray[np.int32]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# What the random numbers are for, far from those of `pairs`.
PLACE, ORDER, FATE, TOKEN = (1000 + number for number in range(4))
ROWS_AT_ONCE = 4096  # of the table of words


@dataclass(frozen=True, slots=True)
class Masked:
    """A packed row with M tokens to predict."""

    input_ids: Ids  # as the encoder sees them: [T]
    positions: Ints  # places in the packed row, ascending: [M]
    labels: Ids  # what stood there: [M]


def mask(
    input_ids: Ids,
    cu_seqlens: Ints,
    special: Flags,
    keys: Words,
    settings: MaskingSettings,
    max_predictions: int,
    mask_id: int,
    vocab_size: int,
    starts: Flags | None = None,
) -> Masked:
    """Choose tokens of N packed sequences to be predicted, and hide most of them; `input_ids` stay as they are.

    `cu_seqlens` is [N + 1], `special` [T] says which tokens are never chosen, `keys` is [N]. `starts` [T] says which
    tokens begin a word, for whole words only; the first token after a special one always does. The number chosen is
    the share of all tokens of a sequence, special ones included, at least 1 and at most `max_predictions`; with whole
    words it can be less. A random token can be any of `vocab_size`, special and unused ones included.

    Source: BERT's `create_pretraining_data.py`.
    """
    free = np.flatnonzero(~special)
    bounds = np.searchsorted(free, cu_seqlens)
    num_free = np.diff(bounds)
    # NumPy rounds half to even as Python does.
    budget = np.rint(np.diff(cu_seqlens) * settings.masked_lm_prob).astype(np.int64)
    np.clip(budget, 1, max_predictions, out=budget)
    np.minimum(budget, num_free, out=budget)
    if settings.masking == "token":
        chosen, num_chosen = _tokens(bounds, budget, keys), budget
    elif starts is None:
        raise ValueError("whole-word masking needs to know where words begin")
    else:
        chosen, num_chosen = _whole_words(bounds, budget, keys, _begins(free, bounds, starts))
    positions = free[chosen]
    labels = input_ids[positions]
    hidden = input_ids.copy()
    fate = hashed(np.repeat(hashed(keys, FATE), num_chosen), positions - np.repeat(cu_seqlens[:-1], num_chosen))
    share = uniform(fate)
    changed = np.flatnonzero(share < settings.mask_fraction + settings.random_fraction)
    is_mask = share[changed] < settings.mask_fraction
    hidden[positions[changed[is_mask]]] = mask_id
    is_random = changed[~is_mask]
    hidden[positions[is_random]] = below(hashed(fate[is_random], TOKEN), vocab_size)
    return Masked(hidden, positions, labels)


def _tokens(bounds: Ints, budget: Ints, keys: Words) -> Flags:
    """`budget` of each sequence's tokens, all sets of that size being equally likely; [tokens that may be chosen].

    Each sequence draws until it has enough different ones. Where most are to be chosen it draws the others.
    """
    num_free = np.diff(bounds)
    inverted = 2 * budget > num_free
    missing = np.where(inverted, num_free - budget, budget)
    chosen = np.zeros(bounds[-1], np.bool_)
    winner = np.empty(len(chosen), np.int32)
    keys = hashed(keys, PLACE)
    rows = np.repeat(np.arange(len(keys)), missing)
    turn = 0
    while len(rows):
        # Which of two equal draws counts may not matter: a row's next numbers depend on how many it lacks only.
        rank = np.arange(len(rows)) - np.repeat(np.cumsum(missing) - missing, missing)
        drawn = below(hashed(np.repeat(keys, missing), (turn << 32) + rank), np.repeat(num_free, missing))
        drawn += np.repeat(bounds[:-1], missing)
        lost = chosen[drawn]
        order = np.arange(len(rows), dtype=np.int32)
        winner[drawn] = order
        lost |= winner[drawn] != order
        chosen[drawn] = True
        rows = rows[lost]
        missing = np.bincount(rows, minlength=len(keys))
        turn += 1
    if inverted.any():
        chosen ^= np.repeat(inverted, num_free)
    return chosen


def _begins(free: Ints, bounds: Ints, starts: Flags) -> Flags:
    """Whether each token that may be chosen begins a word, the first after a special one included."""
    begins = starts[free]
    begins[1:] |= np.diff(free) > 1
    begins[bounds[:-1][np.diff(bounds) > 0]] = True
    return begins


def _whole_words(bounds: Ints, budget: Ints, keys: Words, begins: Flags) -> tuple[Flags, Ints]:
    """Words in random order, each chosen unless it exceeds what is left; and how many tokens of each row that makes.

    Source: the whole-word masking of Google's BERT.
    """
    chosen = np.zeros(len(begins), np.bool_)
    num_chosen = np.zeros_like(budget)
    for row in range(0, len(keys), ROWS_AT_ONCE):
        rows = slice(row, row + ROWS_AT_ONCE)
        tokens = slice(bounds[row], bounds[min(row + ROWS_AT_ONCE, len(keys))])
        part = bounds[row : row + ROWS_AT_ONCE + 1] - bounds[row]
        chosen[tokens], num_chosen[rows] = _words_of_block(part, budget[rows], keys[rows], begins[tokens])
    return chosen, num_chosen


def _words_of_block(bounds: Ints, budget: Ints, keys: Words, begins: Flags) -> tuple[Flags, Ints]:
    firsts = np.flatnonzero(begins)
    sizes = np.diff(firsts, append=len(begins))
    word_bounds = np.searchsorted(firsts, bounds)
    num_words = np.diff(word_bounds)
    rows = np.repeat(np.arange(len(keys)), num_words)
    numbers = np.arange(len(firsts)) - word_bounds[rows]
    # A table of words, padded with words that sort last and never fit.
    shape = len(keys), int(num_words.max(initial=0))
    lots = np.full(shape, np.iinfo(np.uint64).max)
    lots[rows, numbers] = hashed(hashed(keys, ORDER)[rows], numbers)
    table = np.full(shape, np.iinfo(np.int64).max)
    table[rows, numbers] = sizes
    order = np.argsort(lots, axis=1)
    ordered = np.ascontiguousarray(np.take_along_axis(table, order, axis=1).T)
    left = budget.copy()
    fits = np.zeros(ordered.shape, np.bool_)
    for turn, size in enumerate(ordered):
        np.less_equal(size, left, out=fits[turn])
        left -= np.where(fits[turn], size, 0)
        if not left.any():
            break
    turns, where = np.nonzero(fits)
    taken = np.zeros(len(firsts), np.bool_)
    taken[word_bounds[where] + order[where, turns]] = True
    return np.repeat(taken, sizes), budget - left
