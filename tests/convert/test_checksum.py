"""CRC-32C: known values, and equality with a loop over bytes at every length where the method changes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from doctune.convert.checksum import ROW, SHORT, crc32c, masked_crc32c


def plain_crc32c(data: bytes) -> int:
    """Bit by bit, as the definition says."""
    register = 0xFFFFFFFF
    for byte in data:
        register ^= byte
        for _ in range(8):
            register = register >> 1 ^ (0x82F63B78 if register & 1 else 0)
    return register ^ 0xFFFFFFFF


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", 0),
        (b"123456789", 0xE3069283),
        # RFC 3720, B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(reversed(range(32))), 0x113FDB5C),
    ],
)
def test_known_values(data: bytes, expected: int) -> None:
    assert crc32c(data) == expected


@pytest.mark.parametrize("length", [1, 3, SHORT - 1, SHORT, SHORT + 1, 127, 128, 129, 4 * ROW - 1, 4 * ROW + 6])
def test_equals_the_plain_loop(length: int) -> None:
    data = np.random.default_rng(length).integers(0, 256, length, np.uint8)
    assert crc32c(data) == plain_crc32c(data.tobytes())
    assert crc32c(data.tobytes()) == crc32c(data)


def test_many_rows_and_an_odd_place_in_memory() -> None:
    data = np.random.default_rng(0).integers(0, 256, 12 * ROW + 4 * 77 + 3, np.uint8)
    assert crc32c(data[1:]) == plain_crc32c(data[1:].tobytes())


def test_leading_zeros_count() -> None:
    assert len({crc32c(bytes(length)) for length in range(200)}) == 200


def test_masked_as_leveldb_stores_it() -> None:
    crc = crc32c(b"foo")
    assert masked_crc32c(b"foo") == ((crc >> 15 | crc << 17) + 0xA282EAD8) % 2**32 != crc


def test_fast_enough_for_hundreds_of_megabytes() -> None:
    data = np.zeros(20_000_000, np.uint8)
    crc32c(data[: 8 * ROW])  # makes the tables
    start = time.perf_counter()
    crc32c(data)
    assert time.perf_counter() - start < 2  # 0.02 s on one core; a loop over bytes takes 2 to 4
