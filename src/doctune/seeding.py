"""Random numbers as pure functions of where they are used, so that a resumed run draws what the first one did."""

from __future__ import annotations

import hashlib

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Counter = int | npt.NDArray[np.integer]

WORD = 64
_ALL = (1 << WORD) - 1
_GAMMA = 0x9E3779B97F4A7C15


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for one place, for instance `derive(seed, "order", epoch)`."""
    digest = hashlib.sha256(repr((seed, *path)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """A NumPy generator for one place."""
    return np.random.default_rng(derive(seed, *path))


def hashed(key: Words | int, *counters: Counter) -> Words:
    """64 random bits for each of many places, for instance `hashed(keys, chunk)`.

    Key and counters (not negative) are broadcast; each counter is a step of SplitMix64 (Steele, Lea and Flood 2014:
    "Fast splittable pseudorandom number generators"), so that the result depends on their order. The result has at
    least one dimension.
    """
    state = np.atleast_1d(np.asarray(key, np.uint64))
    for counter in counters:
        if isinstance(counter, int):
            state = state + np.uint64((counter + 1) * _GAMMA & _ALL)
        else:
            steps = np.atleast_1d(counter).astype(np.uint64)
            steps *= np.uint64(_GAMMA)
            steps += np.uint64(_GAMMA)
            state = state + steps
        _mix(state)
    return state


def uniform(words: Words) -> npt.NDArray[np.float64]:
    """Numbers in [0, 1) from the upper 53 bits."""
    numbers: npt.NDArray[np.float64] = (words >> np.uint64(11)) * np.float64(2.0**-53)
    return numbers


def below(words: Words, n: Counter) -> npt.NDArray[np.int64]:
    """Integers in [0, n) from the lower 32 bits, with n up to 2^32; no value is likelier than another by n / 2^32."""
    low = words & np.uint64(0xFFFFFFFF)
    low *= np.uint64(n) if isinstance(n, int) else n.astype(np.uint64)
    low >>= np.uint64(32)
    return low.view(np.int64)


def heads(keys: Words, n: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """How many of n fair coins show heads, for each key: as many bits of its words as it has coins."""
    num_words = -(-n // WORD)
    rows = np.repeat(np.arange(len(n)), num_words)
    first = np.cumsum(num_words) - num_words
    place = np.arange(len(rows)) - first[rows]
    coins = np.minimum(n[rows] - WORD * place, WORD)
    words = hashed(keys[rows], place) >> (WORD - coins).astype(np.uint64)
    return np.bincount(rows, _ones(words), minlength=len(n)).astype(np.int64)


def _mix(state: Words) -> None:
    """SplitMix64's finaliser, in place."""
    shifted = state >> np.uint64(30)
    state ^= shifted
    state *= np.uint64(0xBF58476D1CE4E5B9)
    np.right_shift(state, np.uint64(27), out=shifted)
    state ^= shifted
    state *= np.uint64(0x94D049BB133111EB)
    np.right_shift(state, np.uint64(31), out=shifted)
    state ^= shifted


def _ones(words: Words) -> Words:
    """How many bits are set in each word (NumPy has `bitwise_count` from 2.0 only)."""
    twos = words - (words >> np.uint64(1) & np.uint64(0x5555555555555555))
    fours = (twos & np.uint64(0x3333333333333333)) + (twos >> np.uint64(2) & np.uint64(0x3333333333333333))
    bytes_ = fours + (fours >> np.uint64(4)) & np.uint64(0x0F0F0F0F0F0F0F0F)
    counts: Words = bytes_ * np.uint64(0x0101010101010101) >> np.uint64(56)
    return counts
