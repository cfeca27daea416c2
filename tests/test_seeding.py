"""Hashes of where a number is used, and the numbers made of them."""

from __future__ import annotations

import numpy as np

from doctune.seeding import below, derive, hashed, heads, uniform

KEYS = hashed(derive(0, "test"), np.arange(20_000))


def test_a_number_depends_on_its_place_alone() -> None:
    places = np.arange(100)
    assert np.array_equal(hashed(7, places, 3)[places[::-1]], hashed(7, places[::-1], 3))
    assert np.array_equal(hashed(7, places, 3)[40:60], hashed(7, places[40:60], 3))
    assert hashed(7, 5, 3)[0] == hashed(7, places, np.full(100, 3))[5]


def test_the_order_of_the_counters_matters() -> None:
    assert hashed(7, 1, 2)[0] != hashed(7, 2, 1)[0]
    assert hashed(7, 0)[0] != hashed(7, 0, 0)[0] != hashed(7)[0]


def test_hashes_are_those_of_splitmix64() -> None:
    """The first outputs of the published generator for the seed 1234567."""
    expected = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert hashed(1234567, np.arange(5)).tolist() == expected


def test_hashes_of_neighbours_differ_in_half_of_their_bits() -> None:
    keys = np.arange(4000)
    for neighbours in (hashed(0, keys) ^ hashed(0, keys + 1), hashed(0, keys, 1) ^ hashed(0, keys, 2)):
        bits = np.unpackbits(neighbours.view(np.uint8)).reshape(-1, 64).mean(0)
        assert np.abs(bits - 0.5).max() < 0.04
        assert len(np.unique(neighbours)) == len(neighbours)


def test_uniform_numbers() -> None:
    numbers = uniform(KEYS)
    assert 0 <= numbers.min() < 0.001
    assert 0.999 < numbers.max() < 1
    counts = np.bincount((numbers * 50).astype(int), minlength=50)
    assert _chi_square(counts, np.full(50, len(KEYS) / 50))


def test_integers_below() -> None:
    assert _chi_square(np.bincount(below(KEYS, 7), minlength=7), np.full(7, len(KEYS) / 7))
    limits = np.arange(1, len(KEYS) + 1)
    assert (below(KEYS, limits) < limits).all()
    assert below(KEYS, 1).max() == 0
    assert not np.shares_memory(KEYS, below(KEYS, limits))


def test_heads_are_binomial() -> None:
    coins = np.full(len(KEYS), 6)
    expected = np.array([1, 6, 15, 20, 15, 6, 1]) / 64 * len(KEYS)
    assert _chi_square(np.bincount(heads(KEYS, coins), minlength=7), expected)
    for number in (1, 63, 64, 65, 200):
        shown = heads(KEYS, np.full(len(KEYS), number))
        assert 0 <= shown.min() <= shown.max() <= number
        assert abs(shown.mean() - number / 2) < 5 * np.sqrt(number / 4 / len(KEYS))
        assert abs(shown.var() / (number / 4) - 1) < 0.06


def test_heads_of_no_coin() -> None:
    assert heads(KEYS[:3], np.array([0, 5, 0]))[[0, 2]].tolist() == [0, 0]
    assert heads(KEYS[:0], np.zeros(0, np.int64)).tolist() == []


def _chi_square(counts: np.ndarray, expected: np.ndarray) -> bool:
    freedom = len(counts) - 1
    return float(((counts - expected) ** 2 / expected).sum()) < freedom + 5 * np.sqrt(2 * freedom)
