"""Which tokens are predicted: numbers, chances, and whole words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from typing import Any

import numpy as np
import pytest

from doctune.seeding import hashed
from doctune.settings.pretraining import MaskingSettings
from doctune.store.masking import Masked, mask
from doctune.text.words import word_starts

MASK, VOCABULARY = 4, 1000


def _mask(
    lengths: Sequence[int], keys: np.ndarray, special: int = 2, most: int = 20, starts: np.ndarray | None = None,
    **settings: Any,
) -> tuple[Masked, np.ndarray, np.ndarray]:  # fmt: skip
    """Masks of sequences whose tokens are numbered from 100 and whose first and last ones may be special."""
    bounds = np.cumsum([0, *lengths])
    flags = np.zeros(bounds[-1], bool)
    if special:
        flags[bounds[:-1]] = True
        flags[bounds[1:] - 1] = True
    ids = np.arange(100, 100 + bounds[-1], dtype=np.int32)
    made = MaskingSettings.model_validate(settings)
    return mask(ids, bounds, flags, keys, made, most, MASK, VOCABULARY, starts), bounds, flags


def _keys(number: int, seed: int = 0) -> np.ndarray:
    return hashed(seed, np.arange(number))


def _fits(counts: Sequence[int], expected: np.ndarray) -> bool:
    freedom = len(expected) - 1
    return float(((np.asarray(counts) - expected) ** 2 / expected).sum()) < freedom + 5 * np.sqrt(2 * freedom)


@pytest.mark.parametrize("prob", [0.05, 0.15, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("most", [1, 20, 1000])
def test_the_number_is_the_share_of_all_tokens(prob: float, most: int) -> None:
    lengths = [*range(3, 130), 512]
    masked, bounds, flags = _mask(lengths, _keys(len(lengths)), most=most, masked_lm_prob=prob)
    for row, length in enumerate(lengths):
        inside = (masked.positions >= bounds[row]) & (masked.positions < bounds[row + 1])
        assert inside.sum() == min(most, max(1, round(length * prob)), length - 2)
    assert not flags[masked.positions].any()
    assert (np.diff(masked.positions) > 0).all()
    assert np.array_equal(masked.labels, 100 + masked.positions)
    untouched = np.ones(len(flags), bool)
    untouched[masked.positions] = False
    assert np.array_equal(masked.input_ids[untouched], (100 + np.arange(len(flags)))[untouched])


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_every_choice_is_equally_likely(number: int) -> None:
    """All sets of `number` of 6 tokens, in 40,000 sequences."""
    keys = _keys(40_000, seed=number)
    masked, bounds, _ = _mask([8] * len(keys), keys, masked_lm_prob=number / 8)
    sets = Counter(map(tuple, (masked.positions.reshape(-1, number) - bounds[:-1, None]).tolist()))
    possible = list(combinations(range(1, 7), number))
    assert set(sets) == set(possible)
    assert _fits([sets[one] for one in possible], np.full(len(possible), len(keys) / len(possible)))


def test_every_position_is_equally_likely() -> None:
    keys = _keys(10_000)
    masked, bounds, _ = _mask([128] * len(keys), keys)
    places = masked.positions - np.repeat(bounds[:-1], 19)
    assert _fits(np.bincount(places, minlength=127)[1:], np.full(126, 19 * len(keys) / 126))


@pytest.mark.parametrize(("hidden", "random"), [(0.8, 0.1), (1.0, 0.0), (0.0, 1.0), (0.0, 0.0), (0.5, 0.5)])
def test_shares_of_what_stands_there_instead(hidden: float, random: float) -> None:
    masked, *_ = _mask([102] * 4000, _keys(4000), mask_fraction=hidden, random_fraction=random)
    now = masked.input_ids[masked.positions]
    total = len(now)
    kept = (now == masked.labels).sum()
    is_mask = now == MASK
    for count, share in (
        (is_mask.sum(), hidden),
        (kept, 1 - hidden - random),
        (total - kept - is_mask.sum(), random),
    ):
        # Random tokens are now and then the mask or the token itself.
        assert abs(count - share * total) <= 5 * np.sqrt(share * (1 - share) * total) + 3 * random * total / VOCABULARY
    others = now[~is_mask & (now != masked.labels)]
    if random:
        # Any token of the vocabulary, the special ones at its beginning included.
        tenths = np.bincount(others * 10 // VOCABULARY, minlength=10)
        assert len(tenths) == 10
        assert _fits(tenths, np.full(10, len(others) / 10))


@pytest.mark.parametrize("masking", ["token", "whole-word"])
def test_masks_do_not_depend_on_the_batch(masking: str) -> None:
    lengths = np.random.default_rng(0).integers(3, 129, 300)
    keys = _keys(300)
    begins = np.random.default_rng(1).random(lengths.sum()) < 0.7
    whole, bounds, _ = _mask(lengths.tolist(), keys, masking=masking, starts=begins)

    def of(row: int) -> tuple[list[int], list[int]]:
        inside = slice(*np.searchsorted(whole.positions, bounds[row : row + 2]))
        return (whole.positions[inside] - bounds[row]).tolist(), (whole.input_ids[whole.positions[inside]]).tolist()

    order = np.random.default_rng(2).permutation(300)
    for part in (order[:1], order[:32], order[32:100], order):
        starts = np.concatenate([begins[bounds[row] : bounds[row + 1]] for row in part])
        masked, own, _ = _mask(lengths[part].tolist(), keys[part], masking=masking, starts=starts)
        for place, row in enumerate(part):
            inside = slice(*np.searchsorted(masked.positions, own[place : place + 2]))
            positions, now = of(row)
            assert (masked.positions[inside] - own[place]).tolist() == positions
            # Tokens that were kept have another number here: what was drawn is the same.
            drawn = [token for token in masked.input_ids[masked.positions[inside]].tolist() if token < 100]
            assert drawn == [token for token in now if token < 100]


def test_other_keys_give_other_masks() -> None:
    first, *_ = _mask([128] * 10, _keys(10))
    second, *_ = _mask([128] * 10, _keys(10, seed=1))
    assert not np.array_equal(first.positions, second.positions)


@pytest.mark.parametrize("most", [1, 3, 20])
def test_a_word_is_masked_wholly_or_not_at_all(most: int) -> None:
    lengths = np.random.default_rng(0).integers(3, 129, 5000).tolist()
    begins = np.random.default_rng(1).random(sum(lengths)) < 0.6
    masked, bounds, flags = _mask(lengths, _keys(5000), masking="whole-word", starts=begins, most=most)
    begins[bounds[:-1] + 1] = True
    chosen = np.zeros(len(flags), bool)
    chosen[masked.positions] = True
    assert not (chosen & flags).any()
    continues = np.flatnonzero(~begins & ~flags)
    assert np.array_equal(chosen[continues], chosen[continues - 1])
    number = np.add.reduceat(chosen, bounds[:-1])
    budget = np.clip(np.rint(np.diff(bounds) * 0.15), 1, most)
    assert (number <= budget).all()
    assert (number == budget).mean() > 0.6


def test_whole_words_are_drawn_in_random_order_and_skipped_where_they_do_not_fit() -> None:
    """Words of 1, 2, 3 and 1 tokens and three places: every order of the words, counted."""
    sizes = [1, 2, 3, 1]
    expected: Counter[tuple[int, ...]] = Counter()
    for order in permutations(range(4)):
        left, taken = 3, []
        for word in order:
            if sizes[word] <= left:
                left -= sizes[word]
                taken.append(word)
        expected[tuple(sorted(taken))] += 1
    keys = _keys(24_000)
    row = np.concatenate([np.eye(1, size, dtype=bool)[0] for size in sizes])
    starts = np.tile(np.concatenate([[True], row, [True]]), len(keys))
    masked, bounds, _ = _mask([9] * len(keys), keys, masking="whole-word", starts=starts, masked_lm_prob=1 / 3)
    words = np.repeat(range(4), sizes)
    rows = np.searchsorted(bounds, masked.positions, side="right") - 1
    found: dict[int, set[int]] = {number: set() for number in range(len(keys))}
    for sequence, place in zip(rows.tolist(), (masked.positions - bounds[rows]).tolist(), strict=True):
        found[sequence].add(int(words[place - 1]))
    counts = Counter(tuple(sorted(taken)) for taken in found.values())
    assert set(counts) == set(expected)
    assert _fits([counts[one] for one in expected], np.array([expected[one] for one in expected]) * len(keys) / 24)


def test_each_token_of_a_word_meets_its_own_fate() -> None:
    starts = np.tile([True, True, False, True], 2000)
    masked, *_ = _mask([4] * 2000, _keys(2000), masking="whole-word", starts=starts, masked_lm_prob=0.5)
    hidden = (masked.input_ids[masked.positions] == MASK).reshape(-1, 2)
    assert abs((hidden[:, 0] != hidden[:, 1]).mean() - 2 * 0.8 * 0.2) < 0.05


def test_chinese_is_masked_by_character(flatten: Callable[[str], Any]) -> None:
    flat = flatten("我们的图书馆在老城区\n")
    starts = word_starts(flat.tokenizer)[flat.input_ids]
    assert starts.all()
    keys = _keys(2000)
    length = len(starts)
    masked, bounds, _ = _mask([length] * 2000, keys, 0, starts=np.tile(starts, 2000), masking="whole-word")
    assert len(masked.positions) == 2000 * max(1, round(length * 0.15))
    places = masked.positions - np.repeat(bounds[:-1], len(masked.positions) // 2000)
    assert _fits(np.bincount(places, minlength=length), np.full(length, len(places) / length))


def test_nothing_to_mask() -> None:
    for masking in ("token", "whole-word"):
        masked, *_ = _mask([], _keys(0), masking=masking, starts=np.zeros(0, bool))
        assert len(masked.positions) == len(masked.input_ids) == 0
        # A sequence of special tokens alone has nothing to predict.
        masked, *_ = _mask([2, 5, 2], _keys(3), masking=masking, starts=np.ones(9, bool))
        assert masked.positions.tolist() in ([3], [4], [5])


def test_whole_words_need_to_know_where_they_begin() -> None:
    with pytest.raises(ValueError, match="where words begin"):
        _mask([5], _keys(1), masking="whole-word")


def _naive_words(flags: np.ndarray, starts: np.ndarray, first: int, last: int) -> list[list[int]]:
    """The words of one sequence, token by token: a special token ends one, and belongs to none."""
    words: list[list[int]] = []
    inside = False
    for place in range(first, last):
        if flags[place]:
            inside = False
        elif inside and not starts[place]:
            words[-1].append(place)
        else:
            words.append([place])
            inside = True
    return words


def test_a_word_ends_at_a_separator() -> None:
    """What follows the [SEP] between two texts begins a word, whatever the table of words says of that token."""
    random = np.random.default_rng(5)
    number, length = 4000, 9
    bounds = np.arange(number + 1) * length
    flags = np.zeros(number * length, bool)
    flags[bounds[:-1]] = flags[bounds[1:] - 1] = True
    separators = bounds[:-1] + random.integers(2, length - 2, number)
    flags[separators] = True
    starts = random.random(len(flags)) < 0.3
    starts[separators + 1] = False
    made = MaskingSettings(masking="whole-word", masked_lm_prob=0.35)
    ids = np.arange(len(flags), dtype=np.int32)
    masked = mask(ids, bounds, flags, _keys(number), made, 20, MASK, VOCABULARY, starts)
    chosen = set(masked.positions.tolist())
    crossing = 0
    for row in range(number):
        words = _naive_words(flags, starts, bounds[row], bounds[row + 1])
        for word in words:
            assert len(chosen & set(word)) in (0, len(word))
        before, behind = separators[row] - 1, separators[row] + 1
        crossing += (before in chosen) != (behind in chosen)
        # Words are skipped only where they no longer fit: what is left over has room for none of the others.
        left = round(length * 0.35) - sum(len(word) for word in words if word[0] in chosen)
        assert left >= 0
        assert all(len(word) > left for word in words if word[0] not in chosen)
    assert crossing > number / 10
