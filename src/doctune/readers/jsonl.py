"""JSON lines: one object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doctune.errors import DataError
from doctune.examples import Example
from doctune.readers.base import plain_name
from doctune.readers.columns import Columns, Layout
from doctune.readers.lines import numbered_lines


@dataclass(frozen=True)
class JsonLinesReader:
    """Reads JSON lines; every object must have the columns that the settings name."""

    columns: Columns
    encoding: str = "utf-8"
    labels: tuple[str, ...] | None = None

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield one example a line; blank lines are skipped."""
        name = plain_name(path)
        layout: Layout | None = None
        keys: tuple[str, ...] = ()
        for number, (line, record) in enumerate(records(path, self.encoding), 1):
            where = f"{path}:{line}"
            if layout is None or tuple(record) != keys:
                keys = tuple(record)
                layout = self.columns.locate(keys, where)
            yield layout.example(list(record.values()), where, f"{name}:{number}")


def records(path: Path, encoding: str = "utf-8") -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object); a line that is no JSON object is a `DataError`.

    Half of a surrogate pair (a cut emoji, `"\\ud83d"`) is no text; it becomes U+FFFD, as decoders have it.
    """
    for number, line in numbered_lines(path, encoding):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            hint = "; a JSON array? Write one object a line" if line.lstrip()[0] in "[]" else ""
            raise DataError(f"{path}:{number}: not a line of JSON: {error}{hint}") from None
        if not isinstance(record, dict):
            raise DataError(f"{path}:{number}: found a JSON {type(record).__name__}, expected one object a line")
        if "\\ud" in line or "\\uD" in line:
            record = {key: _whole(value) for key, value in record.items()}
        yield number, record


def _whole(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
