"""Tables: they come back as written, in one block or many, and every flipped bit and every cut shows."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from doctune.convert.checksum import masked_crc32c
from doctune.convert.table import FOOTER, MAGIC, TRAILER, read_table, write_table
from doctune.convert.wire import DamagedError, read_varint, varint

ENTRIES = sorted(
    [(b"", b"header"), (b"\xff\xff", b"last")]
    + [(f"bert/encoder/layer_{i}/output/{name}".encode(), bytes([i]) * i) for i in range(40) for name in ("a", "ab")]
)


@pytest.mark.parametrize("block_size", [1, 50, 300, 2000, 1 << 18])
def test_round_trip(block_size: int) -> None:
    assert read_table(write_table(ENTRIES, block_size)) == ENTRIES


@pytest.mark.parametrize("entries", [[], [(b"", b"")], [(b"\xff", b"x")]])
def test_small_tables(entries: list[tuple[bytes, bytes]]) -> None:
    assert read_table(write_table(entries)) == entries


def compressed(table: bytes) -> bytes:
    """The same table of one data block, with that block compressed and the others moved."""
    place, size = 0, 0
    while True:  # the data block ends where its checksum says so
        size += 1
        end = size + 1
        if masked_crc32c(table[:end]) == int.from_bytes(table[end : end + 4], "little"):
            break
    block = pa.compress(table[:size], codec="snappy", asbytes=True) + b"\x01"
    data = block + masked_crc32c(block).to_bytes(4, "little")
    other = write_table([])
    place = read_varint(other[-FOOTER:], 0)[0]
    empty = other[place : place + 8]
    key = b"\xff\xff\xff"
    handle = varint(0) + varint(len(block) - 1)
    index = bytes([0, len(key), len(handle)]) + key + handle + bytes(4) + (1).to_bytes(4, "little")
    handles = varint(len(data)) + varint(len(empty)) + varint(len(data) + len(empty) + TRAILER) + varint(len(index))
    for part in (empty, index):
        data += part + b"\0" + masked_crc32c(part + b"\0").to_bytes(4, "little")
    return data + handles.ljust(FOOTER - len(MAGIC), b"\0") + MAGIC


def test_a_compressed_block() -> None:
    table = compressed(write_table(ENTRIES))
    assert len(table) < len(write_table(ENTRIES))
    assert read_table(table) == ENTRIES


def test_every_flipped_bit_shows() -> None:
    table = write_table(ENTRIES[:12], 100)
    for place in range(8 * len(table)):
        damaged = bytearray(table)
        damaged[place // 8] ^= 1 << place % 8
        with pytest.raises(DamagedError):
            read_table(bytes(damaged))


def test_every_cut_shows() -> None:
    table = write_table(ENTRIES)
    for length in range(len(table)):
        with pytest.raises(DamagedError, match="no table's footer"):
            read_table(table[:length])


@pytest.mark.parametrize("kind", [2, 3, 255])
def test_an_unknown_compression_is_named(kind: int) -> None:
    table = bytearray(write_table([]))
    size = 8
    table[size] = kind
    table[size + 1 : size + TRAILER] = masked_crc32c(bytes(table[: size + 1])).to_bytes(4, "little")
    with pytest.raises(DamagedError, match=rf"unknown way \({kind}\)"):
        read_table(bytes(table))


def test_keys_out_of_order_are_damage() -> None:
    with pytest.raises(DamagedError, match="ascending"):
        read_table(write_table([(b"b", b""), (b"a", b"")]))


def test_contents_that_lie_about_their_lengths() -> None:
    """A block may be nonsense and still have the right checksum."""
    random = np.random.default_rng(0)
    for _ in range(500):
        block = random.integers(0, 256, random.integers(0, 40), np.uint8).tobytes()
        checked = block + b"\0"
        data = checked + masked_crc32c(checked).to_bytes(4, "little")
        handle = varint(0) + varint(len(block))
        with pytest.raises(DamagedError):
            read_table(data + (handle + handle).ljust(FOOTER - len(MAGIC), b"\0") + MAGIC)
