"""Parquet files, read in batches."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from doctune.errors import DataError
from doctune.examples import Example
from doctune.files import COMPRESSIONS, open_binary, reading, require_file
from doctune.readers.base import plain_name
from doctune.readers.columns import Columns

_BATCH_ROWS = 1024


@dataclass(frozen=True)
class ParquetReader:
    """Reads Parquet; a compressed file (`.parquet.gz`) is unpacked in memory, since Parquet needs to seek."""

    columns: Columns
    labels: tuple[str, ...] | None = None

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield one example a row; only the columns that are needed are read from the file."""
        try:
            with pq.ParquetFile(_seekable(path)) as file:
                yield from self._examples(file, path)
        except (pa.ArrowInvalid, OSError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"{path}: not a Parquet file, or a damaged one ({reason})") from None

    def _examples(self, file: pq.ParquetFile, path: Path) -> Iterator[Example]:
        names = list(file.schema_arrow.names)
        layout = self.columns.locate(names, str(path))
        places = layout.positions
        values: list[object] = [None] * len(names)
        number = 0
        for batch in file.iter_batches(_BATCH_ROWS, columns=[names[place] for place in places]):
            for row in zip(*(batch.column(names[place]).to_pylist() for place in places), strict=True):
                number += 1
                for place, value in zip(places, row, strict=True):
                    values[place] = value
                yield layout.example(values, f"{path}: row {number}", f"{plain_name(path)}:{number}")


def _seekable(path: Path) -> io.BytesIO | Path:
    if path.suffix not in COMPRESSIONS:
        return require_file(path)
    with reading(path), open_binary(path) as packed:
        return io.BytesIO(packed.read())
