"""The leak guard: which documents are, or nearly are, among texts that must not be seen.

The excluded texts are an index on disk, memory-mapped by every worker: hashes of whole texts, and of every five words
in a row with the texts that have them. A document is like an excluded text if one nearly contains the other: its
similarity is the number of grams in both, divided by the smaller number of grams.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from doctune.store.grams import Hasher, comparable_lines, text_hash

Ints = npt.NDArray[np.int64]

SHORTEST_LINE = 8
"""Words of a line of a document that is compared by itself: shorter ones are alike by chance."""
FEWEST_GRAMS = 8
"""Grams in common of near-duplicates, which is twelve words in a row; shorter texts are compared as a whole only."""
MOST_OWNERS = 16
"""A gram in more excluded texts than this is a common phrase or boilerplate, and says nothing."""
TEXTS_AT_ONCE = 2048
ARRAYS = ("exact", "exact_of", "grams", "owners", "sizes", "bits")


@dataclass(frozen=True, slots=True)
class Match:
    """What a document is like: the number of the excluded text, and how much of the shorter one is in both."""

    text: int
    reason: str
    similarity: float


@dataclass(frozen=True, slots=True)
class Indexed:
    """How many excluded texts there are, and a hash of them all."""

    texts: int
    hash: str


def write_index(texts: Iterable[str], folder: Path) -> Indexed:
    """Write the index of the excluded texts; a text's number is its place. Memory: 12 bytes for each of their words."""
    hasher, digest = Hasher(), hashlib.sha256()
    exact: dict[int, int] = {}
    grams: list[Any] = []
    owners: list[Any] = []
    count = 0
    remaining = iter(texts)
    while some := list(islice(remaining, TEXTS_AT_ONCE)):
        words = []
        for number, text in enumerate(some, count):
            digest.update(text.encode("utf-8", "replace") + b"\xff")
            lines = comparable_lines(text)
            whole = [word for line in lines for word in line]
            known = exact.setdefault(text_hash(whole), number) if whole else number
            # A title and its text: the text alone is the same document.
            for line in lines:
                if len(line) < len(whole) <= 2 * len(line) and len(line) >= SHORTEST_LINE:
                    exact.setdefault(text_hash(line), number)
            words.append(whole if known == number else [])
        hashes, place = hasher.grams(words)
        order = np.lexsort((hashes, place))
        hashes, place = hashes[order], place[order]
        fresh = _changes(hashes) | _changes(place)
        grams.append(hashes[fresh])
        owners.append((place[fresh] + count).astype(np.int32))
        count += len(some)
    all_grams, all_owners = _joined(grams, np.uint64), _joined(owners, np.int32)
    grams.clear()
    owners.clear()
    _save(folder, exact, all_grams, all_owners, count)
    return Indexed(count, digest.hexdigest()[:16])


def _save(folder: Path, exact: dict[int, int], grams: Any, owners: Any, count: int) -> None:
    order = np.argsort(grams, kind="stable")
    grams, owners = grams[order], owners[order]
    del order
    begins = np.flatnonzero(_changes(grams))
    times = np.diff(begins, append=len(grams))
    telling = np.repeat(times <= MOST_OWNERS, times)
    grams, owners = grams[telling], owners[telling]
    width = _width(len(grams))
    hashes = np.fromiter(exact.keys(), np.uint64, len(exact))
    of = np.fromiter(exact.values(), np.int32, len(exact))
    order = np.argsort(hashes)
    sizes = np.bincount(owners, minlength=count).astype(np.int32)
    folder.mkdir(parents=True, exist_ok=True)
    values = (hashes[order], of[order], grams, owners, sizes, _filter(grams, width))
    for name, value in zip(ARRAYS, values, strict=True):
        np.save(folder / f"{name}.npy", value)


class LeakIndex:
    """Finds the excluded text that a document is most like."""

    def __init__(self, folder: Path, similarity: float) -> None:
        arrays = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ARRAYS]
        self._exact, self._exact_of, self._grams, self._owners, self._sizes, self._bits = arrays
        self._width = _width(len(self._grams))
        self._similarity = similarity
        self._hasher = Hasher()

    def find(self, texts: Sequence[str]) -> list[Match | None]:
        """For each document the excluded text that it is most like, or None."""
        lines = [comparable_lines(text) for text in texts]
        whole = [[word for line in document for word in line] for document in lines]
        found = self._find_exact(whole, lines)
        for document, match in self._find_near(whole).items():
            if found[document] is None:
                found[document] = match
        return found

    def _find_exact(self, whole: Sequence[list[str]], lines: Sequence[list[list[str]]]) -> list[Match | None]:
        hashes, documents = [], []
        for number, words in enumerate(whole):
            own = [text_hash(words)] if words else []
            if len(lines[number]) > 1:
                own += [text_hash(line) for line in lines[number] if len(line) >= SHORTEST_LINE]
            hashes += own
            documents += [number] * len(own)
        found: list[Match | None] = [None] * len(whole)
        if not hashes or not len(self._exact):
            return found
        wanted = np.array(hashes, np.uint64)
        places = np.minimum(np.searchsorted(self._exact, wanted), len(self._exact) - 1)
        for hit in np.flatnonzero(self._exact[places] == wanted):
            document = documents[hit]
            if found[document] is None:
                found[document] = Match(int(self._exact_of[places[hit]]), "exact", 1.0)
        return found

    def _find_near(self, whole: Sequence[list[str]]) -> dict[int, Match]:
        grams, document = self._hasher.grams(whole)
        high = grams >> np.uint64(64 - self._width)
        maybe = (self._bits[high >> np.uint64(3)] >> (high & np.uint64(7)).astype(np.uint8)) & 1 == 1
        hits, of = grams[maybe], document[maybe]
        order = np.lexsort((hits, of))
        hits, of = hits[order], of[order]
        fresh = _changes(hits) | _changes(of)
        hits, of = hits[fresh], of[fresh]
        first = np.searchsorted(self._grams, hits, "left")
        times = np.searchsorted(self._grams, hits, "right") - first
        steps = np.arange(times.sum()) - np.repeat(np.cumsum(times) - times, times)
        owner = self._owners[np.repeat(first, times) + steps]
        pairs, shared = np.unique(np.repeat(of, times) * len(self._sizes) + owner, return_counts=True)
        enough = shared >= FEWEST_GRAMS
        pairs, shared = pairs[enough], shared[enough]
        return self._best(*np.divmod(pairs, max(len(self._sizes), 1)), shared, grams, document)

    def _best(self, documents: Ints, owners: Ints, shared: Ints, grams: Any, document: Ints) -> dict[int, Match]:
        best: dict[int, Match] = {}
        sizes: dict[int, int] = {}
        for number, owner, common in zip(documents.tolist(), owners.tolist(), shared.tolist(), strict=True):
            if number not in sizes:
                begin, end = np.searchsorted(document, [number, number + 1])
                sizes[number] = len(np.unique(grams[begin:end]))
            similarity = common / min(sizes[number], int(self._sizes[owner]))
            if similarity >= self._similarity and (number not in best or similarity > best[number].similarity):
                best[number] = Match(owner, "near-duplicate", round(similarity, 4))
        return best


def _filter(grams: Any, width: int) -> Any:
    """A bit for each value that the first `width` bits of the grams, which ascend, can have."""
    bits = np.zeros(1 << (width - 3), np.uint8)
    if len(grams):
        high = grams >> np.uint64(64 - width)
        first = np.flatnonzero(_changes(high >> np.uint64(3)))
        one = np.uint8(1) << (high & np.uint64(7)).astype(np.uint8)
        bits[(high >> np.uint64(3))[first]] = np.bitwise_or.reduceat(one, first)
    return bits


def _changes(values: Any) -> npt.NDArray[np.bool_]:
    """Whether each value differs from the one before it."""
    changes = np.ones(len(values), np.bool_)
    changes[1:] = values[1:] != values[:-1]
    return changes


def _joined(parts: Sequence[Any], kind: Any) -> Any:
    return np.concatenate([np.zeros(0, kind), *parts])


def _width(count: int) -> int:
    """Bits of a gram that number the places of the filter: one place in sixteen is taken, or fewer."""
    return max((16 * count).bit_length(), 3)
