"""The list of known data sets, and readers of one's own in a file."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from doctune.config import did_you_mean
from doctune.errors import ConfigError
from doctune.own_code import is_place, load_class
from doctune.readers.base import Reader


@dataclass(frozen=True)
class Dataset:
    """A known data set: what it is, its files, and `module:factory` of its reader (imported when it is used)."""

    description: str
    files: str
    factory: str


_CSV = "train.csv and test.csv"
_TREC = "train_5500.label and TREC_10.label"

DATASETS = {
    "imdb": Dataset(
        "film reviews, 2 classes", "aclImdb/, or train.jsonl and test.jsonl", "doctune.readers.imdb:ImdbReader"
    ),
    "trec": Dataset("questions, 6 coarse classes", _TREC, "doctune.readers.trec:coarse"),
    "trec-fine": Dataset("questions, 50 fine classes", _TREC, "doctune.readers.trec:fine"),
    "ag_news": Dataset("AG's News, 4 classes", _CSV, "doctune.readers.zhang:ag_news"),
    "yelp_polarity": Dataset("Yelp reviews, 2 classes", _CSV, "doctune.readers.zhang:yelp_polarity"),
    "yelp_full": Dataset("Yelp reviews, 5 classes (stars)", _CSV, "doctune.readers.zhang:yelp_full"),
    "yahoo_answers": Dataset("Yahoo! questions and answers, 10 classes", _CSV, "doctune.readers.zhang:yahoo_answers"),
    "dbpedia": Dataset("DBPedia abstracts, 14 classes", _CSV, "doctune.readers.zhang:dbpedia"),
    "sogou": Dataset("Chinese news, 6 classes", "raw SogouCS files in GB18030", "doctune.readers.sogou:SogouReader"),
    "pydocs": Dataset("docstrings of installed libraries, 6 classes", "none", "doctune.readers.pydocs:PyDocsReader"),
}
"""Names that the setting `data.dataset` accepts; `-` and `_` are the same there."""


def known_name(name: str) -> str | None:
    """The name as `DATASETS` has it, or None."""
    return {key.replace("-", "_"): key for key in DATASETS}.get(name.lower().replace("-", "_"))


def dataset_reader(name: str) -> Reader:
    """The reader of a known data set, or of `my_file.py:MyReader`."""
    if is_place(name):
        return _own_reader(name)
    key = known_name(name)
    if key is None:
        hint = did_you_mean(name, DATASETS)
        own = "" if hint.endswith("?") else ", or my_file.py:MyReader"
        raise ConfigError(f"data.dataset: no data set {name!r}{hint}{own}")
    module, _, factory = DATASETS[key].factory.partition(":")
    make = cast(Callable[[], Reader], getattr(importlib.import_module(module), factory))
    return make()


def _own_reader(name: str) -> Reader:
    """Make the reader from a class in a Python file; errors inside the file come as they are."""
    own_class = load_class(name, "data.dataset")
    try:
        inspect.signature(own_class).bind()
    except TypeError as error:
        raise ConfigError(f"data.dataset: {name} must be made without arguments ({error})") from None
    reader = own_class()
    if not callable(getattr(reader, "read", None)) or not hasattr(reader, "labels"):
        raise ConfigError(f"data.dataset: {name} needs read(path, split) and labels (a tuple of names, or None)")
    return cast(Reader, reader)
