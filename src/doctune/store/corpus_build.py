"""Making a corpus: the input is cut into pieces, and worker processes make a shard of each.

How it is cut depends on the documents alone, so that any number of workers gives the same bytes. A piece that an
interrupted run finished is recognised by a hash of its documents and of the settings, and is not made again.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from doctune.errors import ConfigError, DataError
from doctune.files import atomic_path, content_hash, no_space_is_one_line, write_text
from doctune.settings import CorpusSettings
from doctune.store.corpus import (
    LEDGER,
    MANIFEST,
    SHARDS,
    UNFINISHED,
    Corpus,
    ExcludeRecord,
    Manifest,
    Sizes,
    SourceRecord,
    TokenizerRecord,
    VocabularyRecord,
)  # fmt: skip
from doctune.store.corpus_part import LEAK_INDEX, Document, Part, PartJob, Piece, make_part, unfinished
from doctune.store.corpus_vocabulary import CountJob, make_tokenizer, word_rules
from doctune.store.corpus_workers import in_order
from doctune.store.leaks import write_index
from doctune.text.tokenizer import TextTokenizer
from doctune.version import __version__

# Settings that change nothing in the shards.
ELSEWHERE = {"output", "encoder", "revision", "workers", "write_text", "name"}
VERSION = 1  # of the way in which shards are made: an unfinished corpus of another one is not continued
MOST_SOURCES = 2**15


def build_corpus(
    documents: Iterable[Document], settings: CorpusSettings, tokenizer: TextTokenizer | None, workers: int,
    excluded: Iterable[Document] = (), finished: Callable[[Part], None] = lambda part: None,
    first_pass: Iterable[Document] = (), counted: Callable[[int], None] = lambda count: None,
) -> Corpus:  # fmt: skip
    """Make the corpus in `settings.output` from its documents, with so many worker processes.

    `tokenizer` is the encoder's, None for a new vocabulary. `first_pass` are the documents once more, whose words are
    counted for a new vocabulary or new pieces; `counted` is told of how many. `excluded` are the texts of the leak
    guard; their `source` is a position in `settings.leaks.exclude`. `finished` is called for each shard in order.
    Memory: the text of a shard for each worker and two more, whatever the size of the corpus, and the names of the
    excluded texts.
    Raises `DataError` if no document is left, or if the folder holds something else.
    """
    if len(settings.sources) > MOST_SOURCES:
        raise ConfigError(f"sources: {len(settings.sources):,}, at most {MOST_SOURCES:,}; name a folder instead")
    folder = Path(settings.output).expanduser()
    rules = word_rules(settings, tokenizer)
    given = "" if tokenizer is None else tokenizer.hash
    fingerprint = content_hash(settings.model_dump_json(exclude=ELSEWHERE), given, str(VERSION))
    _claim(folder, fingerprint)
    names = _index(folder, settings, excluded) if settings.leaks.exclude else _Names([], "")
    key = content_hash(fingerprint, names.hash)
    vocabulary = None
    if rules is not None:
        pieces = cut(first_pass, settings.shard_bytes)
        counts = CountJob(folder, key, rules, settings.sentences, settings.leaks)
        tokenizer, vocabulary = make_tokenizer(counts, settings, tokenizer, pieces, workers, counted)
        key = content_hash(key, tokenizer.hash)
    assert tokenizer is not None
    tokenizer.save(folder)
    job = PartJob(folder, key, settings.sentences, settings.leaks, settings.write_text is not None)
    parts = []
    for part in in_order(make_part, job, cut(documents, settings.shard_bytes), workers):
        parts.append(part)
        finished(part)
    manifest = _manifest(settings, tokenizer, vocabulary, folder, parts, names)
    if not manifest.shards:
        shutil.rmtree(folder / UNFINISHED)
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in manifest.left_out.items())
        found = f"all were left out: {reasons}" if reasons else "the sources have none"
        raise DataError(f"no documents: {found}; check the files and the text column")
    _finish(folder, settings, manifest, len(parts), names)
    return Corpus.open(folder)


def cut(documents: Iterable[Document], shard_bytes: int) -> Iterator[Piece]:
    """Cut the input into pieces of at most so many bytes of text, or one document."""
    waiting: list[Document] = []
    size = number = 0
    for document in documents:
        try:
            length = len(document.text.encode())
        except UnicodeEncodeError:  # half an emoji is no text in any encoding: it becomes U+FFFD
            whole = document.text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            document = replace(document, text=whole)
            length = len(whole.encode())
        if waiting and size + length > shard_bytes:
            yield Piece(number, waiting)
            waiting, size, number = [], 0, number + 1
        waiting.append(document)
        size += length
    if waiting:
        yield Piece(number, waiting)


class _Names:
    """Where each excluded text comes from: its place in the list of files, and its id there."""

    def __init__(self, names: list[tuple[int, str]], digest: str) -> None:
        self.names, self.hash = names, digest

    def counts(self) -> Counter[int]:
        return Counter(source for source, _ in self.names)


def _index(folder: Path, settings: CorpusSettings, excluded: Iterable[Document]) -> _Names:
    names: list[tuple[int, str]] = []

    def texts() -> Iterator[str]:
        for document in excluded:
            names.append((document.source, document.id))
            yield document.text

    with no_space_is_one_line(folder):
        indexed = write_index(texts(), folder / UNFINISHED / LEAK_INDEX)
    found = _Names(names, indexed.hash)
    for number, name in enumerate(settings.leaks.exclude):
        if not found.counts()[number]:
            raise DataError(f"leaks.exclude: {name} has no texts; check the file, or leave it out")
    return found


def _claim(folder: Path, fingerprint: str) -> None:
    """Make the folder ours; what is there must be the same corpus, unfinished."""
    mark = folder / UNFINISHED / "settings"
    if (folder / MANIFEST).exists():
        raise DataError(f"{folder}: holds a finished corpus; remove it, or name another --output")
    if mark.is_file():
        if mark.read_text(encoding="utf-8") != fingerprint:
            raise DataError(
                f"{folder}: holds an unfinished corpus of other sources, settings or tokenizer; "
                f"remove it, or name another --output"
            )
        return
    with no_space_is_one_line(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise DataError(f"{folder}: is not empty; name a new folder with --output")
        write_text(mark, fingerprint)


def _manifest(
    settings: CorpusSettings, tokenizer: TextTokenizer, vocabulary: VocabularyRecord | None, folder: Path,
    parts: Sequence[Part], names: _Names,
) -> Manifest:  # fmt: skip
    left_out: Counter[str] = Counter()
    kept: Counter[str] = Counter()
    figures = [Counter[str]() for _ in settings.sources]
    for part in parts:
        left_out.update(part.left_out)
        kept.update(part.kept)
        for source, sizes in part.sources.items():
            figures[source].update(sizes.model_dump())
    sources = [
        SourceRecord(name=source.path, weight=source.weight, **figures[number])
        for number, source in enumerate(settings.sources)
    ]
    counts = names.counts()
    exclude = [ExcludeRecord(name=name, texts=counts[number]) for number, name in enumerate(settings.leaks.exclude)]
    total = {key: sum(figure[key] for figure in figures) for key in Sizes.model_fields}
    return Manifest(
        doctune=__version__, name=settings.name or folder.resolve().name,
        tokenizer=TokenizerRecord(hash=tokenizer.hash, vocab_size=tokenizer.size), vocabulary=vocabulary,
        splitter=settings.sentences.splitter, segmenter=settings.sentences.segmenter, sources=tuple(sources),
        exclude=tuple(exclude), similarity=settings.leaks.similarity, transductive=settings.leaks.transductive,
        left_out=dict(sorted(left_out.items())), kept=dict(sorted(kept.items())),
        shards=tuple(part.shard for part in parts if part.shard is not None), total=Sizes(**total),
    )  # fmt: skip


def _finish(folder: Path, settings: CorpusSettings, manifest: Manifest, count: int, names: _Names) -> None:
    """Put the parts together; the manifest comes last, with it the corpus is complete."""
    with atomic_path(folder / LEDGER) as temporary, open(temporary, "w", encoding="utf-8") as ledger:
        for number in range(count):
            with open(unfinished(folder, number, "ledger.jsonl"), encoding="utf-8") as lines:
                for line in lines:
                    ledger.write(_named(line, settings, names))
    if settings.write_text is not None:
        with atomic_path(Path(settings.write_text).expanduser()) as temporary, open(temporary, "wb") as text:
            for number in range(count):
                with open(unfinished(folder, number, "txt"), "rb") as piece:
                    shutil.copyfileobj(piece, text)
    present = {shard.file for shard in manifest.shards}
    for file in (folder / SHARDS).iterdir():
        if file.name not in present:
            file.unlink()
    write_text(folder / MANIFEST, manifest.model_dump_json(indent=2) + "\n")
    shutil.rmtree(folder / UNFINISHED)


def _named(line: str, settings: CorpusSettings, names: _Names) -> str:
    """A line of the ledger with the names of its source and of the excluded text."""
    entry = json.loads(line)
    of, similarity = entry.pop("of"), entry.pop("similarity")
    entry["source"] = settings.sources[entry["source"]].path
    if of is not None:
        place, name = names.names[of]
        entry |= {"excluded": name, "excluded_source": settings.leaks.exclude[place], "similarity": similarity}
    return json.dumps(entry, ensure_ascii=False) + "\n"
