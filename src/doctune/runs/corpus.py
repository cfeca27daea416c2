"""The making of a corpus: documents are read, and what is read is shown."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from doctune.encoders.resolve import resolve_encoder
from doctune.errors import ConfigError
from doctune.files import watch_reading
from doctune.progress import Progress
from doctune.readers.documents import Opened, open_documents
from doctune.settings import CorpusSettings
from doctune.store.corpus import Corpus
from doctune.store.corpus_build import build_corpus
from doctune.store.corpus_part import Document, Part
from doctune.text.tokenizer import TextTokenizer

MEGABYTE = 10**6


def run(settings: CorpusSettings) -> Corpus:
    """Make the corpus, or continue one that was interrupted."""
    sources = [open_documents(source.path, source.reading(settings.reading)) for source in settings.sources]
    excluded = [open_documents(path, settings.reading) for path in settings.leaks.exclude]
    tokenizer = None
    if settings.encoder is not None:
        tokenizer = TextTokenizer.load(resolve_encoder(settings.encoder, settings.revision))
    workers = settings.workers or _cores()
    if settings.write_text is not None and Path(settings.write_text).expanduser().exists():
        raise ConfigError(f"write_text: {settings.write_text} is there already; remove it, or name another file")
    sizes = [part.bytes for parts in sources for part in parts]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    with _Reading(total) as reading:
        texts = _counted(_documents(excluded))
        return build_corpus(
            reading.documents(sources, "corpus"), settings, tokenizer, workers, texts, reading.finished,
            reading.documents(sources, "count words"), reading.counted,
        )  # fmt: skip


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class _Reading:
    """Shows how much of the input is read, in megabytes on the disk, and how many documents are done."""

    def __init__(self, total: int | None) -> None:
        self.total = None if total is None else math.ceil(total / MEGABYTE)
        self.progress: Progress | None = None
        self.read = self.shown = self.done = 0

    def __enter__(self) -> _Reading:
        return self

    def __exit__(self, *_: object) -> None:
        if self.progress is not None:
            self.progress.close()

    def documents(self, sources: Sequence[Sequence[Opened]], what: str) -> Iterator[Document]:
        """The documents of all sources in their order; `what` they are read for is shown."""
        before = self.read = self.shown = self.done = 0
        if self.progress is not None:
            self.progress.close()
        self.progress = Progress(self.total, what, "MB read")
        with watch_reading(self._tell):
            for number, parts in enumerate(sources):
                for part in parts:
                    yield from _documents([[part]], number)
                    before += part.bytes or 0
                    self._tell(before - self.read)  # not every reader tells what it reads

    def finished(self, part: Part) -> None:
        """Count what has been made."""
        self.counted(part.documents)

    def counted(self, documents: int) -> None:
        """Count documents that are done."""
        self.done += documents
        self._show()

    def _tell(self, count: int) -> None:
        self.read += count

    def _show(self) -> None:
        whole = math.ceil(self.read / MEGABYTE)
        if self.progress is not None:
            self.progress.advance(whole - self.shown, f"{self.done:,} documents")
        self.shown = whole


def _counted(texts: Iterator[Document]) -> Iterator[Document]:
    with Progress(None, "index the excluded texts", "texts") as progress:
        for document in texts:
            yield document
            progress.advance(1)


def _documents(sources: Sequence[Sequence[Opened]], first: int = 0) -> Iterator[Document]:
    for number, parts in enumerate(sources, first):
        for part in parts:
            for example in part.read():
                yield Document(example.id, number, example.text, part.split_already)
