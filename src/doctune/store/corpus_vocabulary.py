"""A corpus's own vocabulary: a first pass over the documents counts words, from which pieces are learnt.

What the leak guard leaves out is left out here, too: validation and test texts do not shape the vocabulary.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from doctune.errors import ConfigError
from doctune.files import no_space_is_one_line, write_text
from doctune.settings import CorpusSettings, LeakSettings, SentenceSettings
from doctune.store.corpus import UNFINISHED, VocabularyRecord
from doctune.store.corpus_part import LEAK_INDEX, Document, Piece
from doctune.store.corpus_workers import in_order
from doctune.store.leaks import LeakIndex
from doctune.text.extension import FEWEST, extend, fragmentation, most_broken
from doctune.text.sentences import without_breaks
from doctune.text.tokenizer import TextTokenizer
from doctune.text.vocabulary import vocabulary_of
from doctune.text.word_counts import WordCounts, WordSplitter, bert_rules, rules_of

VOCABULARY = "vocabulary"
NOTE = "record.json"
SHOWN = 20


@dataclass(frozen=True)
class CountJob:
    """What every worker needs to count; `rules` say how texts are split into words, `key` tells jobs apart."""

    folder: Path
    key: str
    rules: str
    sentences: SentenceSettings
    leaks: LeakSettings


class CountWorker:
    """Counts words; one in each process."""

    def __init__(self, job: CountJob) -> None:
        self.splitter = WordSplitter(job.rules)
        self.drops_breaks = job.sentences.html_breaks == "drop"
        guarded = job.leaks.exclude and not job.leaks.transductive
        index = job.folder / UNFINISHED / LEAK_INDEX
        self.leaks = LeakIndex(index, job.leaks.similarity) if guarded else None

    def count(self, piece: Piece) -> tuple[int, Counter[str]]:
        """How many documents the piece has, and the words of those that the leak guard lets through."""
        stay = list(piece.documents)
        if self.leaks is not None:
            found = self.leaks.find([document.text for document in stay])
            stay = [document for document, match in zip(stay, found, strict=True) if match is None]
        return len(piece.documents), self.splitter.count(map(self._text, stay))

    def _text(self, document: Document) -> str:
        plain = document.split_already or not self.drops_breaks
        return document.text if plain else without_breaks(document.text)


def word_rules(settings: CorpusSettings, given: TextTokenizer | None) -> str | None:
    """How the words of the first pass are split; None if the settings need no such pass.

    Raises `ConfigError` if new pieces are asked for, but the encoder's tokenizer is not of BERT's kind.
    """
    if given is None:
        return bert_rules(not settings.cased)
    if settings.add_pieces is None:
        return None
    rules = rules_of(given)
    if rules is None:
        raise ConfigError(
            f"add_pieces: the tokenizer of {settings.encoder} is of kind {type(given.tokenizer.model).__name__}; words "
            f"are added to BERT's kind (WordPiece) only; leave --add-pieces out, or take another encoder"
        )
    return rules


def make_tokenizer(
    job: CountJob, settings: CorpusSettings, given: TextTokenizer | None, pieces: Iterator[Piece], workers: int,
    counted: Callable[[int], None],
) -> tuple[TextTokenizer, VocabularyRecord]:  # fmt: skip
    """The tokenizer that the settings ask for, and what there is to say of it; what an interrupted run made is taken.

    `given` is the encoder's, which gets new pieces, or None for a new vocabulary. `counted` is told how many documents
    have been counted. Raises `ConfigError` where there is nothing to learn, or not enough room.
    """
    made = job.folder / UNFINISHED / VOCABULARY
    note = made / NOTE
    if note.is_file():
        learnt_from, _, kept = note.read_text(encoding="utf-8").partition("\n")
        if learnt_from == job.key:
            return TextTokenizer.load(made), VocabularyRecord.model_validate_json(kept)
    words = WordCounts()
    for documents, counts in in_order(count_piece, job, pieces, workers):
        words.add(counts)
        counted(documents)
    try:
        tokenizer, record = _new(words, settings, made) if given is None else _extended(words, settings, given)
    except ConfigError:
        shutil.rmtree(job.folder / UNFINISHED)
        raise
    with no_space_is_one_line(made):
        made.mkdir(parents=True, exist_ok=True)
    tokenizer.save(made)
    write_text(note, f"{job.key}\n{record.model_dump_json()}\n")
    return tokenizer, record


def _new(words: WordCounts, settings: CorpusSettings, folder: Path) -> tuple[TextTokenizer, VocabularyRecord]:
    assert settings.new_vocabulary is not None
    try:
        tokenizer = vocabulary_of(words, settings.new_vocabulary, folder, not settings.cased)
    except ConfigError as error:
        raise ConfigError(f"new_vocabulary: {error}") from None
    after = fragmentation(tokenizer, words.counts)
    return tokenizer, VocabularyRecord(kind="new", pieces=tokenizer.size, after=after)


def _extended(
    words: WordCounts, settings: CorpusSettings, given: TextTokenizer
) -> tuple[TextTokenizer, VocabularyRecord]:
    assert settings.add_pieces is not None
    new = most_broken(given, words.counts, settings.add_pieces)
    if not new:
        raise ConfigError(
            f"add_pieces: no word that the tokenizer of {settings.encoder} breaks occurs {FEWEST} times or more; "
            f"leave --add-pieces out"
        )
    tokenizer = extend(given, new)
    before, after = (fragmentation(one, words.counts) for one in (given, tokenizer))
    first = tuple(new[:SHOWN])
    return tokenizer, VocabularyRecord(kind="extended", pieces=len(new), first=first, before=before, after=after)


@lru_cache(1)
def _worker(job: CountJob) -> CountWorker:
    return CountWorker(job)


def count_piece(job: CountJob, piece: Piece) -> tuple[int, Counter[str]]:
    """`CountWorker.count` for a pool of processes: each makes its worker once."""
    return _worker(job).count(piece)
