"""The CSV data sets of Zhang et al. 2015: AG's News, Yelp polarity and full, Yahoo! Answers, DBPedia.

Rows are headerless: the number of the class from 1, then texts. What becomes of them follows the code of
Sun et al. 2019 (backslash and `n` stay two characters, entities stay), except that a text that reads "None" or "NA"
stays what it is and an empty field stays empty.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from doctune.errors import DataError
from doctune.examples import Example
from doctune.readers.base import find_file, located, plain_name
from doctune.readers.columns import joined
from doctune.readers.delimited import csv_rows, ragged


@dataclass(frozen=True)
class ZhangReader:
    """Reads headerless rows of `width` fields whose first is the class's number, counted from `first_label`."""

    labels: tuple[str, ...]
    width: int
    text: tuple[int, ...]
    join: str = " "
    text_pair: int | None = None
    first_label: int = 1

    def find(self, folder: Path, split: str) -> Path | None:
        """`train.csv` or `test.csv`."""
        return find_file(folder, [f"{split}.csv"])

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield one example a row; a wrong class number or number of fields is a `DataError` with file and line."""
        path = located(self, path, split)
        name = plain_name(path)
        rows = ((line, fields) for line, fields in csv_rows(path) if fields)
        for number, (line, fields) in enumerate(rows, 1):
            where = f"{path}:{line}"
            if len(fields) != self.width:
                raise ragged(where, len(fields), self.width, "csv")
            text = joined([fields[column] for column in self.text], self.join)
            pair = fields[self.text_pair] or None if self.text_pair is not None else None
            yield Example(f"{name}:{number}", text, self._label(fields[0], where), pair)

    def _label(self, field: str, where: str) -> str:
        text = field.strip()
        if text.isdecimal() and 0 <= int(text) - self.first_label < len(self.labels):
            return self.labels[int(text) - self.first_label]
        last = self.first_label + len(self.labels) - 1
        raise DataError(f"{where}: class {text[:40]!r}, expected a number from {self.first_label} to {last}")


def ag_news() -> ZhangReader:
    """Title " - " description."""
    return ZhangReader(("World", "Sports", "Business", "Sci/Tech"), width=3, text=(1, 2), join=" - ")


def yelp_polarity() -> ZhangReader:
    """One text; 1 is negative."""
    return ZhangReader(("negative", "positive"), width=2, text=(1,))


def yelp_full() -> ZhangReader:
    """One text; the class is the number of stars."""
    return ZhangReader(("1", "2", "3", "4", "5"), width=2, text=(1,))


def yahoo_answers() -> ZhangReader:
    """Title and question are the first text, the best answer is the second."""
    labels = (
        "Society & Culture",
        "Science & Mathematics",
        "Health",
        "Education & Reference",
        "Computers & Internet",
        "Sports",
        "Business & Finance",
        "Entertainment & Music",
        "Family & Relationships",
        "Politics & Government",
    )
    return ZhangReader(labels, width=4, text=(1, 2), text_pair=3)


def dbpedia() -> ZhangReader:
    """Title and description: the files' descriptions begin with a space, so there are two, as in the original."""
    labels = (
        "Company",
        "EducationalInstitution",
        "Artist",
        "Athlete",
        "OfficeHolder",
        "MeanOfTransportation",
        "Building",
        "NaturalPlace",
        "Village",
        "Animal",
        "Plant",
        "Album",
        "Film",
        "WrittenWork",
    )
    return ZhangReader(labels, width=3, text=(1, 2))
