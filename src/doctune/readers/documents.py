"""From the sources of a corpus to documents: any reader, labels left aside, one text each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from doctune.config import did_you_mean
from doctune.errors import ConfigError, DataError
from doctune.examples import Example
from doctune.files import require_file, stem
from doctune.readers.base import Finder, Reader, contents
from doctune.readers.columns import Columns
from doctune.readers.datasets import DATASETS, dataset_reader, known_name
from doctune.readers.delimited import DelimitedReader
from doctune.readers.hub import PREFIX, HubReader, parse
from doctune.readers.jsonl import JsonLinesReader
from doctune.readers.parquet import ParquetReader
from doctune.readers.plain import PlainReader, SentencesReader
from doctune.readers.pydocs import INSTALLED
from doctune.readers.sources import FORMATS
from doctune.readers.zhang import ZhangReader
from doctune.settings import ReadingSettings

PARAGRAPH = "\n\n"
_DATASET = re.compile(r"(?P<name>[^:]*\.py:\w+|[\w-]+):(?P<folder>.*?)(:(?P<splits>[\w.-]+(\+[\w.-]+)*))?")


@dataclass(frozen=True)
class Opened:
    """One file, or one split of a data set, with its reader; `split_already`: each line of a text is a sentence."""

    path: str
    split: str
    reader: Reader
    split_already: bool = False

    @property
    def bytes(self) -> int | None:
        """Size of the file on the disk, or None where there is no single file."""
        path = Path(self.path)
        return path.stat().st_size if path.is_file() else None

    def read(self) -> Iterator[Example]:
        """Yield the documents; the second text of a pair is one more paragraph."""
        for example in self.reader.read(Path(self.path), self.split):
            if example.text_pair:
                text = f"{example.text}{PARAGRAPH}{example.text_pair}"
                example = dataclasses.replace(example, text=text, text_pair=None)
            yield example


def open_documents(path: str, reading: ReadingSettings) -> list[Opened]:
    """The parts of a source in the order in which they are read; names of files decide it, not the disk."""
    if path.startswith(PREFIX):
        parse(path)
        return [Opened(path, "train", HubReader(_columns(reading)))]
    known = None if Path(path).exists() else _DATASET.fullmatch(path)
    if known and (".py:" in known["name"] or known_name(known["name"])):
        return _of_dataset(known["name"], known["folder"], (known["splits"] or "train").split("+"))
    if known and not Path(path).exists():
        raise ConfigError(
            f"{path}: no such file, and no data set {known['name']!r}{did_you_mean(known['name'], DATASETS)}"
        )
    place = Path(path)
    if place.is_dir():
        return _of_folder(place, reading)
    require_file(place)
    return [_of_file(place, reading)]


def _of_dataset(name: str, folder: str, splits: list[str]) -> list[Opened]:
    reader = dataset_reader(name)
    if isinstance(reader, ZhangReader):
        # A title is a sentence of its own, as in the original's corpus.
        reader = dataclasses.replace(reader, join=PARAGRAPH)
    place = Path(folder)
    if folder != INSTALLED and not place.is_dir():
        require_file(place)
    parts = []
    for split in splits:
        found = reader.find(place, split) if isinstance(reader, Finder) and not place.is_file() else place
        if found is None:
            raise DataError(f"{folder}: no {split} split of {name} here{contents(place)}; name the file itself")
        parts.append(Opened(str(found), split, reader))
    return parts


def _of_folder(folder: Path, reading: ReadingSettings) -> list[Opened]:
    """Every file below the folder that is not hidden: tables by their format, all others as text."""
    files = sorted(
        p for p in folder.rglob("*") if not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )
    files = [file for file in files if file.is_file()]
    if not files:
        raise DataError(f"{folder}: no files in this folder; name one with documents")
    if reading.format == "folder":
        reading = reading.model_copy(update={"format": "plain"})
    return [_of_file(file, reading, text=True, root=folder) for file in files]


def _of_file(path: Path, reading: ReadingSettings, text: bool = False, root: Path | None = None) -> Opened:
    columns = _columns(reading)
    kind: str = reading.format
    if kind == "auto":
        suffix = stem(path)[1]
        kind = {**FORMATS, ".txt": "plain", ".text": "plain"}.get(suffix, "plain" if text else "auto")
        if kind == "auto":
            raise DataError(
                f"{path}: no known format {suffix!r}, known are {', '.join([*FORMATS, '.txt'])}; "
                f"name it with --format, plain or sentences for text"
            )
    reader: Reader
    match kind:
        case "csv" | "tsv":
            reader = DelimitedReader(columns, "csv" if kind == "csv" else "tsv", reading.header, reading.encoding)
        case "jsonl":
            reader = JsonLinesReader(columns, reading.encoding)
        case "parquet":
            reader = ParquetReader(columns)
        case "sentences":
            reader = SentencesReader(reading.encoding)
        case "folder":
            raise ConfigError(f"reading.format: {path} is a file, not a folder; leave --format out")
        case _:
            reader = PlainReader(reading.documents, reading.encoding)
    return Opened(str(path), "train", reader, kind == "sentences")


def _columns(reading: ReadingSettings) -> Columns:
    return Columns(reading.text, None, reading.text_pair, None, PARAGRAPH)
