"""Which sources the settings name."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from doctune.errors import ConfigError, DataError
from doctune.examples import Example
from doctune.readers import DATASETS, dataset_reader, open_source, sources
from doctune.settings import DataSettings

Write = Callable[[str, str | bytes], Path]


def settings(**values: Any) -> DataSettings:
    return DataSettings.build(values)


def test_explicit_files(write: Write) -> None:
    train = write("train.csv", "text,label\na,x\n")
    test = write("test.csv", "text,label\nb,y\n")
    found = sources(settings(train=str(train), test=str(test)))
    assert list(found) == ["train", "test"]
    assert [(s.name, s.split, s.labels) for s in found.values()] == [
        (str(train), "train", None),
        (str(test), "test", None),
    ]
    assert list(found["test"].read()) == list(found["test"].read()) == [Example("test.csv:1", "b", "y")]


def test_a_data_set_in_its_folder(write: Write, tmp_path: Path) -> None:
    write("train.csv.gz", '"1","a","b"\n')
    write("test.csv", '"2","a","b"\n')
    own = write("my_validation.csv", '"3","a","b"\n')
    found = sources(settings(dataset="ag-news", data=str(tmp_path), validation=str(own)))
    assert {split: [e.label for e in source.read()] for split, source in found.items()} == {
        "train": ["World"],
        "validation": ["Business"],
        "test": ["Sports"],
    }
    assert found["train"].labels == ("World", "Sports", "Business", "Sci/Tech")
    assert found["train"].name.endswith("train.csv.gz")


def test_a_data_set_without_its_files(write: Write, tmp_path: Path) -> None:
    write("test.csv", '"2","a","b"\n')
    with pytest.raises(
        DataError, match=r"no training data of ag_news \(train.csv and test.csv\) here; it holds test.csv"
    ):
        sources(settings(dataset="ag_news", data=str(tmp_path)))
    with pytest.raises(DataError, match="no such file"):
        sources(settings(dataset="ag_news", data=str(tmp_path / "nowhere")))
    with pytest.raises(DataError, match="--data needs a folder"):
        sources(settings(dataset="ag_news", data=str(tmp_path / "test.csv")))
    with pytest.raises(DataError, match="no such file"):
        sources(settings(dataset="ag_news", train=str(tmp_path / "nowhere.csv")))
    with pytest.raises(DataError, match=r"no original file of the train split here; it holds test.csv"):
        list(sources(settings(dataset="ag_news", train=str(tmp_path)))["train"].read())


@pytest.mark.parametrize("name", DATASETS)
def test_every_known_data_set_has_a_reader(name: str) -> None:
    for spelling in (name, name.replace("_", "-"), name.upper()):
        reader = dataset_reader(spelling)
        assert callable(reader.read)
        assert reader.labels is None or len(set(reader.labels)) == len(reader.labels)


def test_real_folders_are_found(shared: Path) -> None:
    for name in ("trec", "imdb"):
        found = sources(settings(dataset=name, data=str(shared / "data" / name)))
        assert list(found) == ["train", "test"]
        assert next(found["test"].read()).label in (found["test"].labels or ())


def test_unknown_data_set() -> None:
    with pytest.raises(ConfigError, match="no data set 'agnews'; did you mean 'ag_news'"):
        dataset_reader("agnews")


def test_embedded_data_set() -> None:
    found = sources(settings(dataset="pydocs", data="installed"))
    assert list(found) == ["train", "test"]


def test_labels_may_be_missing_when_predicting(write: Write) -> None:
    path = write("a.csv", "text\none\n")
    unlabelled = open_source(str(path), settings(train="x"), "test", labelled=False)
    assert list(unlabelled.read()) == [Example("a.csv:1", "one")]
    known = write("b.csv", '"1","a","b"\n')
    unlabelled = open_source(str(known), settings(train="x", dataset="ag_news"), "test", labelled=False)
    assert list(unlabelled.read()) == [Example("b.csv:1", "a - b")]


OWN = """
from __future__ import annotations
from dataclasses import dataclass
from doctune.examples import Example

@dataclass(frozen=True)
class MyReader:
    labels: tuple[str, ...] | None = ("a", "b")

    def read(self, path, split):
        yield Example("1", path.read_text(), split)

class NeedsMore:
    labels = None
    def __init__(self, size): ...

class NoReader:
    labels = None
"""


def test_a_reader_of_ones_own(write: Write) -> None:
    file, data = write("my_reader.py", OWN), write("data.bin", "hello")
    found = sources(settings(dataset=f"{file}:MyReader", train=str(data)))
    assert list(found) == ["train"]
    assert found["train"].labels == ("a", "b")
    assert list(found["train"].read()) == [Example("1", "hello", "train")]
    assert list(sources(settings(dataset=f"{file}:MyReader", data=str(data.parent)))) == ["train"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("{folder}/nothing.py:MyReader", "no such Python file"),
        ("{folder}/my_reader.py:MyRaeder", "has no class 'MyRaeder'; did you mean 'MyReader'"),
        ("{folder}/my_reader.py:NeedsMore", "must be made without arguments"),
        ("{folder}/my_reader.py:NoReader", r"needs read\(path, split\) and labels"),
    ],
)
def test_a_reader_of_ones_own_that_is_none(write: Write, name: str, message: str) -> None:
    folder = write("my_reader.py", OWN).parent
    with pytest.raises(ConfigError, match=message):
        dataset_reader(name.format(folder=folder))


class Rows:
    """As much of a `datasets.Dataset` as is used."""

    column_names = ("text", "label")

    def __init__(self, split: str, labels: tuple[int, ...]) -> None:
        self.features = {"text": SimpleNamespace(), "label": SimpleNamespace(names=["neg", "pos"])}
        self.rows = [{"text": f"{split} {label}", "label": label} for label in labels]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.rows)


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("datasets")

    def load_dataset(name: str, split: str) -> Rows:
        if name != "some/films":
            raise FileNotFoundError(f"Dataset {name!r} doesn't exist on the Hub")
        return Rows(split, (1, 0) if split != "hidden" else (-1,))

    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    module.get_dataset_split_names = lambda name: ["train", "test", "extra", "hidden"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "datasets", module)


@pytest.mark.usefixtures("fake_hub")
def test_the_hub() -> None:
    found = sources(settings(train="hf:some/films"))
    assert list(found) == ["train", "test"]
    assert list(found["train"].read()) == [
        Example("some/films:train:1", "train 1", "pos"),
        Example("some/films:train:2", "train 0", "neg"),
    ]
    assert next(found["test"].read()).text == "test 1"
    assert next(sources(settings(train="hf:some/films:extra"))["train"].read()).text == "extra 1"
    assert list(sources(settings(train="hf:some/films:test"))) == ["train"]
    unlabelled = open_source("hf:some/films:hidden", settings(train="x"), "test", labelled=False)
    assert next(unlabelled.read()).label is None


@pytest.mark.usefixtures("fake_hub")
def test_what_the_hub_does_not_have() -> None:
    with pytest.raises(DataError, match="hf:other: the hub's data set cannot be read: Dataset 'other'"):
        list(open_source("hf:other", settings(train="x"), "train").read())
    with pytest.raises(DataError, match=r"hf:some/films:hidden: row 1: label -1, expected 0 to 1"):
        list(open_source("hf:some/films:hidden", settings(train="x"), "test").read())
    with pytest.raises(DataError, match="no column 'txet'; the columns are text, label; did you mean 'text'"):
        list(open_source("hf:some/films", settings(train="x", text=["txet"]), "train").read())
    with pytest.raises(ConfigError, match="write hf:NAME"):
        open_source("hf:", settings(train="x"), "train")
    with pytest.raises(ConfigError, match=r"cannot be read by data.dataset = 'imdb'"):
        sources(settings(train="hf:imdb", dataset="imdb"))


def test_the_hub_without_its_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ConfigError, match=r"pip install 'doctune\[hub\]'"):
        sources(settings(train="hf:some/films"))
