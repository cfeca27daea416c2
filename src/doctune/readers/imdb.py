"""IMDb (Maas et al. 2011): the original `aclImdb` folders, or JSON lines of the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doctune.errors import DataError
from doctune.examples import Example
from doctune.readers.base import find_file, located, plain_name
from doctune.readers.folders import documents
from doctune.readers.jsonl import records
from doctune.readers.lines import whole_text

_LABELS = ("neg", "pos")
_TITLE = re.compile(r"/title/(tt\d+)")


@dataclass(frozen=True)
class ImdbReader:
    """Reads IMDb reviews, `<br />` marks included; the film is the group where it is known.

    The split "unsup" gives the 50,000 reviews without labels, which no other split contains.
    """

    labels: tuple[str, ...] = _LABELS

    def find(self, folder: Path, split: str) -> Path | None:
        """`folder/SPLIT` with its class folders, or `SPLIT.jsonl`; also below `aclImdb`."""
        for root in (folder, folder / "aclImdb"):
            classes = root / "train" / "unsup" if split == "unsup" else root / split
            if classes.is_dir():
                return classes
        return folder if (folder / "neg").is_dir() else find_file(folder, [f"{split}.jsonl"])

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield all of class neg, then all of class pos (folders), or the order of the file (JSON lines)."""
        found = located(self, path, split)
        if found.is_file() or not found.exists():
            yield from _from_records(found, labelled=split != "unsup")
        elif split == "unsup":
            yield from _from_folder(found, None)
        else:
            for label in self.labels:
                if not (found / label).is_dir():
                    raise DataError(f"{found}: no folder {label!r}; the original has {', '.join(self.labels)}")
                yield from _from_folder(found / label, label)


def _from_folder(folder: Path, label: str | None) -> Iterator[Example]:
    titles = _titles(folder.parent / f"urls_{folder.name}.txt")
    for file in documents(folder):
        name = plain_name(file).removesuffix(".txt")
        number = name.partition("_")[0]
        group = titles[int(number)] if number.isdigit() and int(number) < len(titles) else None
        yield Example(f"{folder.parent.name}/{folder.name}/{name}", whole_text(file), label, group=group)


def _titles(urls: Path) -> list[str | None]:
    """Line i of the URL list belongs to the reviews numbered i."""
    if not urls.is_file():
        return []
    return [match[1] if (match := _TITLE.search(line)) else None for line in whole_text(urls).splitlines()]


def _from_records(path: Path, labelled: bool) -> Iterator[Example]:
    for number, (line, record) in enumerate(records(path), 1):
        where = f"{path}:{line}"
        text, movie = record.get("text"), record.get("movie")
        if not isinstance(text, str):
            raise DataError(
                f"{where}: no text; expected the keys id, label (0 or 1), movie, text, found {', '.join(record)}"
            )
        label = _label(record.get("label"), where) if labelled else None
        row_id = str(record.get("id") or f"{plain_name(path)}:{number}")
        yield Example(row_id, text, label, group=str(movie) if movie else None)


def _label(value: Any, where: str) -> str:
    if value in _LABELS:
        return str(value)
    if value in (0, 1) or value in ("0", "1"):
        return _LABELS[int(value)]
    raise DataError(f"{where}: label {value!r}, expected 0 (neg) or 1 (pos)")
