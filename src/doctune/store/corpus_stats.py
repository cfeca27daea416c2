"""What a corpus holds, counted shard by shard in constant memory; words are read off the tokens.

A word is what the tokenizer does not cut apart: a piece that begins one and the pieces that continue it. Marks without
a letter or digit are not counted as words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt

from doctune.config import Settings
from doctune.store.corpus import Corpus, Sizes
from doctune.text.tokenizer import Ids, TextTokenizer
from doctune.text.word_cache import WordCache
from doctune.text.words import shard_word_starts, word_starts

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint64]

PERCENTILES = (1, 5, 25, 50, 75, 95, 99, 100)
LONGEST = 2**20  # tokens that are told apart: a longer document counts as one of this length
MOST_PIECES = 64
BROKEN_WORDS = 2**17  # counted at a time
SHOWN = 20
TEXTS_AT_ONCE = 1000


class Lengths(Settings):
    """A distribution: its mean, and values by percentile."""

    mean: float
    percentiles: dict[int, int]


class BrokenWord(Settings):
    """A word of several pieces and how often it occurs."""

    pieces: tuple[str, ...]
    count: int


class Overlap(Settings):
    """How much of a task's vocabulary occurs in the corpus; types are different words."""

    texts: int
    types: int
    types_found: int
    words: int
    words_found: int


class Statistics(Settings):
    """Figures of a corpus. `count_error`: a broken word's count may be too low by so much."""

    name: str
    total: Sizes
    document_tokens: Lengths
    document_sentences: Lengths
    sentence_tokens: Lengths
    unknown: int
    words: int
    pieces_per_word: float
    words_of_pieces: dict[int, int]
    broken_words: tuple[BrokenWord, ...]
    count_error: int
    overlap: Overlap | None = None

    def share_broken(self, pieces: int) -> float:
        """Share of the words that have at least so many pieces."""
        return sum(n for size, n in self.words_of_pieces.items() if size >= pieces) / max(self.words, 1)


def measure(corpus: Corpus, task: Iterable[str] | None = None) -> Statistics:
    """Count everything in one pass; `task`: texts whose words are looked for in the corpus."""
    tokenizer = corpus.tokenizer()
    reader = _WordReader(tokenizer)
    overlap = None if task is None else _Overlap(reader, task)
    histograms = {name: np.zeros(1, np.int64) for name in ("tokens", "sentences", "lengths", "pieces")}
    broken = _BrokenWords()
    unknown = 0
    for shard in corpus.shards:
        ends = shard.sentences
        histograms["tokens"] = _added(histograms["tokens"], np.diff(ends[shard.documents]), LONGEST)
        histograms["sentences"] = _added(histograms["sentences"], np.diff(shard.documents), LONGEST)
        histograms["lengths"] = _added(histograms["lengths"], np.diff(ends), LONGEST)
        unknown += int((shard.input_ids == reader.unknown).sum())
        words = reader.words(shard.input_ids, ends)
        histograms["pieces"] = _added(histograms["pieces"], words.pieces, MOST_PIECES)
        broken.add(words, shard.input_ids)
        if overlap is not None:
            overlap.add(words)
    pieces = histograms["pieces"]
    counts = {int(size): int(pieces[size]) for size in np.flatnonzero(pieces)}
    words_seen = sum(counts.values())
    return Statistics(
        name=corpus.manifest.name, total=corpus.manifest.total,
        document_tokens=_lengths(histograms["tokens"]), document_sentences=_lengths(histograms["sentences"]),
        sentence_tokens=_lengths(histograms["lengths"]), unknown=unknown, words=words_seen,
        pieces_per_word=sum(size * n for size, n in counts.items()) / max(words_seen, 1), words_of_pieces=counts,
        broken_words=tuple(broken.most_costly(tokenizer)), count_error=broken.error,
        overlap=None if overlap is None else overlap.result(),
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Words:
    """The words of a row of tokens: where each begins, how many pieces it has, and a hash of them."""

    begins: Ints
    pieces: Ints
    keys: Keys
    known: npt.NDArray[np.bool_]


class _WordReader:
    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer
        self.starts = word_starts(tokenizer)
        model = tokenizer.tokenizer.model
        token = getattr(model, "unk_token", None)
        unknown = tokenizer.tokenizer.token_to_id(token) if token else getattr(model, "unk_id", None)
        self.unknown = -1 if unknown is None else int(unknown)
        self.letters = np.zeros(tokenizer.size, np.bool_)
        for token, number in tokenizer.tokenizer.get_vocab(with_added_tokens=True).items():
            self.letters[number] = any(character.isalnum() for character in token) and token not in ("Ġ", "▁")
        rng = np.random.default_rng(0)
        self.hashes = rng.integers(0, 2**64, tokenizer.size, np.uint64)
        self.factors = rng.integers(0, 2**63, 1 << 12, np.uint64) * np.uint64(2) + np.uint64(1)

    def words(self, ids: Ids, sentences: Ints) -> _Words:
        begins = np.flatnonzero(shard_word_starts(ids, sentences, self.starts))
        if not len(begins):
            return _Words(begins, begins, begins.astype(np.uint64), begins.astype(np.bool_))
        pieces = np.diff(begins, append=len(ids))
        place = np.arange(len(ids)) - np.repeat(begins, pieces)
        keys = np.add.reduceat(self.hashes[ids] * self.factors[np.minimum(place, len(self.factors) - 1)], begins)
        real = (pieces > 1) | self.letters[ids[begins]]
        known = ~np.logical_or.reduceat(ids == self.unknown, begins)
        return _Words(begins[real], pieces[real], keys[real], known[real])


class _BrokenWords:
    """Counts of words of several pieces; when there are too many different ones, the rarest are forgotten.

    As in Misra and Gries 1982: what is taken from every count is the most by which any of them can be too low.
    """

    def __init__(self) -> None:
        self.counts: dict[int, tuple[int, tuple[int, ...]]] = {}
        self.error = 0

    def add(self, words: _Words, ids: Ids) -> None:
        chosen = np.flatnonzero((words.pieces > 1) & words.known)
        keys, first, counts = np.unique(words.keys[chosen], return_index=True, return_counts=True)
        for key, place, count in zip(keys.tolist(), chosen[first].tolist(), counts.tolist(), strict=True):
            old = self.counts.get(key)
            if old is None:
                begin = int(words.begins[place])
                pieces = tuple(ids[begin : begin + int(words.pieces[place])].tolist()[:MOST_PIECES])
                old = (0, pieces)
            self.counts[key] = (old[0] + count, old[1])
        if len(self.counts) > 2 * BROKEN_WORDS:
            less = sorted((count for count, _ in self.counts.values()), reverse=True)[BROKEN_WORDS]
            self.counts = {key: (n - less, pieces) for key, (n, pieces) in self.counts.items() if n > less}
            self.error += less

    def most_costly(self, tokenizer: TextTokenizer) -> Iterator[BrokenWord]:
        """The words whose breaking makes the most tokens."""
        order = sorted(self.counts.values(), key=lambda entry: (-entry[0] * (len(entry[1]) - 1), entry[1]))
        for count, pieces in order[:SHOWN]:
            yield BrokenWord(pieces=tuple(str(tokenizer.tokenizer.id_to_token(p)) for p in pieces), count=count)


class _Overlap:
    """Which words of a task have been seen; memory: the task's different words."""

    def __init__(self, reader: _WordReader, task: Iterable[str]) -> None:
        encoder = WordCache(reader.tokenizer)
        self.texts = 0
        keys, counts = np.zeros(0, np.uint64), np.zeros(0, np.int64)
        self.unknown = 0
        remaining = iter(task)
        while texts := list(islice(remaining, TEXTS_AT_ONCE)):
            self.texts += len(texts)
            ids, lengths = encoder.encode(texts)
            words = reader.words(ids, np.concatenate([[0], np.cumsum(lengths)]))
            self.unknown += int((~words.known).sum())
            more, times = np.unique(words.keys[words.known], return_counts=True)
            keys, place = np.unique(np.concatenate([keys, more]), return_inverse=True)
            counts = np.bincount(place, np.concatenate([counts, times]), len(keys)).astype(np.int64)
        self.keys, self.counts, self.found = keys, counts, np.zeros(len(keys), np.bool_)

    def add(self, words: _Words) -> None:
        self.found |= np.isin(self.keys, words.keys)

    def result(self) -> Overlap:
        return Overlap(
            texts=self.texts, types=len(self.keys), types_found=int(self.found.sum()),
            words=int(self.counts.sum()) + self.unknown, words_found=int(self.counts[self.found].sum()),
        )  # fmt: skip


def _added(histogram: Ints, values: Any, most: int) -> Ints:
    more = np.bincount(np.minimum(values, most))
    size = max(len(histogram), len(more))
    return np.pad(histogram, (0, size - len(histogram))) + np.pad(more, (0, size - len(more)))


def _lengths(histogram: Ints) -> Lengths:
    total = int(histogram.sum())
    ends = np.cumsum(histogram)
    mean = float((histogram * np.arange(len(histogram))).sum() / max(total, 1))
    at = {p: int(np.searchsorted(ends, max(p / 100 * total, 1))) for p in PERCENTILES}
    return Lengths(mean=mean, percentiles=at)
