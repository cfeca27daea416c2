"""CSV and TSV files, with or without a header row."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from doctune.errors import DataError
from doctune.examples import Example
from doctune.readers.base import plain_name
from doctune.readers.columns import Columns
from doctune.readers.lines import numbered_lines

Row = tuple[int, list[str]]
"""The line where the row begins, and its fields."""

_LARGEST_FIELD = 2**31 - 1
_TSV_FIELD = re.compile(r'("(?:[^"]|"")*"(?=\t|\Z)|[^\t]*)(?:\t|\Z)')


@dataclass(frozen=True)
class DelimitedReader:
    """Reads CSV or TSV; every row must have as many fields as the header, or as the first row without one."""

    columns: Columns
    kind: Literal["csv", "tsv"] = "csv"
    header: bool = True
    encoding: str = "utf-8"
    labels: tuple[str, ...] | None = None

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield one example a row; a ragged row or a wrong column is a `DataError` with file and line."""
        rows = csv_rows(path, self.encoding) if self.kind == "csv" else tsv_rows(path, self.encoding)
        first = next(rows, None)
        if first is None:
            raise DataError(f"{path}: the file is empty")
        line, fields = first
        width = len(fields)
        if self.header:
            layout = self.columns.locate([name.strip() for name in fields], f"{path}:{line}")
        else:
            layout = self.columns.locate(width, f"{path}:{line}")
            rows = _before(first, rows)
        name = plain_name(path)
        for number, (line, fields) in enumerate(_filled(rows, width), 1):
            where = f"{path}:{line}"
            if len(fields) != width:
                raise ragged(where, len(fields), width, self.kind)
            yield layout.example(fields, where, f"{name}:{number}")


def csv_rows(path: Path, encoding: str = "utf-8") -> Iterator[Row]:
    """Yield the rows of a CSV file; a blank line is a row without fields.

    A field in double quotes may hold commas, line breaks and doubled quotes. Any other quote inside such a field,
    and a quote that is never closed, is a `DataError` naming the line where the row begins.
    """
    csv.field_size_limit(_LARGEST_FIELD)  # the default of 128 KiB is less than a long document
    rows = csv.reader((line for _, line in numbered_lines(path, encoding, newline="")), strict=True)
    while True:
        begin = rows.line_num + 1
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{path}:{begin}: the row that begins here is not CSV ({error}); "
                f"write a quote inside a quoted field twice, and close every field that opens with one"
            ) from None
        yield begin, fields


def tsv_rows(path: Path, encoding: str = "utf-8") -> Iterator[Row]:
    """Yield the rows of a TSV file: one line is one row, and a quote is text.

    Texts that begin with a quote are common in TSV files, and quoting as in CSV would let them swallow the
    lines that follow. So only a field that is quoted as a whole, with every inner quote doubled, is unquoted (as
    spreadsheets and pandas write it); a line break inside a field is not possible: use CSV or JSONL for that.
    """
    for number, line in numbered_lines(path, encoding):
        line = line.rstrip("\r\n")
        yield number, _split_tsv(line) if line else []


def ragged(where: str, found: int, expected: int, kind: str) -> DataError:
    """The error for a row with too many or too few fields."""
    cause = (
        "a field with a comma needs double quotes around it"
        if kind == "csv"
        else "a TSV field cannot hold a line break (use CSV or JSONL for that)"
    )
    return DataError(f"{where}: {found} {'field' if found == 1 else 'fields'}, expected {expected}; {cause}")


def _split_tsv(line: str) -> list[str]:
    if '"' not in line:
        return line.split("\t")
    fields = []
    position = 0
    while position <= len(line):
        match = _TSV_FIELD.match(line, position)
        assert match is not None  # the second alternative matches anything, also nothing
        field = match[1]
        quoted = len(field) > 1 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace('""', "")
        fields.append(field[1:-1].replace('""', '"') if quoted else field)
        position = match.end() + (match.end() == len(line) and not match[0].endswith("\t"))
    return fields


def _before(first: Row, rows: Iterator[Row]) -> Iterator[Row]:
    yield first
    yield from rows


def _filled(rows: Iterator[Row], width: int) -> Iterator[Row]:
    """Skip blank lines, except where a row is a single field: there a blank line is an empty text."""
    for line, fields in rows:
        if fields:
            yield line, fields
        elif width == 1:
            yield line, [""]
