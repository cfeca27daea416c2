"""CRC-32C (Castagnoli), the checksum of TensorFlow's files, vectorised over 32-bit words.

A CRC is linear over GF(2): the register after `a` then `b` is that of `a` moved on by `len(b)` zero bytes, xor that of
`b`. So a row of words is folded onto the next row by one multiplication with a fixed 32 x 32 bit matrix, which two
tables of 65,536 entries do for all words of the row at once: about 1 GB/s on one core, a hundred times the speed of a
loop over bytes.
"""

from __future__ import annotations

from functools import cache
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Words: TypeAlias = npt.NDArray[np.uint32]

POLYNOMIAL = 0x82F63B78  # bits reversed, as the register is shifted to the right
ALL = 0xFFFFFFFF
MASK_DELTA = 0xA282EAD8
ROW = 1 << 14  # words folded at a time: a row, its tables and the temporaries stay in the cache
SHORT = 64  # bytes below which the plain loop is faster


def crc32c(data: bytes | memoryview | npt.NDArray[np.uint8]) -> int:
    """The CRC-32C of bytes."""
    raw = np.frombuffer(data, np.uint8)
    whole = len(raw) - len(raw) % 4 if len(raw) >= SHORT else 0
    register = ALL
    if whole:
        register = _fold(raw[:whole].view("<u4"), register)
    table = _byte_table()
    for byte in raw[whole:].tolist():
        register = table[(register ^ byte) & 0xFF] ^ (register >> 8)
    return register ^ ALL


def masked_crc32c(data: bytes | memoryview | npt.NDArray[np.uint8]) -> int:
    """The CRC-32C as TensorFlow and LevelDB store it: rotated and shifted, since it may itself be checksummed."""
    crc = crc32c(data)
    return (((crc >> 15) | (crc << 17)) + MASK_DELTA) & ALL


def _fold(words: npt.NDArray[np.uint32], register: int) -> int:
    """The register after all words. The first row is filled up with zeros in front, which change nothing."""
    row = min(ROW, 1 << (len(words) - 1).bit_length())
    first = len(words) % row or row
    folded = np.zeros(row, np.uint32)
    folded[row - first :] = words[:first]
    folded[row - first] ^= np.uint32(register)
    low, high = _tables(row)
    for start in range(first, len(words), row):
        folded = low[folded & 0xFFFF] ^ high[folded >> 16]
        folded ^= words[start : start + row]
    while len(folded) > 1:
        half = len(folded) // 2
        folded = _apply(half, folded[:half]) ^ folded[half:]
    return int(_apply(1, folded)[0])


def _apply(num_words: int, registers: Words) -> Words:
    """Each register moved on by so many words of zeros."""
    low, high = _tables(num_words)
    moved: Words = low[registers & 0xFFFF] ^ high[registers >> 16]
    return moved


@cache
def _tables(num_words: int) -> tuple[Words, Words]:
    """For a power of two: what moving on by so many zero words makes of the lower and the upper half of a register."""
    columns = _columns(num_words)
    return _spanned(columns[:16]), _spanned(columns[16:])


def _columns(num_words: int) -> list[int]:
    """The matrix of that move: what it makes of each single bit."""
    if num_words > 1:
        columns = _columns(num_words // 2)
        return [_times(columns, column) for column in columns]
    table = _byte_table()
    moved = []
    for bit in range(32):
        register = 1 << bit
        for _ in range(4):
            register = table[register & 0xFF] ^ (register >> 8)
        moved.append(register)
    return moved


def _times(columns: list[int], register: int) -> int:
    product = 0
    for bit, column in enumerate(columns):
        if register >> bit & 1:
            product ^= column
    return product


def _spanned(columns: list[int]) -> Words:
    """All xor sums of the columns, at the place whose bits say which."""
    table = np.zeros(1, np.uint32)
    for column in columns:
        table = np.concatenate([table, table ^ np.uint32(column)])
    return table


@cache
def _byte_table() -> list[int]:
    table = []
    for register in range(256):
        for _ in range(8):
            register = register >> 1 ^ (POLYNOMIAL if register & 1 else 0)
        table.append(register)
    return table
