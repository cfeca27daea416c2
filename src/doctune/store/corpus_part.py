"""One shard of a corpus: what a worker process makes of a piece of the input."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from doctune.config import Settings
from doctune.files import atomic_path, content_hash, write_text
from doctune.settings import LeakSettings, SentenceSettings
from doctune.store.corpus import SCHEMA, SHARDS, UNFINISHED, ShardRecord, Sizes
from doctune.store.leaks import LeakIndex
from doctune.text.segment import Segmenter
from doctune.text.sentences import lines, make_splitter
from doctune.text.tokenizer import Ids, TextTokenizer
from doctune.text.word_cache import WordCache

LEAK_INDEX = "excluded"
EMPTY = "empty"


@dataclass(frozen=True, slots=True)
class Document:
    """A document before it is split; `split_already`: each line is a sentence."""

    id: str
    source: int
    text: str
    split_already: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """The documents of one shard, with the number that names it."""

    number: int
    documents: Sequence[Document]

    def key(self, settings: str) -> str:
        """Changes when anything that the shard is made from does."""
        parts = (part for d in self.documents for part in (d.id, f"{d.source} {d.split_already:d}", d.text))
        return content_hash(settings, *parts)


@dataclass(frozen=True)
class PartJob:
    """What every worker needs; `settings` is a hash of all that a shard depends on beside its documents."""

    folder: Path
    settings: str
    sentences: SentenceSettings
    leaks: LeakSettings
    with_text: bool = False


class PartSizes(Sizes):
    """What a shard has of one source."""

    left_out: int = 0


class Part(Settings):
    """What was made of a piece: its shard (None if no document is left), and figures to add up."""

    number: int
    key: str
    shard: ShardRecord | None
    sources: dict[int, PartSizes]
    left_out: dict[str, int]
    kept: dict[str, int]

    @property
    def documents(self) -> int:
        """All documents of the piece, whether they are in the shard or not."""
        return sum(sizes.documents + sizes.left_out for sizes in self.sources.values())


@dataclass(frozen=True, slots=True)
class Rows:
    """The documents of a shard: D of them with S sentences and T tokens."""

    documents: Sequence[Document]
    sentences: Sequence[Sequence[str]]
    input_ids: Ids  # [T]
    lengths: Ids  # tokens of each sentence: [S]

    def tokens(self) -> npt.NDArray[np.int64]:
        """How many tokens each document has: [D]."""
        ends = np.concatenate([[0], np.cumsum(self.lengths, dtype=np.int64)])
        places = np.concatenate([[0], np.cumsum([len(sentences) for sentences in self.sentences], dtype=np.int64)])
        tokens: npt.NDArray[np.int64] = np.diff(ends[places])
        return tokens


class Worker:
    """Makes shards; one in each process."""

    def __init__(self, job: PartJob) -> None:
        self.job = job
        tokenizer = TextTokenizer.load(job.folder)
        self.words = WordCache(tokenizer)
        self.splitter = make_splitter(job.sentences)
        self.segmenter = Segmenter(tokenizer) if job.sentences.segmenter == "jieba" else None
        index = job.folder / UNFINISHED / LEAK_INDEX
        self.leaks = LeakIndex(index, job.leaks.similarity) if job.leaks.exclude else None

    def make(self, piece: Piece) -> Part:
        """Check, split, tokenise and write a piece; what an interrupted run finished is taken as it is."""
        key = piece.key(self.job.settings)
        note = unfinished(self.job.folder, piece.number, "json")
        part = _finished(note, key, self.job)
        if part is None:
            part = self._make(piece, key)
            # The note comes last: with it, all the rest is complete.
            write_text(note, part.model_dump_json())
        return part

    def _make(self, piece: Piece, key: str) -> Part:
        ledger, documents = self._check(piece.documents)
        rows = self._split(documents)
        present = {id(document) for document in rows.documents}
        for document in documents:
            if id(document) not in present:
                ledger.append(_entry(document, EMPTY))
        shard = self._write(piece.number, rows) if rows.documents else None
        path = unfinished(self.job.folder, piece.number, "ledger.jsonl")
        write_text(path, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in ledger))
        if self.job.with_text:
            write_text(unfinished(self.job.folder, piece.number, "txt"), as_text(rows.sentences))
        counts = {kept: Counter(str(e["reason"]) for e in ledger if e["kept"] == kept) for kept in (False, True)}
        gone = Counter(int(e["source"]) for e in ledger if not e["kept"])
        return Part(
            number=piece.number, key=key, shard=shard, sources=_sizes(rows, gone), left_out=dict(counts[False]),
            kept=dict(counts[True]),
        )  # fmt: skip

    def _check(self, documents: Sequence[Document]) -> tuple[list[dict[str, Any]], list[Document]]:
        """Lines of the ledger, and the documents that stay."""
        if self.leaks is None:
            return [], list(documents)
        ledger, stay = [], []
        keep = self.job.leaks.transductive
        for document, match in zip(documents, self.leaks.find([d.text for d in documents]), strict=True):
            if match is not None:
                ledger.append(_entry(document, match.reason, match.text, match.similarity, keep))
            if match is None or keep:
                stay.append(document)
        return ledger, stay

    def _split(self, documents: Sequence[Document]) -> Rows:
        """Sentences without tokens, and documents without sentences, are dropped."""
        split = [lines(d.text) if d.split_already else self.splitter(d.text) for d in documents]
        input_ids, lengths = self.words.encode([sentence for sentences in split for sentence in sentences])
        filled = iter((lengths > 0).tolist())
        split = [[sentence for sentence in sentences if next(filled)] for sentences in split]
        full = [(document, sentences) for document, sentences in zip(documents, split, strict=True) if sentences]
        return Rows([d for d, _ in full], [s for _, s in full], input_ids, lengths[lengths > 0].astype(np.int32))

    def _write(self, number: int, rows: Rows) -> ShardRecord:
        tokens = rows.tokens()
        if self.segmenter is None:
            words = pa.nulls(len(rows.documents), SCHEMA.field("word_starts").type)
        else:
            starts = self.segmenter.word_starts([sentence for sentences in rows.sentences for sentence in sentences])
            words = _lists(starts, tokens)
        columns = [
            pa.array([document.id for document in rows.documents], pa.string()),
            pa.array([document.source for document in rows.documents], pa.int16()),
            _lists(rows.input_ids, tokens),
            _lists(rows.lengths, [len(sentences) for sentences in rows.sentences]),
            words,
        ]
        folder = self.job.folder / SHARDS
        batch = pa.record_batch(columns, schema=SCHEMA)
        unnamed = folder / f"{number:05}.arrow"
        with atomic_path(unnamed) as temporary:
            with pa.OSFile(str(temporary), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
                writer.write_batch(batch)
            digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
        file = f"{number:05}-{digest[:16]}.arrow"
        unnamed.replace(folder / file)
        return ShardRecord(
            file=file, hash=digest, documents=len(rows.documents), sentences=len(rows.lengths),
            tokens=len(rows.input_ids),
        )  # fmt: skip


def unfinished(folder: Path, number: int, kind: str) -> Path:
    """A file of a piece that waits for the others: "json" says that the piece is finished."""
    return folder / UNFINISHED / f"{number:05}.{kind}"


def as_text(documents: Iterable[Sequence[str]]) -> str:
    """The text form of the original: a sentence a line, a blank line after each document."""
    return "".join("".join(" ".join(s.split()) + "\n" for s in sentences) + "\n" for sentences in documents)


def _entry(
    document: Document, reason: str, text: int | None = None, similarity: float | None = None, kept: bool = False
) -> dict[str, Any]:
    """A line of the ledger, with numbers in place of the names of sources and excluded texts."""
    return {
        "id": document.id, "source": document.source, "reason": reason, "kept": kept, "of": text,
        "similarity": similarity,
    }  # fmt: skip


def _finished(note: Path, key: str, job: PartJob) -> Part | None:
    try:
        part = Part.model_validate_json(note.read_bytes())
    except (OSError, ValueError):
        return None
    there = part.shard is None or (job.folder / SHARDS / part.shard.file).is_file()
    there = there and (not job.with_text or unfinished(job.folder, part.number, "txt").is_file())
    return part if part.key == key and there else None


def _sizes(rows: Rows, gone: Counter[int]) -> dict[int, PartSizes]:
    sources = np.array([document.source for document in rows.documents], np.int64)
    sentences = np.array([len(sentences) for sentences in rows.sentences], np.int64)
    tokens = rows.tokens()
    sizes = {}
    for source in sorted({*sources.tolist(), *gone}):
        own = sources == source
        sizes[source] = PartSizes(
            documents=int(own.sum()), sentences=int(sentences[own].sum()), tokens=int(tokens[own].sum()),
            left_out=gone[source],
        )  # fmt: skip
    return sizes


def _lists(values: Any, lengths: Any) -> Any:
    offsets = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(values))


@lru_cache(1)
def _worker(job: PartJob) -> Worker:
    return Worker(job)


def make_part(job: PartJob, piece: Piece) -> Part:
    """`Worker.make` for a pool of processes: each makes its worker once."""
    return _worker(job).make(piece)
