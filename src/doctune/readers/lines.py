"""Lines and whole documents of text files, with damage reported in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from doctune.errors import DataError
from doctune.files import open_text


def numbered_lines(path: Path, encoding: str = "utf-8", newline: str = "\n") -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, line with its end); a NUL byte is a `DataError`.

    Only a line feed ends a line by default: a lone carriage return or U+2028 inside a text must not cut it.
    """
    with open_text(path, encoding, newline) as stream:
        for number, line in enumerate(stream, 1):
            if "\0" in line:
                raise DataError(
                    f"{path}:{number}: holds a NUL byte; the file is damaged or no text, "
                    f"or its encoding is another (--encoding utf-16)"
                )
            yield number, line


def whole_text(path: Path, encoding: str = "utf-8") -> str:
    """The text of a file that is one document."""
    with open_text(path, encoding) as stream:
        return stream.read()
