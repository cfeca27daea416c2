"""Tokenising each word once: what stands between two spaces has the same tokens wherever it comes.

This holds for BERT's own tokenizer, which splits at white space and punctuation marks and then looks at single words.
A corpus has far fewer different words than words. Other tokenizers are asked for every text, as before.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from doctune.text.tokenizer import Ids, TextTokenizer

Ints = npt.NDArray[np.int64]

# Marks that stand by words most often; the tokenizer splits at the others when it sees the word.
MARKS = (b";", b",", b".", b"'", b"-", b'"', b"(", b")", b"$", b":", b"?", b"!")
TEXTS_AT_ONCE = 8192
WORDS_AT_ONCE = 256
WORDS_KEPT = 200_000  # then it starts anew, so that memory has a bound
END = b"\n"  # of a text; white space has no tokens


class WordCache:
    """The tokens of texts as `TextTokenizer.encode` has them, several times faster."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        made = json.loads(tokenizer.tokenizer.to_str())
        self._separator = _separator(tokenizer, made)
        self._lower = bool((made["normalizer"] or {}).get("lowercase"))
        self._forget()

    def encode(self, texts: Sequence[str]) -> tuple[Ids, Ints]:
        """Token ids of all texts end to end, [T], and how many each has, [number of texts]."""
        parts = [self._encode(texts[at : at + TEXTS_AT_ONCE]) for at in range(0, len(texts), TEXTS_AT_ONCE)]
        ids = [np.zeros(0, np.int32), *(ids for ids, _ in parts)]
        return np.concatenate(ids), np.concatenate([np.zeros(0, np.int64), *(lengths for _, lengths in parts)])

    def _encode(self, texts: Sequence[str]) -> tuple[Ids, Ints]:
        if self._separator is None:
            return _flat(self.tokenizer.encode(texts))
        if len(self._numbers) > WORDS_KEPT:
            self._forget()
        words = self._split(texts)
        numbers = np.fromiter(map(self._numbers.__getitem__, words), np.int64, len(words))
        self._learn()
        lengths = self._lengths[numbers]
        ends = np.cumsum(lengths)
        sources = np.repeat(self._starts[numbers] - (ends - lengths), lengths)
        sources += np.arange(len(sources))
        last = np.flatnonzero(numbers == self._numbers[END])
        return self._ids[sources], np.diff(ends[last], prepend=0)

    def _split(self, texts: Sequence[str]) -> list[bytes]:
        """Words and marks of all texts, `END` after each; some words are empty."""
        if any("\n" in text for text in texts):
            texts = [text.replace("\n", " ") for text in texts]
        joined = "".join(f"{text} \n " for text in texts).encode()
        if self._lower:
            joined = joined.lower()  # the letters of ASCII only, the others are left to the tokenizer
        for mark in MARKS:
            joined = joined.replace(mark, b" " + mark + b" ")
        return joined.split(b" ")

    def _forget(self) -> None:
        self._numbers = _Numbers()
        self._ids = np.zeros(0, np.int32)
        self._starts = np.zeros(0, np.int64)
        self._lengths = np.zeros(0, np.int64)

    def _learn(self) -> None:
        """Tokenise the words that came for the first time."""
        words, self._numbers.new = self._numbers.new, []
        if not words:
            return
        parts = [
            self._words([word.decode() for word in words[at : at + WORDS_AT_ONCE]])
            for at in range(0, len(words), WORDS_AT_ONCE)
        ]
        lengths = np.concatenate([lengths for _, lengths in parts])
        self._starts = np.concatenate([self._starts, len(self._ids) + np.cumsum(lengths) - lengths])
        self._lengths = np.concatenate([self._lengths, lengths])
        self._ids = np.concatenate([self._ids, *(ids for ids, _ in parts)])

    def _words(self, words: list[str]) -> tuple[Ids, Ints]:
        """Tokens of words. One text with separators is twice as fast as many short texts."""
        assert self._separator is not None
        character, number = self._separator
        ids = self.tokenizer.encode([f" {character} ".join(words)])[0]
        between = np.flatnonzero(ids == number)
        if len(between) != len(words) - 1:  # a word has the separator itself
            return _flat(self.tokenizer.encode(words))
        return np.delete(ids, between), np.diff(between, prepend=-1, append=len(ids)) - 1


class _Numbers(dict[bytes, int]):
    """Words by number; an unknown one gets the next, and is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.new: list[bytes] = []

    def __missing__(self, word: bytes) -> int:
        number = self[word] = len(self)
        self.new.append(word)
        return number


def _flat(encoded: list[Ids]) -> tuple[Ids, Ints]:
    return np.concatenate([np.zeros(0, np.int32), *encoded]), np.array([len(ids) for ids in encoded], np.int64)


def _separator(tokenizer: TextTokenizer, made: dict[str, Any]) -> tuple[str, int] | None:
    """A mark that is one token, and its id; None where words cannot be tokenised apart."""
    kinds = [(made.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
    # Special tokens written in a text are text; other added tokens could reach across spaces.
    plain = all(token["special"] for token in made["added_tokens"])
    if kinds != ["BertNormalizer", "BertPreTokenizer", "WordPiece"] or not plain:
        return None
    for mark in map(bytes.decode, MARKS):
        number = tokenizer.tokenizer.token_to_id(mark)
        if number is not None and tokenizer.encode([f"{mark} {mark}"])[0].tolist() == [number, number]:
            return mark, number
    return None
