"""Decompressing snappy, which some index files use for their blocks (TensorFlow itself writes none).

The format: https://github.com/google/snappy/blob/main/format_description.txt
"""

from __future__ import annotations

from doctune.convert.wire import DamagedError, read_varint

LITERAL, NEAR, FAR, FARTHEST = range(4)


def decompress(data: bytes) -> bytes:
    """The bytes that were compressed; `DamagedError` when these are not snappy's."""
    length, place = read_varint(data, 0)
    out = bytearray()
    while place < len(data):
        tag = data[place]
        place += 1
        if tag & 3 == LITERAL:
            count = tag >> 2
            if count >= 60:
                width = count - 59
                count = _little(data, place, width)
                place += width
            count += 1
            out += _taken(data, place, count)
            place += count
        else:
            if tag & 3 == NEAR:
                count, offset = (tag >> 2 & 7) + 4, tag >> 5 << 8 | _little(data, place, 1)
                place += 1
            else:
                width = 2 if tag & 3 == FAR else 4
                count, offset = (tag >> 2) + 1, _little(data, place, width)
                place += width
            if not 0 < offset <= len(out):
                raise DamagedError("a compressed block refers to bytes before its beginning")
            # A copy may reach into what it writes itself: then it repeats.
            start = len(out) - offset
            part = bytes(out[start : start + count])
            out += (part * (count // len(part) + 1))[:count]
        if len(out) > length:
            raise DamagedError(f"a compressed block holds more than the {length} bytes that it announces")
    if len(out) != length:
        raise DamagedError(f"a compressed block holds {len(out)} bytes, not the {length} that it announces")
    return bytes(out)


def _taken(data: bytes, place: int, count: int) -> bytes:
    part = data[place : place + count]
    if len(part) < count:
        raise DamagedError("a compressed block is cut off")
    return part


def _little(data: bytes, place: int, width: int) -> int:
    return int.from_bytes(_taken(data, place, width), "little")
