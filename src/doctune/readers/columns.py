"""From a row of named or numbered columns to an `Example`; shared by CSV, TSV, JSONL, Parquet and the hub."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from doctune.config import did_you_mean
from doctune.errors import DataError
from doctune.examples import Example
from doctune.settings import Column, DataSettings

ID_COLUMN = "id"


@dataclass(frozen=True)
class Columns:
    """Which columns hold what, as the settings name them; `label` is None where labels are not read."""

    text: tuple[Column, ...] = ("text",)
    label: Column | None = "label"
    text_pair: Column | None = None
    group: Column | None = None
    join: str = " "

    @classmethod
    def of(cls, settings: DataSettings, labelled: bool = True) -> Columns:
        """The columns that the settings name."""
        label = settings.label if labelled else None
        return cls(settings.text, label, settings.text_pair, settings.group, settings.join)

    def locate(self, names: Sequence[str] | int, where: str) -> Layout:
        """Find the columns among `names`, or among so many unnamed ones; a wrong one is a `DataError` at `where`."""

        def find(setting: str, column: Column | None) -> int | None:
            return None if column is None else _position(column, names, f"{where}: data.{setting}")

        return Layout(
            text=tuple(_position(column, names, f"{where}: data.text") for column in self.text),
            label=find("label", self.label),
            text_pair=find("text_pair", self.text_pair),
            group=find("group", self.group),
            id=names.index(ID_COLUMN) if not isinstance(names, int) and ID_COLUMN in names else None,
            join=self.join,
        )


@dataclass(frozen=True, slots=True)
class Layout:
    """The positions of the columns in a row."""

    text: tuple[int, ...]
    label: int | None
    text_pair: int | None
    group: int | None
    id: int | None
    join: str

    @property
    def positions(self) -> list[int]:
        """The positions that are read, ascending."""
        others = (self.label, self.text_pair, self.group, self.id)
        return sorted({*self.text, *(position for position in others if position is not None)})

    def example(self, values: Sequence[object], where: str, row_id: str) -> Example:
        """The example in `values`; `row_id` is its id unless the row has one of its own.

        Empty texts are kept (whoever stores documents counts them); an empty label is a `DataError`.
        """

        def cell(position: int | None) -> str | None:
            return None if position is None else (as_text(values[position], where) or None)

        label = None
        if self.label is not None:
            label = as_text(values[self.label], where).strip()
            if not label:
                raise DataError(f"{where}: the label is empty; give the row a label or leave it out")
        return Example(
            id=cell(self.id) or row_id,
            text=joined([as_text(values[position], where) for position in self.text], self.join),
            label=label,
            text_pair=cell(self.text_pair),
            group=cell(self.group),
        )


def joined(parts: Sequence[str], join: str) -> str:
    """The parts with `join` between them; blank ones are left out, so that no stray separator appears."""
    if len(parts) == 1:
        return parts[0]
    return join.join(part for part in parts if part.strip())


def as_text(value: object, where: str) -> str:
    """A cell as text: nothing and NaN are empty, 3.0 is "3", True is "true"; lists and the like are a `DataError`."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "" if math.isnan(value) else str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, (list, tuple, dict, set, bytes, bytearray)):
        raise DataError(f"{where}: found a {type(value).__name__}, expected a string or a number: {str(value)[:40]}")
    return str(value)


def _position(column: Column, names: Sequence[str] | int, where: str) -> int:
    if isinstance(names, int):
        return _numbered(column, names, where)
    if isinstance(column, str) and column in names:
        if names.count(column) > 1:
            raise DataError(f"{where}: {names.count(column)} columns are called {column!r}; name it by position from 0")
        return names.index(column)
    if (isinstance(column, int) or column.isdigit()) and 0 <= int(column) < len(names):
        return int(column)
    there = ", ".join(name[:40] for name in names[:20]) + (", ..." if len(names) > 20 else "")
    hint = did_you_mean(str(column), names)
    hint = hint if hint.startswith("; did") else ""
    raise DataError(f"{where}: no column {column!r}; the columns are {there}{hint}")


def _numbered(column: Column, width: int, where: str) -> int:
    if (isinstance(column, int) or column.isdigit()) and 0 <= int(column) < width:
        return int(column)
    raise DataError(f"{where}: no column {column!r}; without a header row the columns are 0 to {width - 1}")
