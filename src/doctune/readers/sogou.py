"""Sogou News from the raw SogouCS files, with the class from the address's host.

The paper only says that the class comes from the URL, that there are six, and that 9,000 training and 1,000 test texts
of each were chosen. The hosts, the text (title, a space, content) and the choice (by a hash of the text) are ours.
"""

from __future__ import annotations

import hashlib
import heapq
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from doctune.errors import DataError
from doctune.examples import Example
from doctune.files import open_binary, reading, stem
from doctune.readers.base import contents, no_such_split
from doctune.readers.columns import joined

HOSTS = {
    "sports": "sports.sohu.com",
    "house": "house.sohu.com",
    "business": "business.sohu.com",
    "entertainment": "yule.sohu.com",
    "women": "women.sohu.com",
    "technology": "it.sohu.com",
}
_SUFFIXES = (".dat", ".txt", ".xml")
_MARK = re.compile(r"(</?doc>)")


@dataclass(frozen=True, slots=True)
class Document:
    """What stands in one `<doc>`; an element that is missing or never ends is None."""

    url: str | None
    docno: str | None
    title: str | None
    content: str | None

    @property
    def label(self) -> str | None:
        """The class whose host is the URL's or is above it; None for other channels, or if the content never ends."""
        if self.content is None:
            return None
        try:
            host = urlsplit(self.url or "").hostname or ""
        except ValueError:  # for instance a "[" in the host
            return None
        return next((name for name, site in HOSTS.items() if host == site or host.endswith(f".{site}")), None)

    @property
    def text(self) -> str:
        """Title and content."""
        return joined([self.title or "", self.content or ""], " ")


@dataclass(frozen=True)
class SogouReader:
    """Reads `<doc>` elements in GB18030 and picks the same texts of each class for train and test every time.

    The texts of a class are ordered by a hash of the text: the first `test_per_class` are test, the next
    `train_per_class` train, so no text is on both sides, and a repeated text counts once. Where a class has fewer
    texts, they are divided in the same proportion. Memory holds hashes only; every read passes over the files twice.
    """

    train_per_class: int = 9000
    test_per_class: int = 1000
    labels: tuple[str, ...] = tuple(HOSTS)

    def find(self, folder: Path, split: str) -> Path | None:
        """The folder itself, for both splits."""
        return folder if split in ("train", "test") else None

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield the split's texts in the order of the files; bytes that are not GB18030 become U+FFFD."""
        if split not in ("train", "test"):
            raise no_such_split(path, split, ("train", "test"))
        wanted = self._chosen(path, split)
        for row_id, label, document in _used(path):
            key = (label, _hash(document.text))
            if key in wanted:
                wanted.remove(key)
                yield Example(row_id, document.text, label)

    def _chosen(self, path: Path, split: str) -> set[tuple[str, int]]:
        size = self.train_per_class + self.test_per_class
        lowest = {label: _Lowest(size) for label in self.labels}
        for _, label, document in _used(path):
            lowest[label].add(_hash(document.text))
        if not any(lowest[label].kept for label in self.labels):
            raise DataError(f"{path}: no <doc> of {', '.join(HOSTS.values())} with a content here")
        chosen: set[tuple[str, int]] = set()
        for label, hashes in lowest.items():
            ordered = sorted(hashes.kept)
            count = round(len(ordered) * self.test_per_class / size)
            if count == 0 and len(ordered) > 1 and self.test_per_class:
                count = 1
            chosen.update((label, value) for value in (ordered[:count] if split == "test" else ordered[count:]))
        return chosen


class _Lowest:
    """The `size` lowest distinct values of many."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.kept: set[int] = set()
        self._heap: list[int] = []

    def add(self, value: int) -> None:
        if value in self.kept:
            return
        if len(self._heap) < self.size:
            heapq.heappush(self._heap, -value)
        elif value < -self._heap[0]:
            self.kept.remove(-heapq.heapreplace(self._heap, -value))
        else:
            return
        self.kept.add(value)


def sogou_files(path: Path) -> list[Path]:
    """The raw files: the path itself, or those of a folder that end in .dat, .txt or .xml, sorted."""
    if not path.is_dir():
        return [path]
    files = sorted(file for file in path.iterdir() if file.is_file() and stem(file)[1] in _SUFFIXES)
    if not files:
        raise DataError(f"{path}: no raw SogouCS files ({', '.join(_SUFFIXES)}) here{contents(path)}")
    return files


def sogou_documents(path: Path) -> Iterator[Document]:
    """Yield every `<doc>` of a file, unusable ones too; one that never ends does not swallow the next."""
    body: list[str] | None = None
    with (
        reading(path),
        open_binary(path) as binary,
        io.TextIOWrapper(binary, encoding="gb18030", errors="replace") as lines,
    ):
        for line in lines:
            for part in _MARK.split(line):
                if part in ("<doc>", "</doc>"):
                    if body is not None:
                        yield _document("".join(body))
                    body = [] if part == "<doc>" else None
                elif body is not None:
                    body.append(part)
    if body is not None:
        yield _document("".join(body))


def _used(path: Path) -> Iterator[tuple[str, str, Document]]:
    """Documents that have a class and a content, with an id."""
    for file in sogou_files(path):
        for number, document in enumerate(sogou_documents(file), 1):
            if document.content and (label := document.label) is not None:
                yield document.docno or f"{file.name}:{number}", label, document


def _document(body: str) -> Document:
    def element(name: str) -> str | None:
        match = re.search(rf"<{name}>(.*?)</{name}>", body, re.DOTALL)
        return match[1].strip() if match else None

    return Document(element("url"), element("docno"), element("contenttitle"), element("content"))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
