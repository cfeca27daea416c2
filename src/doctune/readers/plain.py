"""Plain text for a corpus: prose, or the original's form with a sentence a line. It has no labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from doctune.errors import DataError
from doctune.examples import Example
from doctune.readers.base import plain_name
from doctune.readers.lines import numbered_lines

LONGEST_DOCUMENT = 2**26
"""Characters of prose in one document: more is hardly one, and a document must fit into memory."""


@dataclass(frozen=True)
class SentencesReader:
    """Reads the text form of the original: one sentence a line, a blank line between documents.

    As in the original, only a line feed ends a line, a line of white space ends a document, and the white space
    around a sentence is no part of it. The example's text has its sentences as lines.
    """

    encoding: str = "utf-8"
    labels: tuple[str, ...] | None = None

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield the documents in their order; the id is the number of the document in the file."""
        yield from _between_blank_lines(path, self.encoding, strip=True)


@dataclass(frozen=True)
class PlainReader:
    """Reads prose: the whole file is a document, or what stands between blank lines is one."""

    documents: Literal["file", "blank-lines"] = "file"
    encoding: str = "utf-8"
    labels: tuple[str, ...] | None = None

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield the document or documents; one beyond `LONGEST_DOCUMENT` is a `DataError`."""
        if self.documents == "blank-lines":
            yield from _between_blank_lines(path, self.encoding, strip=False)
            return
        lines: list[str] = []
        size = 0
        for _, line in numbered_lines(path, self.encoding):
            lines.append(line)
            size += _checked(len(line), size, path)
        yield Example(plain_name(path), "".join(lines))


def _between_blank_lines(path: Path, encoding: str, strip: bool) -> Iterator[Example]:
    name, number, size = plain_name(path), 0, 0
    lines: list[str] = []
    for _, line in numbered_lines(path, encoding):
        text = line.strip()
        if text:
            lines.append(text if strip else line.rstrip("\r\n"))
            size += _checked(len(line), size, path)
        elif lines:
            number += 1
            yield Example(f"{name}:{number}", "\n".join(lines))
            lines, size = [], 0
    if lines:
        yield Example(f"{name}:{number + 1}", "\n".join(lines))


def _checked(more: int, size: int, path: Path) -> int:
    if size + more > LONGEST_DOCUMENT:
        raise DataError(
            f"{path}: a document of more than {LONGEST_DOCUMENT:,} characters; are its documents separated by blank "
            f"lines? Then give --format sentences (a sentence a line) or --documents blank-lines (prose)"
        )
    return more
