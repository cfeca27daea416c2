"""What a reader is, and a source: a reader with the path and the split that it reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from doctune.errors import DataError
from doctune.examples import Example
from doctune.files import COMPRESSIONS


class Reader(Protocol):
    """Turns one file or folder into examples; a data set of your own is a class with these two.

    `labels` is the known order of the classes, or None: then it is taken from the training data.
    """

    @property
    def labels(self) -> tuple[str, ...] | None: ...

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield the examples of `split` ("train", "validation" or "test") found at `path`."""
        ...


@runtime_checkable
class Finder(Protocol):
    """A reader that knows which file of a data folder holds a split (optional)."""

    def find(self, folder: Path, split: str) -> Path | None:
        """The file or folder of `split`, or None if `folder` has no such split."""
        ...


@dataclass(frozen=True)
class Source:
    """Documents that can be read, again and again: a path, a split of it, and the reader."""

    path: Path | str
    split: str
    reader: Reader
    labelled: bool = True

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The known order of the classes, or None."""
        return self.reader.labels

    @property
    def name(self) -> str:
        """The path, as messages show it."""
        return str(self.path)

    def read(self) -> Iterator[Example]:
        """Yield the examples in their order; without labels if the source is not `labelled`."""
        for example in self.reader.read(Path(self.path), self.split):
            yield example if self.labelled or example.label is None else dataclasses.replace(example, label=None)


def plain_name(path: Path) -> str:
    """The file's name without `.gz` or `.xz`, so that compressing a file changes no example id."""
    return path.name.removesuffix(path.suffix) if path.suffix in COMPRESSIONS else path.name


def find_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of `names` that lies in `folder`, plain or compressed."""
    candidates = (folder / f"{name}{compression}" for name in names for compression in ("", *COMPRESSIONS))
    return next((path for path in candidates if path.is_file()), None)


def located(finder: Finder, path: Path, split: str) -> Path:
    """`path` itself unless it is a folder, then the file of `split` inside it."""
    if not path.is_dir():
        return path
    found = finder.find(path, split)
    if found is None:
        raise DataError(f"{path}: no original file of the {split} split here{contents(path)}; name the file itself")
    return found


def contents(folder: Path) -> str:
    """`"; it holds a, b"` for messages."""
    names = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    return f"; it holds {', '.join(names[:8])}{', ...' if len(names) > 8 else ''}" if names else "; it is empty"


def no_such_split(path: Path, split: str, allowed: Sequence[str]) -> DataError:
    """The error of a reader that is asked for a split that its data do not have."""
    return DataError(f"{path}: no split {split!r}; there is {', '.join(allowed)}")
