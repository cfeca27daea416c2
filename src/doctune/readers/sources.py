"""From the data settings to the sources that are read."""

from __future__ import annotations

from pathlib import Path

from doctune.errors import ConfigError, DataError
from doctune.files import require_file, stem
from doctune.readers.base import Finder, Reader, Source, contents
from doctune.readers.columns import Columns
from doctune.readers.datasets import DATASETS, dataset_reader, known_name
from doctune.readers.delimited import DelimitedReader
from doctune.readers.folders import FolderReader
from doctune.readers.hub import PREFIX, HubReader, parse, split_names
from doctune.readers.jsonl import JsonLinesReader
from doctune.readers.parquet import ParquetReader
from doctune.readers.pydocs import INSTALLED
from doctune.settings import DataSettings

SPLITS = ("train", "validation", "test")
FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
"""File name endings (before .gz or .xz) and the formats that they stand for."""


def sources(settings: DataSettings) -> dict[str, Source]:
    """The sources of a run: "train", and "validation" and "test" where they are given or found.

    A path given for a split wins over what is found for it in the data folder or on the hub.
    """
    found: dict[str, Source] = {}
    for split, path in zip(SPLITS, (settings.train, settings.validation, settings.test), strict=True):
        source = open_source(path, settings, split) if path is not None else _found(settings, split)
        if source is not None:
            found[split] = source
    if "train" not in found:
        raise ConfigError("data.train: no training data; give --train FILE, or --dataset NAME --data FOLDER")
    return found


def open_source(path: str, settings: DataSettings, split: str, labelled: bool = True) -> Source:
    """The source of one file or folder; not `labelled`: the label column may be missing and labels are None."""
    on_hub = path.startswith(PREFIX)
    if settings.dataset is not None:
        if on_hub:
            raise ConfigError(
                f"data.{split}: {path} cannot be read by data.dataset = {settings.dataset!r}; leave one out"
            )
        reader = dataset_reader(settings.dataset)
        if known_name(settings.dataset) and path != INSTALLED:
            _require(Path(path))
        return Source(Path(path), split, reader, labelled)
    if on_hub:
        parse(path)
        return Source(path, split, HubReader(Columns.of(settings, labelled)), labelled)
    _require(Path(path))
    return Source(Path(path), split, _file_reader(Path(path), settings, labelled), labelled)


def _file_reader(path: Path, settings: DataSettings, labelled: bool) -> Reader:
    """The reader of a file in one of our own formats."""
    columns = Columns.of(settings, labelled)
    match _format(path, settings):
        case "csv":
            return DelimitedReader(columns, "csv", settings.header, settings.encoding)
        case "tsv":
            return DelimitedReader(columns, "tsv", settings.header, settings.encoding)
        case "jsonl":
            return JsonLinesReader(columns, settings.encoding)
        case "parquet":
            return ParquetReader(columns)
        case _:
            return FolderReader(labelled, settings.encoding)


def _format(path: Path, settings: DataSettings) -> str:
    if settings.format != "auto":
        return settings.format
    if path.is_dir():
        return "folder"
    suffix = stem(path)[1]
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise DataError(
            f"{path}: no known format {suffix!r}, known are {known}; name it with --format (text<TAB>label is tsv), "
            f"or a known data set with --dataset"
        )
    return FORMATS[suffix]


def _require(path: Path) -> None:
    if not path.is_dir():
        require_file(path)


def _found(settings: DataSettings, split: str) -> Source | None:
    """What there is for a split that no path was given for."""
    if settings.dataset is None:
        return _found_on_hub(settings.train, settings, split)
    data = settings.data
    if data is None and settings.train is None and known_name(settings.dataset) == "pydocs":
        data = INSTALLED
    return None if data is None else _found_in_folder(Path(data), settings.dataset, split)


def _found_in_folder(folder: Path, dataset: str, split: str) -> Source | None:
    reader = dataset_reader(dataset)
    if not isinstance(reader, Finder):  # a reader of one's own without `find`: other splits need a path
        return Source(folder, split, reader) if split == "train" else None
    known = known_name(dataset)
    if not folder.is_dir() and not (known == "pydocs" and str(folder) == INSTALLED):
        require_file(folder)
        raise DataError(f"{folder}: is a file, --data needs a folder; name a file with --train")
    place = reader.find(folder, split)
    if place is None and split == "train":
        files = f" ({DATASETS[known].files})" if known else ""
        raise DataError(
            f"{folder}: no training data of {dataset}{files} here{contents(folder)}; name a file with --train"
        )
    return None if place is None else Source(place, split, reader)


def _found_on_hub(train: str | None, settings: DataSettings, split: str) -> Source | None:
    """The split of that name of the hub's data set, unless it is the one that is trained on."""
    if train is None or not train.startswith(PREFIX):
        return None
    name, train_split = parse(train)
    if split == train_split or split not in split_names(train):
        return None
    return open_source(f"{PREFIX}{name}:{split}", settings, split)
