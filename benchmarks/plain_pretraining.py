"""A plain-Python twin of the original's way to pre-training data: lists of token strings, one loop for everything.

Written from the description of the algorithm (BERT's `create_pretraining_data.py`, as the original of this project uses
it), to have something to time beside doctune in the same run.
"""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

LONGEST_WORD = 200
SHORT_SEQ_PROB, MASKED_LM_PROB = 0.1, 0.15

Tokens = list[str]


class PlainTokenizer:
    """Lower-casing WordPiece, character by character."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self.vocabulary = dict(sorted(vocabulary.items(), key=lambda entry: entry[1]))

    def documents(self, documents: list[list[str]]) -> list[list[Tokens]]:
        """Tokens of the sentences of each document; sentences without tokens are left out."""
        made = ([self.tokens(sentence) for sentence in document] for document in documents)
        return [[tokens for tokens in document if tokens] for document in made]

    def tokens(self, text: str) -> Tokens:
        found: Tokens = []
        for word in "".join(map(_clean, text)).split():
            for part in _split(_plain(word)):
                found += self._pieces(part)
        return found

    def _pieces(self, word: str) -> Tokens:
        if len(word) > LONGEST_WORD:
            return ["[UNK]"]
        pieces: Tokens = []
        start = 0
        while start < len(word):
            end = len(word)
            while end > start:
                piece = word[start:end] if start == 0 else "##" + word[start:end]
                if piece in self.vocabulary:
                    break
                end -= 1
            if end == start:
                return ["[UNK]"]
            pieces.append(piece)
            start = end
        return pieces


def _clean(character: str) -> str:
    """Spaces for white space and around ideographs, nothing for control characters."""
    code = ord(character)
    if 0x4E00 <= code <= 0x9FFF or 0x3400 <= code <= 0x4DBF or 0xF900 <= code <= 0xFAFF or 0x20000 <= code <= 0x2FA1F:
        return f" {character} "
    if character in " \t\n\r" or unicodedata.category(character) == "Zs":
        return " "
    if code in (0, 0xFFFD) or unicodedata.category(character).startswith("C"):
        return ""
    return character


def _plain(word: str) -> str:
    """Lower case, no accents."""
    return "".join(c for c in unicodedata.normalize("NFD", word.lower()) if unicodedata.category(c) != "Mn")


def _split(word: str) -> list[str]:
    """Runs of other characters, and each punctuation mark alone."""
    parts: list[str] = []
    fresh = True
    for character in word:
        code = ord(character)
        marks = 33 <= code <= 47 or 58 <= code <= 64 or 91 <= code <= 96 or 123 <= code <= 126
        if marks or unicodedata.category(character).startswith("P"):
            parts.append(character)
            fresh = True
        elif fresh:
            parts.append(character)
            fresh = False
        else:
            parts[-1] += character
    return parts


@dataclass(slots=True)
class Sequence:
    """One instance."""

    tokens: Tokens
    segments: list[int]
    is_random: bool
    positions: list[int]
    labels: Tokens


def instances(
    documents: list[list[Tokens]], vocabulary: list[str], sequence_len: int, predictions: int, copies: int, seed: int
) -> list[Sequence]:
    """Instances of so many copies of the documents, shuffled."""
    rng = random.Random(seed)
    documents = [document for document in documents if document]
    made = []
    for _ in range(copies):
        for number in range(len(documents)):
            for first, second, is_random in _pairs(documents, number, sequence_len - 3, rng):
                tokens = ["[CLS]", *first, "[SEP]", *second, "[SEP]"]
                segments = [0] * (len(first) + 2) + [1] * (len(second) + 1)
                made.append(Sequence(tokens, segments, is_random, *_mask(tokens, vocabulary, predictions, rng)))
    rng.shuffle(made)
    return made


def _pairs(
    documents: list[list[Tokens]], number: int, room: int, rng: random.Random
) -> Iterator[tuple[Tokens, Tokens, bool]]:
    document = documents[number]
    target = rng.randint(2, room) if rng.random() < SHORT_SEQ_PROB else room
    start = 0
    while start < len(document):
        end, length = start, 0
        while end < len(document) and length < target:
            length += len(document[end])
            end += 1
        middle = start + (rng.randint(1, end - start - 1) if end - start > 1 else 1)
        first = [token for sentence in document[start:middle] for token in sentence]
        is_random = end - start == 1 or rng.random() < 0.5
        if is_random:
            for _ in range(10):
                other = rng.randrange(len(documents))
                if other != number:
                    break
            second: Tokens = []
            for sentence in documents[other][rng.randrange(len(documents[other])) :]:
                second += sentence
                if len(second) >= target - len(first):
                    break
            start = middle
        else:
            second = [token for sentence in document[middle:end] for token in sentence]
            start = end
        while len(first) + len(second) > room:
            longer = first if len(first) > len(second) else second
            longer.pop(0 if rng.random() < 0.5 else -1)
        yield first, second, is_random


def _mask(tokens: Tokens, vocabulary: list[str], predictions: int, rng: random.Random) -> tuple[list[int], Tokens]:
    """Changes `tokens`; the chosen places, and what stood there."""
    places = [place for place, token in enumerate(tokens) if token not in ("[CLS]", "[SEP]")]
    rng.shuffle(places)
    chosen = sorted(places[: min(predictions, max(1, round(len(tokens) * MASKED_LM_PROB)))])
    labels = [tokens[place] for place in chosen]
    for place in chosen:
        if rng.random() < 0.8:
            tokens[place] = "[MASK]"
        elif rng.random() >= 0.5:
            tokens[place] = vocabulary[rng.randint(0, len(vocabulary) - 1)]
    return chosen, labels


def padded_batches(
    rows: list[Sequence], vocabulary: dict[str, int], sequence_len: int, predictions: int, size: int
) -> Iterator[tuple[np.ndarray, ...]]:
    """Ids, token types, places and labels of so many instances each, padded with 0."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield (
            _padded([[vocabulary[token] for token in row.tokens] for row in part], sequence_len),
            _padded([row.segments for row in part], sequence_len),
            _padded([row.positions for row in part], predictions),
            _padded([[vocabulary[token] for token in row.labels] for row in part], predictions),
            np.array([row.is_random for row in part]),
        )


def _padded(rows: list[list[int]], width: int) -> np.ndarray:
    return np.array([row + [0] * (width - len(row)) for row in rows])
