"""Folders: one folder per class, one text file per document."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from doctune.errors import DataError
from doctune.examples import Example
from doctune.files import require_file
from doctune.readers.base import contents, plain_name
from doctune.readers.lines import whole_text


@dataclass(frozen=True)
class FolderReader:
    """Reads `CLASS/DOCUMENT` files, also `.gz` and `.xz`.

    Hidden files, and files beside the class folders, are no documents.
    Not labelled: every file below the folder is a document.
    """

    labelled: bool = True
    encoding: str = "utf-8"
    labels: tuple[str, ...] | None = None

    def read(self, path: Path, split: str) -> Iterator[Example]:
        """Yield the documents, sorted by class and file name; the id is the path below the folder."""
        if not path.is_dir():
            require_file(path)
            raise DataError(f"{path}: is a file, a folder with one folder per class was expected")
        if not self.labelled:
            for file in sorted(file for file in path.rglob("*") if file.is_file() and _visible(file, path)):
                yield Example(_id(file, path), whole_text(file, self.encoding))
            return
        classes = sorted(entry for entry in path.iterdir() if entry.is_dir() and _visible(entry, path))
        if not classes:
            raise DataError(f"{path}: no class folders{contents(path)}; put each class's files in a folder of its own")
        for folder in classes:
            for file in documents(folder):
                yield Example(_id(file, path), whole_text(file, self.encoding), folder.name.strip())


def documents(folder: Path) -> list[Path]:
    """The files of a class, sorted by name; no file at all, or a folder among them, is a `DataError`."""
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    inner = next((entry for entry in entries if entry.is_dir()), None)
    if inner is not None:
        raise DataError(
            f"{inner}: a folder inside the class folder {folder.name!r}; name the folder right above the classes"
        )
    if not entries:
        raise DataError(f"{folder}: a class folder without files; fill it or remove it")
    return entries


def _visible(path: Path, root: Path) -> bool:
    return not any(part.startswith(".") for part in path.relative_to(root).parts)


def _id(file: Path, root: Path) -> str:
    return (file.parent.relative_to(root) / plain_name(file)).as_posix()
