"""Sorted tables of keys and values in one file, as LevelDB lays them out and TensorFlow's index files are.

    data blocks | metaindex block (empty) | index block: last key of each data block -> where it lies | footer

A block is entries whose keys leave out what they share with the key before, places where a whole key stands
("restarts"), one byte for the compression, and a masked CRC-32C over all that.
The format: https://github.com/google/leveldb/blob/main/doc/table_format.md
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from doctune.convert.checksum import masked_crc32c
from doctune.convert.snappy import decompress
from doctune.convert.wire import DamagedError, read_varint, varint

MAGIC = bytes.fromhex("57fb808b247547db")
FOOTER, TRAILER = 48, 5
PLAIN, SNAPPY = 0, 1
# What TensorFlow uses, so that the files come out as its own.
BLOCK_SIZE = 262_144
RESTART_INTERVAL = 16


def is_table(tail: bytes) -> bool:
    """Whether a file with these last bytes is such a table; TensorFlow's V1 checkpoints are, too."""
    return len(tail) >= len(MAGIC) and tail.endswith(MAGIC)


def read_table(data: bytes) -> list[tuple[bytes, bytes]]:
    """All keys and values, in ascending order of the keys; every block's checksum is verified.

    Raises `DamagedError` for anything that is not a whole and sound table.
    """
    if len(data) < FOOTER or not is_table(data):
        raise DamagedError("no table's footer at its end: cut off, or not an index file")
    footer = data[-FOOTER:]
    place = 0
    numbers = []
    for _ in range(4):
        number, place = read_varint(footer, place)
        numbers.append(number)
    # No checksum covers the footer: that it is just as it would be written leaves no bit of it unchecked.
    if footer != _footer(*numbers):
        raise DamagedError("the table's footer is damaged")
    _block(data, *numbers[:2])
    entries: list[tuple[bytes, bytes]] = []
    for _, handle in _entries(_block(data, *numbers[2:])):
        offset, place = read_varint(handle, 0)
        size, _ = read_varint(handle, place)
        entries += _entries(_block(data, offset, size))
    if any(first[0] >= second[0] for first, second in pairwise(entries)):
        raise DamagedError("its keys are not in ascending order")
    return entries


def _block(data: bytes, offset: int, size: int) -> bytes:
    """The content of a block, decompressed."""
    end = offset + size
    if end + TRAILER > len(data) - FOOTER:
        raise DamagedError(f"a block is to end at byte {end + TRAILER}, beyond what the file holds")
    kind = data[end]
    if masked_crc32c(data[offset : end + 1]) != int.from_bytes(data[end + 1 : end + TRAILER], "little"):
        raise DamagedError(f"the block at byte {offset} does not match its checksum")
    if kind not in (PLAIN, SNAPPY):
        raise DamagedError(f"the block at byte {offset} is compressed in an unknown way ({kind}); known is snappy (1)")
    return decompress(data[offset:end]) if kind == SNAPPY else data[offset:end]


def _entries(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    num_restarts = int.from_bytes(block[-4:], "little")
    end = len(block) - 4 * (num_restarts + 1)
    if len(block) < 4 or end < 0:
        raise DamagedError("a block is too short for its own contents")
    place, key = 0, b""
    while place < end:
        shared, place = read_varint(block, place)
        added, place = read_varint(block, place)
        length, place = read_varint(block, place)
        if shared > len(key) or place + added + length > end:
            raise DamagedError("an entry reaches beyond its block")
        key = key[:shared] + block[place : place + added]
        place += added
        yield key, block[place : place + length]
        place += length


def write_table(entries: Sequence[tuple[bytes, bytes]], block_size: int = BLOCK_SIZE) -> bytes:
    """The table of keys, in strictly ascending order, and values, uncompressed."""
    out = bytearray()
    index: list[tuple[bytes, bytes]] = []
    rest = list(entries)
    while rest:
        block, used = _packed(rest, RESTART_INTERVAL, block_size)
        last = rest[used - 1][0]
        rest = rest[used:]
        # Any key will do that is not below this block's last and below the next one's first: a short one.
        key = _between(last, rest[0][0]) if rest else _after(last)
        index.append((key, b"".join(map(varint, _append(out, block)))))
    metaindex = _append(out, _packed([], RESTART_INTERVAL)[0])
    footer = _footer(*metaindex, *_append(out, _packed(index, 1)[0]))
    return bytes(out) + footer


def _footer(*numbers: int) -> bytes:
    """Where the metaindex and the index lie: two offsets, each with its size."""
    return b"".join(map(varint, numbers)).ljust(FOOTER - len(MAGIC), b"\0") + MAGIC


def _packed(entries: Sequence[tuple[bytes, bytes]], interval: int, limit: int | None = None) -> tuple[bytes, int]:
    """A block of as many entries as it takes to reach the limit, and how many those are."""
    out = bytearray()
    restarts: list[int] = []
    before, used = b"", 0
    for key, value in entries:
        shared = 0
        if used % interval == 0:
            restarts.append(len(out))
        else:
            shared = _common(before, key)
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        before = key
        used += 1
        if limit is not None and len(out) + 4 * (len(restarts) + 1) >= limit:
            break
    restarts = restarts or [0]
    for number in (*restarts, len(restarts)):
        out += number.to_bytes(4, "little")
    return bytes(out), used


def _append(out: bytearray, block: bytes) -> tuple[int, int]:
    """Add a block with its trailer; the offset and size by which it is found."""
    handle = len(out), len(block)
    checked = block + bytes([PLAIN])
    out += checked + masked_crc32c(checked).to_bytes(4, "little")
    return handle


def _common(first: bytes, second: bytes) -> int:
    length = 0
    while length < min(len(first), len(second)) and first[length] == second[length]:
        length += 1
    return length


def _between(last: bytes, following: bytes) -> bytes:
    """LevelDB's shortest separator: at least `last`, below `following`."""
    place = _common(last, following)
    if place < min(len(last), len(following)) and last[place] + 1 < following[place]:
        return last[:place] + bytes([last[place] + 1])
    return last


def _after(last: bytes) -> bytes:
    """LevelDB's short successor: at least `last`."""
    for place, byte in enumerate(last):
        if byte != 0xFF:
            return last[:place] + bytes([byte + 1])
    return last
