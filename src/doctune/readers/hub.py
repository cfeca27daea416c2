"""Data sets of the Hugging Face hub, through the optional `datasets` library."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doctune.errors import ConfigError, DataError
from doctune.examples import Example
from doctune.readers.columns import Columns

PREFIX = "hf:"


@dataclass(frozen=True)
class HubReader:
    """Reads `hf:NAME` or `hf:NAME:SPLIT`; class numbers become the names that the data set gives them."""

    columns: Columns
    labels: tuple[str, ...] | None = None

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield one example a row of the split that the path names, or else of `split`."""
        name, own_split = parse(str(path))
        rows = _ask(name, "load_dataset", name, split=own_split or split)
        names = list(rows.column_names)
        layout = self.columns.locate(names, str(path))
        classes = getattr(rows.features[names[layout.label]], "names", None) if layout.label is not None else None
        for number, row in enumerate(rows, 1):
            values = [row[column] for column in names]
            if classes and layout.label is not None and isinstance(values[layout.label], int):
                values[layout.label] = _class_name(values[layout.label], classes, f"{path}: row {number}")
            yield layout.example(values, f"{path}: row {number}", f"{name}:{own_split or split}:{number}")


def parse(path: str) -> tuple[str, str | None]:
    """`hf:NAME:SPLIT` as (NAME, SPLIT or None)."""
    name, _, split = path.removeprefix(PREFIX).partition(":")
    if not name:
        raise ConfigError(f"{path}: no data set named; write hf:NAME or hf:NAME:SPLIT")
    return name, split or None


def split_names(path: str) -> list[str]:
    """The splits that the data set has."""
    name, _ = parse(path)
    return list(_ask(name, "get_dataset_split_names", name))


def _ask(name: str, function: str, *arguments: str, **named: str) -> Any:
    try:
        import datasets  # optional, and slow to import
    except ImportError:
        raise ConfigError(f"{PREFIX}{name}: needs the datasets library: pip install 'doctune[hub]'") from None
    try:
        return getattr(datasets, function)(*arguments, **named)
    except (OSError, ValueError) as error:  # not found, gated, no network, no such split or configuration
        first = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise DataError(f"{PREFIX}{name}: the hub's data set cannot be read: {first}") from None


def _class_name(number: int, classes: list[str], where: str) -> str:
    if 0 <= number < len(classes):
        return classes[number]
    raise DataError(f"{where}: label {number}, expected 0 to {len(classes) - 1}; a hidden label? Name another split")
