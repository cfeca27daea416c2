"""A shard: whole documents as token ids with their texts and labels, in one memory-mapped Arrow file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from doctune.errors import DataError
from doctune.files import atomic_path

ROWS_PER_CHUNK = 1000
SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("input_ids", pa.large_list(pa.int32())),
        ("pair_ids", pa.large_list(pa.int32())),
    ]
)


def write_shard(path: Path, chunks: Iterable[pa.RecordBatch]) -> None:
    """Write a shard atomically; every chunk but the last must have `ROWS_PER_CHUNK` rows."""
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as sink,
        pa.ipc.new_file(sink, SCHEMA) as writer,
    ):
        for chunk in chunks:
            writer.write_batch(chunk)


class Shard:
    """Documents by row number; nothing is read before it is asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path), "r"))
            self._chunks = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (pa.ArrowInvalid, OSError) as error:
            raise DataError(f"{path}: not a shard of tokenised documents ({error}); remove it and run again") from None
        self._tokens = [(_lists(c.column("input_ids")), _lists(c.column("pair_ids"))) for c in self._chunks]
        self.num_rows = sum(chunk.num_rows for chunk in self._chunks)

    def __len__(self) -> int:
        return int(self.num_rows)

    def tokens(self, row: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32] | None]:
        """Token ids of a document and of its second text, if it has one; without special tokens."""
        chunk, place = divmod(row, ROWS_PER_CHUNK)
        (offsets, values), (pair_offsets, pair_values) = self._tokens[chunk]
        first = values[offsets[place] : offsets[place + 1]]
        second = pair_values[pair_offsets[place] : pair_offsets[place + 1]]
        return first, second if len(second) else None

    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document, [rows, 2]: of its text and of its second text."""
        parts = [np.stack([np.diff(first[0]), np.diff(second[0])], axis=1) for first, second in self._tokens]
        return np.concatenate(parts) if parts else np.zeros((0, 2), np.int64)

    def column(self, name: str) -> list[Any]:
        """One column of all rows as Python values."""
        return [value for chunk in self._chunks for value in chunk.column(name).to_pylist()]

    def has(self, name: str) -> bool:
        """Whether any row has this field."""
        return any(chunk.column(name).null_count < chunk.num_rows for chunk in self._chunks)

    def value(self, name: str, row: int) -> Any:
        """One field of one row."""
        chunk, place = divmod(row, ROWS_PER_CHUNK)
        return self._chunks[chunk].column(name)[place].as_py()

    def values(self, name: str, rows: Iterable[int]) -> Iterator[Any]:
        """One field of several rows."""
        return (self.value(name, int(row)) for row in rows)


def _lists(column: Any) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Offsets and values of a list column, without a copy; a null is an empty list."""
    return column.offsets.to_numpy(), column.values.to_numpy()
