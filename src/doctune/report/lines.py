"""Lines of plain text and of Markdown: how wide they are, how they are cut, wrapped and escaped."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence

TABLE_WIDTH = 100
TEXT_LENGTH = 300


def columns(text: str) -> int:
    """Columns of a terminal: a Chinese character takes two, a combining accent none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def clipped(text: str, width: int) -> str:
    """The text, cut at its end to so many columns."""
    if columns(text) <= width:
        return text
    while columns(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def padded(text: str, width: int) -> str:
    """The text, filled with spaces to so many columns."""
    return text + " " * (width - columns(text))


def wrapped(text: str) -> list[str]:
    """A sentence in lines of the terminal, the later ones indented."""
    return textwrap.wrap(text, TABLE_WIDTH, subsequent_indent="  ")


def passage(text: str) -> str:
    """About 300 characters of the text, ended between two words where there is one near."""
    flat = " ".join(text[: 8 * TEXT_LENGTH].split())
    if len(flat) <= TEXT_LENGTH:
        return flat
    head = flat[:TEXT_LENGTH]
    return f"{re.sub(r'[ ,;.]+[^ ]{0,20}$', '', head)} …"


def escaped(text: str) -> str:
    """For Markdown, which reads a bar as the end of a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def markdown_table(head: Sequence[str], align: str, rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown; `align` is its second line. The cells of the rows are escaped."""
    return [row_of(head), align, *(row_of([escaped(cell) for cell in row]) for row in rows)]


def row_of(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"
