"""Texts as hashes that survive reformatting: of a whole text, and of every five words in a row.

What is compared is words of letters and digits in lower case; HTML, punctuation and white space count for nothing.
A Chinese character is a word.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

WORDS_IN_GRAM = 5
MOST_WORDS = 2**18  # remembered at a time

_BREAK = re.compile(r"<br\s{0,9}/?>|\\n", re.IGNORECASE)  # the latter as the CSV files of Zhang et al. write it
# AG's News has entities that lost their ampersand.
_BRACKET = re.compile(r"&?\b([lg])t;")
_MARKUP = re.compile(r"<[a-zA-Z/!][^<>]{0,200}>|&?(?:#x?[0-9a-fA-F]{1,6}|\b(?:quot|amp|nbsp|apos));")
_HAN = re.compile(r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")
_WORD = re.compile(r"[^\W_]+")
# Odd numbers without a pattern, one for each place in a gram.
_FACTORS = np.array(
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F], np.uint64
)


def comparable_lines(text: str) -> list[list[str]]:
    """The words of each line that has any."""
    if "<" in text or "\\" in text:
        text = _BREAK.sub("\n", text)
    if ";" in text:
        text = _BRACKET.sub(lambda match: "<" if match[1] == "l" else ">", text)
    if "<" in text or ";" in text:
        text = _MARKUP.sub(" ", text)
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
        if _HAN.search(text):
            text = _HAN.sub(r" \g<0> ", text)
    lines = (_WORD.findall(line) for line in text.lower().split("\n"))
    return [words for words in lines if words]


def text_hash(words: Sequence[str]) -> int:
    """The same for texts of the same letters and digits, wherever they have white space."""
    return _hash("".join(words))


class Hasher:
    """Hashes words and what stands five in a row; the same in every process."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._hashes: Hashes = np.zeros(0, np.uint64)

    def words(self, words: Sequence[str]) -> Hashes:
        """One hash for each word."""
        new = sorted(set(words) - self._numbers.keys())
        if len(self._numbers) + len(new) > MOST_WORDS:
            self._numbers, self._hashes = {}, np.zeros(0, np.uint64)
            new = sorted(set(words))
        first = len(self._numbers)
        self._numbers.update(zip(new, range(first, first + len(new)), strict=True))
        self._hashes = np.concatenate([self._hashes, np.array([_hash(word) for word in new], np.uint64)])
        return self._hashes[np.fromiter(map(self._numbers.__getitem__, words), np.int64, len(words))]

    def grams(self, texts: Sequence[Sequence[str]]) -> tuple[Hashes, npt.NDArray[np.int64]]:
        """The hashes of the grams of all texts, and the text of each, ascending."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        text = np.repeat(np.arange(len(texts)), lengths)
        words = self.words([word for one in texts for word in one])
        count = len(words) - WORDS_IN_GRAM + 1
        if count < 1:
            return np.zeros(0, np.uint64), np.zeros(0, np.int64)
        grams = np.zeros(count, np.uint64)
        for place, factor in enumerate(_FACTORS):
            grams += words[place : place + count] * factor
        grams ^= grams >> np.uint64(29)
        grams *= _FACTORS[1]
        grams ^= grams >> np.uint64(32)
        inside = text[:count] == text[WORDS_IN_GRAM - 1 :]
        return grams[inside], text[:count][inside]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "little")
