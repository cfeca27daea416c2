"""Snappy: what another implementation compresses comes back, and damage never gives anything but an error."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from doctune.convert.snappy import decompress
from doctune.convert.wire import DamagedError, varint

RANDOM = np.random.default_rng(0).integers(0, 256, 70_000, np.uint8).tobytes()
TEXTS = {
    "nothing": b"",
    "short": b"a",
    "a run": b"a" * 100_000,
    "words": b"bert/encoder/layer_0/attention/self/query/kernel " * 3000,
    "random": RANDOM,  # literals of more than 60 and 65,536 bytes
    "random, twice": RANDOM + RANDOM,
}


@pytest.mark.parametrize("kind", TEXTS)
def test_decompresses(kind: str) -> None:
    compressed = pa.compress(TEXTS[kind], codec="snappy", asbytes=True)
    assert decompress(compressed) == TEXTS[kind]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (varint(4) + b"\x0cabcd", b"abcd"),
        (varint(10) + b"\x04ab" + bytes([(8 - 4) << 2 | 1, 2]), b"ab" * 5),  # near copy that reads what it writes
        (varint(7) + b"\x08abc" + bytes([(4 - 1) << 2 | 2, 3, 0]), b"abcabca"),
        (varint(7) + b"\x08abc" + bytes([(4 - 1) << 2 | 3, 3, 0, 0, 0]), b"abcabca"),
        (varint(3) + bytes([61 << 2, 2, 0]) + b"abc", b"abc"),  # length in two bytes
    ],
)
def test_each_kind_of_element(data: bytes, expected: bytes) -> None:
    assert decompress(data) == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not end"),
        (b"\xff" * 12, "does not end"),
        (varint(4) + b"\x0cabc", "cut off"),
        (varint(4) + b"\xf0", "cut off"),
        (varint(5) + b"\x0cabcd", "holds 4 bytes, not the 5"),
        (varint(3) + b"\x0cabcd", "more than the 3"),
        (varint(8) + b"\x0cabcd" + bytes([1, 5]), "before its beginning"),
        (varint(8) + b"\x0cabcd" + bytes([1, 0]), "before its beginning"),
        (varint(8) + b"\x0cabcd" + bytes([2, 1]), "cut off"),
    ],
)
def test_damage_is_named(data: bytes, message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        decompress(data)


def test_any_bytes_give_an_error_or_bytes() -> None:
    random = np.random.default_rng(1)
    compressed = bytearray(pa.compress(TEXTS["words"][:2000], codec="snappy", asbytes=True))
    for _ in range(2000):
        damaged = bytearray(compressed)
        damaged[random.integers(len(damaged))] = random.integers(256)
        try:
            decompress(bytes(damaged))
        except DamagedError:
            continue
