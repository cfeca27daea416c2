"""TREC questions (Li and Roth 2002): 6 coarse or 50 fine classes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from doctune.errors import DataError
from doctune.examples import Example
from doctune.readers.base import find_file, located, plain_name
from doctune.readers.lines import numbered_lines

COARSE = ("LOC", "NUM", "HUM", "ENTY", "ABBR", "DESC")
"""In the order of the original code."""

_FILES = {"train": "train_5500.label", "test": "TREC_10.label"}
_QUESTION = re.compile(r"(\w+)(?::(\w+))?(?:[ \t](.*))?")


@dataclass(frozen=True)
class TrecReader:
    """Reads `COARSE:fine question`, in latin-1, and `COARSE<TAB>question`, the form that the original code reads.

    A quote is text here, unlike in the original, where it swallows lines.
    """

    fine: bool = False

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The six coarse classes; fine ones ("NUM:dist") are taken from the training data."""
        return None if self.fine else COARSE

    @property
    def _form(self) -> str:
        form = "COARSE:fine question" if self.fine else "COARSE:fine question or COARSE<TAB>question"
        return f"{form}, with COARSE one of {', '.join(COARSE)}"

    def find(self, folder: Path, split: str) -> Path | None:
        """`train_5500.label` or `TREC_10.label`."""
        return find_file(folder, [_FILES[split]]) if split in _FILES else None

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield one question a line; a label that does not exist is a `DataError` with file and line."""
        path = located(self, path, split)
        number = 0
        for line_number, line in numbered_lines(path, "latin-1"):
            line = line.rstrip("\r\n")
            if not line.strip():
                continue
            number += 1
            match = _QUESTION.fullmatch(line)
            if match is None or match[1] not in COARSE or (self.fine and match[2] is None):
                raise DataError(f"{path}:{line_number}: found {line.split()[0][:40]!r}, expected {self._form}")
            label = f"{match[1]}:{match[2]}" if self.fine else match[1]
            yield Example(f"{plain_name(path)}:{number}", match[3] or "", label)


def coarse() -> TrecReader:
    """Six classes."""
    return TrecReader()


def fine() -> TrecReader:
    """Fifty classes."""
    return TrecReader(fine=True)
