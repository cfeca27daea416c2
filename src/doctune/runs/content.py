"""What files and encoders hold, as short hashes: a run is known by its content, not by where that lies."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from pathlib import Path
from typing import Any

from doctune.files import content_hash
from doctune.readers import Source
from doctune.readers.pydocs import INSTALLED, PACKAGES
from doctune.text.tokenizer import TextTokenizer

LENGTH = 16


def key_of(*parts: Any) -> str:
    """A short hash of values that JSON can hold."""
    return content_hash(json.dumps(parts, sort_keys=True, ensure_ascii=False))[:LENGTH]


def source_content(source: Source) -> str:
    """The content of a source of documents; of a large folder the names, sizes and times of its files."""
    path = Path(source.path)
    if str(path) == INSTALLED:
        return key_of({name: _version(name) for name in PACKAGES})
    if path.is_file():
        return file_content(path)
    if path.is_dir():
        return folder_listing(path)
    return str(source.path)


def path_content(path: str) -> str:
    """The content of a file or a folder; another kind of source (a hub's data set) is known by its name."""
    place = Path(path)
    return file_content(place) if place.is_file() else folder_listing(place) if place.is_dir() else path


def file_content(path: Path) -> str:
    """The hash of a file."""
    stat = path.stat()
    return _file_content(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _file_content(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:LENGTH]


def folder_listing(folder: Path) -> str:
    """The hash of the names, sizes and times of all files of a folder."""
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return key_of([(str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns) for p in found])


def encoder_content(folder: Path) -> str:
    """The hash of an encoder's weights, config and tokenizer."""
    weights = [file_content(path) for path in sorted(folder.glob("*.safetensors"))]
    return key_of(weights, file_content(folder / "config.json"), TextTokenizer.load(folder).hash)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
