"""The paper's data sets: golden cases of the original code, and the real files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doctune.errors import DataError
from doctune.examples import Example
from doctune.readers import dataset_reader

Write = Callable[[str, str | bytes], Path]


def read(name: str, path: Path, split: str = "test") -> list[Example]:
    return list(dataset_reader(name).read(path, split))


def fails(name: str, path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(name, path)
    return str(caught.value)


GOLDEN = {
    "ag": "ag_news",
    "yelp_p": "yelp_polarity",
    "yelp_f": "yelp_full",
    "yahoo": "yahoo_answers",
    "dbpedia": "dbpedia",
    "trec": "trec",
}
# Where pandas sees a missing value, the original has the word "nan"; ours is what the file says: (row, text, pair).
MISSING = {
    ("yelp_p", 2): ("null", None),
    ("yelp_p", 3): ("", None),
    ("yelp_f", 2): ("NA", None),
    ("yahoo", 0): ("why is the sky blue?", "because"),
    ("yahoo", 2): (
        "New rails were laid from the viaduct to the level crossing in only 7 days. "
        "First chop the onions; then fry them slowly until it smells of nuts.",
        None,
    ),
    ("dbpedia", 1): ("NaN  Put fresh noodles on the back burner and do not open the lid.", None),
    ("trec", 3): ("NA", None),
}


@pytest.mark.parametrize("task", GOLDEN)
def test_texts_equal_the_originals(write: Write, golden_cases: dict[str, dict[str, Any]], task: str) -> None:
    case = golden_cases[task]
    reader = dataset_reader(GOLDEN[task])
    found = list(reader.read(write("test.csv", case["file"]), "test"))
    assert len(found) == len(case["examples"])
    assert reader.labels is not None
    assert len(reader.labels) == len(case["labels"])
    for row, (example, (_, label, text, pair)) in enumerate(zip(found, case["examples"], strict=True)):
        assert (example.text, example.text_pair) == MISSING.get((task, row), (text, pair))
        assert example.label is not None
        assert reader.labels.index(example.label) == case["labels"].index(label)
        assert example.id == f"test.csv:{row + 1}"


def test_an_empty_ag_title_leaves_no_separator(write: Write) -> None:
    assert [e.text for e in read("ag_news", write("a.csv", '"1","","b"\n"1","a",""\n"1","",""\n'))] == ["b", "a", ""]


@pytest.mark.parametrize("name", ["ag_news", "yahoo_answers", "dbpedia"])
def test_class_names_are_the_originals(shared: Path, name: str) -> None:
    names = (shared / "data" / name / "classes.txt").read_text(encoding="utf-8").splitlines()
    assert list(dataset_reader(name).labels or ()) == names


REAL = [
    ("ag_news", "test.csv", 7600),
    ("ag_news", "train_subset.csv.xz", 30_800),
    ("yelp_full", "test_subset.csv.xz", 1000),
    ("yelp_polarity", "test_derived.csv.xz", 3082),
    ("yahoo_answers", "questions_test.csv.xz", 10_000),
    ("yahoo_answers", "fulltext_test_subset.csv.xz", 2958),
    ("dbpedia", "test_subset.csv.xz", 11_273),
]


@pytest.mark.parametrize(("name", "file", "rows"), REAL)
def test_real_files(shared: Path, name: str, file: str, rows: int) -> None:
    found = read(name, shared / "data" / name / file)
    assert len(found) == rows
    assert len({example.id for example in found}) == rows
    counts = Counter(example.label for example in found)
    assert set(counts) == set(dataset_reader(name).labels or ())
    if (name, file) == ("ag_news", "test.csv"):
        assert set(counts.values()) == {1900}
        assert found[0].label == "Business"
        assert found[0].text.startswith("Fears for T N pension after talks - Unions representing")
    if file == "questions_test.csv.xz":
        assert set(counts.values()) == {1000}
        assert {example.text_pair for example in found} == {None}
    if file == "fulltext_test_subset.csv.xz":
        assert all(example.text == "" and example.text_pair for example in found)


@pytest.mark.parametrize(("split", "coarse", "num_fine"), [
    ("train", {"ABBR": 86, "DESC": 1162, "ENTY": 1250, "HUM": 1223, "LOC": 835, "NUM": 896}, 50),
    ("test", {"ABBR": 9, "DESC": 138, "ENTY": 94, "HUM": 65, "LOC": 81, "NUM": 113}, 42),
])  # fmt: skip
def test_trec(shared: Path, split: str, coarse: dict[str, int], num_fine: int) -> None:
    found = read("trec", shared / "data/trec", split)
    assert Counter(example.label for example in found) == coarse
    assert dataset_reader("trec").labels == ("LOC", "NUM", "HUM", "ENTY", "ABBR", "DESC")
    fine = read("trec-fine", shared / "data/trec", split)
    assert len({example.label for example in fine}) == num_fine
    assert [(e.id, e.text) for e in fine] == [(e.id, e.text) for e in found]
    assert [(e.label or "").partition(":")[0] for e in fine] == [e.label for e in found]
    if split == "test":
        assert found[0] == Example("TREC_10.label:1", "How far is it from Denver to Aspen ?", "NUM")
        assert fine[0].label == "NUM:dist"


def test_imdb_json_lines(shared: Path) -> None:
    reader = dataset_reader("imdb").read(shared / "data/imdb", "test")
    first, second = next(reader), next(reader)
    assert (first.id, first.label, first.group) == ("test/neg/0_2", "neg", "tt0406816")
    assert (second.id, second.label, second.group) == ("test/pos/0_10", "pos", "tt0406816")
    unlabelled = next(dataset_reader("imdb").read(shared / "data/imdb", "unsup"))
    assert (unlabelled.id, unlabelled.label) == ("train/unsup/0_0", None)
    assert "<br />" in unlabelled.text


def test_imdb_folders(write: Write, tmp_path: Path) -> None:
    for split in ("train", "test"):
        for label in ("neg", "pos", *(["unsup"] if split == "train" else [])):
            for number in (0, 1):
                write(f"aclImdb/{split}/{label}/{number}_7.txt", f"{split} {label} {number}<br />")
    write("aclImdb/test/urls_pos.txt", "http://www.imdb.com/title/tt01/usercomments\nno title here\n")
    found = read("imdb", tmp_path / "aclImdb", "test")
    assert found == [
        Example("test/neg/0_7", "test neg 0<br />", "neg"),
        Example("test/neg/1_7", "test neg 1<br />", "neg"),
        Example("test/pos/0_7", "test pos 0<br />", "pos", group="tt01"),
        Example("test/pos/1_7", "test pos 1<br />", "pos"),
    ]
    assert read("imdb", tmp_path, "test") == found  # the folder above aclImdb
    assert read("imdb", tmp_path / "aclImdb/test", "train") == found  # a split's own folder wins over the split
    assert {example.label for example in read("imdb", tmp_path, "train")} == {"neg", "pos"}
    assert [e.label for e in read("imdb", tmp_path, "unsup")] == [None, None]


BAD = [
    ("ag_news", '"1","a","b"\n"5","a","b"\n', ":2: class '5', expected a number from 1 to 4"),
    ("ag_news", '"0","a","b"\n', ":1: class '0', expected a number from 1 to 4"),
    ("ag_news", "Class Index,Title,Description\n", ":1: class 'Class Index'"),
    ("dbpedia", '"1","a\nb","c"\n"","a","b"\n', ":3: class '', expected a number from 1 to 14"),
    ("yelp_full", '"1","a"\n"2","a","b"\n', ":2: 3 fields, expected 2"),
    ("yelp_polarity", '"1","a"\n"2","a \n', ":2: the row that begins here is not CSV"),
    ("trec", "NUM:dist How far ?\nNUMM:x What ?\n", ":2: found 'NUMM:x', expected COARSE:fine question or"),
    ("trec", "How far ?\n", ":1: found 'How'"),
    ("trec-fine", "NUM\tHow far ?\n", ":1: found 'NUM', expected COARSE:fine question,"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_bad_rows_name_the_line(write: Write, name: str, content: str, message: str) -> None:
    path = write("test.csv", content)
    assert f"{path}{message}" in fails(name, path)


def test_bad_imdb_labels(write: Write) -> None:
    path = write("test.jsonl", '{"text": "a", "label": 1}\n{"text": "a", "label": 2}\n')
    assert fails("imdb", path) == f"{path}:2: label 2, expected 0 (neg) or 1 (pos)"
    assert ":1: no text" in fails("imdb", write("b.jsonl", '{"review": "a", "label": 1}\n'))
