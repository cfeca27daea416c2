"""A corpus for further pre-training: documents as sentences of token ids, in memory-mapped Arrow shards.

A shard is one record batch, so that its columns are flat arrays that need no copy. Its size is bounded when it is made;
what works shard by shard therefore needs the same memory for any corpus.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import ValidationError

from doctune.config import Settings
from doctune.errors import DataError
from doctune.text.extension import Fragmentation
from doctune.text.tokenizer import TextTokenizer

MANIFEST = "corpus.json"
SHARDS = "shards"
LEDGER = "ledger.jsonl"
UNFINISHED = "unfinished"
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.int16()),  # position in the manifest's list of sources
        ("input_ids", pa.large_list(pa.int32())),  # of a whole document, no special tokens
        ("sentence_lengths", pa.large_list(pa.int32())),  # tokens of each sentence; none is 0
        ("word_starts", pa.large_list(pa.bool_())),  # whether a token begins a word; null without a segmenter
    ]
)


class Sizes(Settings):
    """How much text there is."""

    documents: int = 0
    sentences: int = 0
    tokens: int = 0


class SourceRecord(Sizes):
    """A source of a corpus; `left_out` counts the documents that are not in the corpus."""

    name: str
    weight: float
    left_out: int = 0


class ShardRecord(Sizes):
    """A shard's file below `shards/`, and the SHA-256 of its bytes."""

    file: str
    hash: str


class TokenizerRecord(Settings):
    """The tokenizer whose ids the shards hold."""

    hash: str
    vocab_size: int


class ExcludeRecord(Settings):
    """Validation or test texts that the documents were compared with."""

    name: str
    texts: int


class VocabularyRecord(Settings):
    """A vocabulary that the corpus made: a new one, or the encoder's with new pieces at its end.

    `pieces` counts all pieces of a new one, or the new pieces, of which `first` are the first ones. `before` is how far
    the encoder's own pieces break words, `after` how far these do.
    """

    kind: Literal["new", "extended"]
    pieces: int
    first: tuple[str, ...] = ()
    before: Fragmentation | None = None
    after: Fragmentation


class Manifest(Settings):
    """`corpus.json`: what a corpus holds and how it was made.

    `left_out` counts by reason the documents that the ledger lists; `kept` those that are like excluded texts, listed
    too, but in the corpus, because it is `transductive`.
    """

    format: Literal[1] = 1
    doctune: str
    name: str
    tokenizer: TokenizerRecord
    vocabulary: VocabularyRecord | None = None
    splitter: str
    segmenter: str
    sources: tuple[SourceRecord, ...]
    exclude: tuple[ExcludeRecord, ...] = ()
    similarity: float
    transductive: bool = False
    left_out: dict[str, int]
    kept: dict[str, int]
    shards: tuple[ShardRecord, ...]
    total: Sizes


@dataclass(frozen=True)
class Corpus:
    """A finished corpus in a folder."""

    folder: Path
    manifest: Manifest

    @classmethod
    def open(cls, folder: Path) -> Corpus:
        """The corpus in `folder`; `DataError` if there is none, or if a shard is missing."""
        path = folder / MANIFEST
        if not path.is_file():
            if (folder / UNFINISHED).is_dir():
                raise DataError(f"{folder}: this corpus is not finished; run the same doctune corpus command again")
            raise DataError(f"{folder}: no {MANIFEST} here; make a corpus with doctune corpus")
        try:
            manifest = Manifest.model_validate_json(path.read_bytes())
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            raise DataError(f"{path}: not a corpus of this doctune: {where}: {first['msg']}; make it again") from None
        for shard in manifest.shards:
            if not (folder / SHARDS / shard.file).is_file():
                raise DataError(f"{folder}: the shard {SHARDS}/{shard.file} is missing; make the corpus again")
        return cls(folder, manifest)

    def ledger(self) -> Iterator[dict[str, Any]]:
        """The documents that were left out, or kept though they are like excluded texts, in their order."""
        with open(self.folder / LEDGER, encoding="utf-8") as lines:
            yield from map(json.loads, lines)

    @cached_property
    def shards(self) -> list[CorpusShard]:
        """The shards in their order; nothing is read before it is asked for."""
        return [CorpusShard(self.folder / SHARDS / shard.file) for shard in self.manifest.shards]

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """How often a document of each source is used in one pass."""
        return np.array([source.weight for source in self.manifest.sources], np.float64)

    def tokenizer(self) -> TextTokenizer:
        """The tokenizer that the corpus was made with; `DataError` if its files have changed since."""
        tokenizer = TextTokenizer.load(self.folder)
        if tokenizer.hash != self.manifest.tokenizer.hash:
            raise DataError(f"{self.folder}: the tokenizer's files are not those the corpus was made with")
        return tokenizer


@dataclass(frozen=True)
class CorpusShard:
    """One shard as flat arrays; T tokens, S sentences, D documents."""

    path: Path

    @cached_property
    def _batch(self) -> pa.RecordBatch:
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(self.path), "r"))
            if reader.schema != SCHEMA or reader.num_record_batches != 1:
                raise DataError(f"{self.path}: not a shard of a corpus; build the corpus again")
            return reader.get_batch(0)
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{self.path}: not a shard of a corpus ({error}); build the corpus again") from None

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    @cached_property
    def input_ids(self) -> npt.NDArray[np.int32]:
        """Token ids of all documents end to end: [T], memory-mapped."""
        values: npt.NDArray[np.int32] = self._batch.column("input_ids").values.to_numpy()
        return values

    @cached_property
    def sentences(self) -> npt.NDArray[np.int64]:
        """Where each sentence begins in `input_ids`, and where the last one ends: [S + 1]."""
        lengths = self._batch.column("sentence_lengths").values.to_numpy()
        return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    @cached_property
    def documents(self) -> npt.NDArray[np.int64]:
        """Where each document begins in `sentences`, and where the last one ends: [D + 1]."""
        offsets: npt.NDArray[np.int64] = self._batch.column("sentence_lengths").offsets.to_numpy()
        return offsets

    @cached_property
    def sources(self) -> npt.NDArray[np.int16]:
        """The source of each document, as a position in the manifest's list: [D]."""
        sources: npt.NDArray[np.int16] = self._batch.column("source").to_numpy()
        return sources

    @cached_property
    def word_starts(self) -> npt.NDArray[np.bool_] | None:
        """Whether each token begins a word, [T], where a segmenter said so when the corpus was made."""
        column = self._batch.column("word_starts")
        if column.null_count:
            return None
        return np.asarray(column.values.to_numpy(zero_copy_only=False), np.bool_)

    def ids(self) -> list[str]:
        """The documents' names: [D]."""
        return [str(name) for name in self._batch.column("id").to_pylist()]
