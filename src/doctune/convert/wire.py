"""Variable-length integers and protocol buffer fields, as far as TensorFlow's index needs them."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
LONGEST_VARINT = 10


class DamagedError(Exception):
    """Bytes that are not what the format says; the message tells what, the caller knows in which file."""


def read_varint(data: bytes, place: int) -> tuple[int, int]:
    """The integer that begins at `place`, and the place behind it."""
    value = 0
    for length, byte in enumerate(data[place : place + LONGEST_VARINT]):
        value |= (byte & 0x7F) << (7 * length)
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, place + length + 1
    raise DamagedError("a number does not end")


def varint(value: int) -> bytes:
    """A number of at least 0, seven bits a byte, the lowest first."""
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message in their order: number and value, which is bytes for a string or a message inside."""
    place = 0
    while place < len(message):
        tag, place = read_varint(message, place)
        kind = tag & 7
        if kind == VARINT:
            value, place = read_varint(message, place)
            yield tag >> 3, value
            continue
        if kind == BYTES:
            length, place = read_varint(message, place)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise DamagedError(f"a field of unknown kind {kind}")
        part = message[place : place + length]
        place += length
        if len(part) < length:
            raise DamagedError("a field does not end")
        yield tag >> 3, part if kind == BYTES else int.from_bytes(part, "little")


def field(number: int, value: int | bytes) -> bytes:
    """A field as its message holds it; a number of 0 is left out, as protocol buffers do."""
    if isinstance(value, bytes):
        return varint(number << 3 | BYTES) + varint(len(value)) + value
    return varint(number << 3 | VARINT) + varint(value) if value else b""


def fixed32(number: int, value: int) -> bytes:
    """A field of four bytes, whatever its value; 0 is left out."""
    return varint(number << 3 | FIXED32) + value.to_bytes(4, "little") if value else b""
