"""CSV, TSV, JSON lines, Parquet and folders, through `open_source`."""

from __future__ import annotations

import gzip
import io
import json
import lzma
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from doctune.errors import DataError
from doctune.examples import Example
from doctune.readers import open_source
from doctune.settings import DataSettings

Write = Callable[[str, str | bytes], Path]

ROWS = [
    {"id": "a", "text": "one, two", "title": "T", "more": "", "label": "x", "film": "f1"},
    {"id": "b", "text": 'said "no"', "title": "", "more": "second", "label": "y", "film": "f1"},
    {"id": "c", "text": "Straße 漢字 😀", "title": "U", "more": "two  spaces", "label": "x", "film": ""},
]


def settings(**values: Any) -> DataSettings:
    return DataSettings.build({"train": "unused", **values})


def read(path: Path, labelled: bool = True, **values: Any) -> list[Example]:
    return list(open_source(str(path), settings(**values), "train", labelled).read())


def fails(path: Path, labelled: bool = True, **values: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(path, labelled, **values)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(f"{path.parent}/", "")


def encoded(kind: str) -> bytes:
    if kind == "jsonl":
        return "".join(json.dumps(row) + "\n" for row in ROWS).encode()
    if kind == "parquet":
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(ROWS), buffer)
        return buffer.getvalue()
    separator = "," if kind == "csv" else "\t"
    lines = [list(ROWS[0]), *(list(row.values()) for row in ROWS)]
    return "".join(
        separator.join('"' + cell.replace('"', '""') + '"' for cell in line) + "\r\n" for line in lines
    ).encode()


@pytest.mark.parametrize("compression", ["", ".gz", ".xz"])
@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_examples(write: Write, kind: str, compression: str) -> None:
    path = write(f"data.{kind}{compression}", encoded(kind))
    found = read(path, text=["title", "text"], join=" | ", text_pair="more", group="film")
    assert found == [
        Example("a", "T | one, two", "x", None, "f1"),
        Example("b", 'said "no"', "y", "second", "f1"),
        Example("c", "U | Straße 漢字 😀", "x", "two  spaces", None),
    ]
    assert [example.label for example in read(path, labelled=False, label="no such column")] == [None] * 3


@pytest.mark.parametrize("compression", ["", ".gz", ".xz"])
@pytest.mark.parametrize(("kind", "row"), [("csv", "x,one\n"), ("tsv", "x\tone\n"), ("jsonl", '{"l":"x","t":"one"}\n')])
def test_ids_are_file_and_row_whatever_the_compression(write: Write, kind: str, row: str, compression: str) -> None:
    columns = {"text": ["t"], "label": "l"} if kind == "jsonl" else {"text": ["1"], "label": 0, "header": False}
    found = read(write(f"My.Data.{kind}{compression}", row * 2), **columns)
    assert found == [Example(f"My.Data.{kind}:{number}", "one", "x") for number in (1, 2)]


@pytest.mark.parametrize("compression", ["", ".gz", ".xz"])
def test_folders(write: Write, compression: str, tmp_path: Path) -> None:
    write(f"d/pos/2.txt{compression}", "good\n")
    write(f"d/neg/1.txt{compression}", "bad <br /> film")
    write("d/neg/.hidden", b"\xff")
    write("d/README", "no document")
    assert read(tmp_path / "d") == [
        Example("neg/1.txt", "bad <br /> film", "neg"),
        Example("pos/2.txt", "good\n", "pos"),
    ]
    assert {example.id for example in read(tmp_path / "d", labelled=False)} == {"README", "neg/1.txt", "pos/2.txt"}


def test_folders_that_are_none(write: Write, tmp_path: Path) -> None:
    file = write("d/a.txt", "x")
    assert fails(file.parent).startswith("d: no class folders; it holds a.txt")
    write("e/train/pos/1.txt", "x")
    assert "e/train/pos: a folder inside the class folder 'train'" in fails(tmp_path / "e")
    (tmp_path / "f" / "pos").mkdir(parents=True)
    assert "f/pos: a class folder without files" in fails(tmp_path / "f")
    assert "a.txt: is a file, a folder" in fails(file, format="folder")


def test_labels_as_text(write: Write) -> None:
    values = [1, 2.0, True, False, " pad ", 2.5]
    path = write("a.jsonl", "".join(json.dumps({"text": "t", "label": value}) + "\n" for value in values))
    assert [example.label for example in read(path)] == ["1", "2", "true", "false", "pad", "2.5"]
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", None], "label": [3, 4]}), buffer)
    assert read(write("a.parquet", buffer.getvalue())) == [
        Example("a.parquet:1", "a", "3"),
        Example("a.parquet:2", "", "4"),
    ]


def test_csv_fields_over_lines_and_huge_ones(write: Write) -> None:
    long = "word " * 100_000
    path = write("a.csv", f'text,label\r\n"one\r\ntwo, ""three""",x\r\n\r\n"{long}",y\r\n')
    assert [example.text for example in read(path)] == ['one\r\ntwo, "three"', long]
    message = fails(write("b.csv", 'text,label\n"one\ntwo",x\n"three\nfour",y,z\n'))
    assert message.startswith("b.csv:4: 3 fields, expected 2")


def test_empty_texts_are_kept_and_blank_lines_are_not_rows(write: Write) -> None:
    assert [e.text for e in read(write("a.csv", "text,label\n,x\n\n  ,y\n"))] == ["", "  "]
    assert [e.text for e in read(write("b.csv", "text\none\n\ntwo\n"), labelled=False)] == ["one", "", "two"]


def test_byte_order_mark_and_encoding(write: Write) -> None:
    assert read(write("a.csv", b"\xef\xbb\xbftext,label\none,x\n"))[0].text == "one"
    assert read(write("b.csv", "text,label\nü,x\n".encode("latin-1")), encoding="latin-1")[0].text == "ü"
    assert read(write("c.tsv", "text\tlabel\n好\tx\n".encode("utf-16")), encoding="utf-16")[0].text == "好"


def test_tsv_quotes_are_text_unless_they_close(write: Write) -> None:
    lines = [
        ('"Quoted" start', '"Quoted" start'),
        ('"never closed', '"never closed'),
        ('the end"', 'the end"'),
        ('"whole, with ""inner"" ones"', 'whole, with "inner" ones'),
        ('"a" and "b"', '"a" and "b"'),
        ('"a\ttab"', "a\ttab"),
        ('"', '"'),
        ('""', ""),
        ("", ""),
        ("x \r y \u2028 z", "x \r y \u2028 z"),
    ]
    path = write("a.txt", "".join(f"{raw}\t{number}\n" for number, (raw, _) in enumerate(lines)))
    found = read(path, format="tsv", header=False, text=["0"], label="1")
    assert [example.text for example in found] == [text for _, text in lines]
    assert [example.label for example in found] == [str(number) for number in range(len(lines))]
    swapped = write("b.txt", "".join(f"{number}\t{raw}\r\n" for number, (raw, _) in enumerate(lines)))
    assert [e.text for e in read(swapped, format="tsv", header=False, text=[1], label=0)] == [t for _, t in lines]


def test_original_imdb_tsv(write: Write, golden_cases: dict[str, dict[str, Any]]) -> None:
    case = golden_cases["imdb"]
    found = read(write("test.csv", case["file"]), format="tsv", header=False, text=[1], label=0)
    expected = [(label, text if text != "nan" else "") for _, label, text, _ in case["examples"]]
    assert [(example.label, example.text) for example in found] == expected


@pytest.mark.parametrize("name", ["train_subset.txt.xz", "dev.txt", "test.txt"])
def test_thucnews_titles(shared: Path, name: str) -> None:
    found = read(shared / "data/thucnews_titles" / name, format="tsv", header=False, text=["0"], label="1")
    assert len(found) == (59_749 if "train" in name else 10_000)
    assert set(Counter(example.label for example in found)) == {str(number) for number in range(10)}
    assert all(example.text for example in found)


def test_sogou_c_jsonl(shared: Path) -> None:
    found = read(shared / "data/sogou_c/test.jsonl.xz")
    assert (len(found), found[0].id, found[0].label) == (580, "C000014/178", "4")


def test_half_surrogates_become_text(write: Write) -> None:
    path = write("a.jsonl", '{"text": "cut \\ud83d, whole \\ud83d\\ude00", "label": 0}\n')
    assert read(path)[0].text == "cut \ufffd, whole 😀"


BAD = [
    ("a.csv", "", {}, ["a.csv: the file is empty"]),
    ("a.csv", "text,label\na,b,c\n", {}, ["a.csv:2: 3 fields, expected 2"]),
    ("a.csv", "text,label\n\na\n", {}, ["a.csv:3: 1 field, expected 2"]),
    ("a.tsv", 'text\tlabel\n"a\nb"\tx\n', {}, ["a.tsv:2: 1 field, expected 2", "line break"]),
    (
        "a.csv",
        "text,label\nz,z\n",
        {"text": ["txet"]},
        ["a.csv:1: data.text: no column 'txet'", "text, label", "mean 'text'"],
    ),
    ("a.csv", "text,label\nz,z\n", {"group": "film"}, ["a.csv:1: data.group", "the columns are text, label"]),
    ("a.csv", "text,label\nz,z\n", {"text": ["7"]}, ["a.csv:1: data.text: no column '7'"]),
    ("a.csv", "text,text,label\nz,z,z\n", {}, ["2 columns are called 'text'"]),
    ("a.csv", "z,z\n", {"header": False}, ["a.csv:1: data.text: no column 'text'", "0 to 1"]),
    ("a.csv", "text,label\na,\n", {}, ["a.csv:2: the label is empty"]),
    ("a.csv", "text,label\na,  \n", {}, ["a.csv:2: the label is empty"]),
    ("a.csv", 'text,label\nb,c\n"never closed,x\ny,z\n', {}, ["a.csv:3", "unexpected end of data"]),
    ("a.csv", 'text,label\n"a "quoted" word",x\n', {}, ["a.csv:2", "twice"]),
    ("a.csv", "text,label\na,b\nc\0,d\n", {}, ["a.csv:3: holds a NUL byte"]),
    ("a.csv", b"text,label\na,b\n\xe9,c\n", {}, ["a.csv:3: byte 0xE9 is not utf-8"]),
    ("a.csv", "text,label\na,b\n", {"encoding": "utf-9"}, ["unknown encoding 'utf-9'"]),
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n', {}, ["a.jsonl:2: not a line of JSON"]),
    ("a.json", '[\n{"text": "a", "label": 1}]', {}, ["a.json:1", "one object a line"]),
    ("a.jsonl", '"text"\n', {}, ["a.jsonl:1: found a JSON str"]),
    ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "a"}\n', {}, ["a.jsonl:2: data.label: no column 'label'"]),
    ("a.jsonl", '{"text": "a", "label": null}\n', {}, ["a.jsonl:1: the label is empty"]),
    ("a.jsonl", '{"text": "a", "label": NaN}\n', {}, ["a.jsonl:1: the label is empty"]),
    ("a.jsonl", '{"text": ["a"], "label": 1}\n', {}, ["a.jsonl:1: found a list"]),
    ("a.jsonl", '{"text": "\0", "label": 1}\n', {}, ["a.jsonl:1: holds a NUL"]),
    ("a.parquet", "no parquet", {}, ["a.parquet: not a Parquet file"]),
    ("a.parquet.gz", "no parquet", {}, ["a.parquet.gz: not a Parquet file"]),
    ("a.txt", "text\n", {}, ["no known format '.txt'", "--format"]),
    ("a", "text\n", {}, ["no known format ''"]),
]


@pytest.mark.parametrize(("name", "content", "values", "parts"), BAD)
def test_bad_input_names_the_place(
    write: Write, name: str, content: str | bytes, values: dict[str, Any], parts: list[str]
) -> None:
    message = fails(write(name, content), **values)
    assert [part for part in parts if part not in message] == [], message


def test_bad_parquet_rows(write: Write) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"text": ["a", "b"], "label": ["x", None], "tags": [["p"], []]}), buffer)
    path = write("a.parquet", buffer.getvalue())
    assert "a.parquet: row 2: the label is empty" in fails(path)
    assert "a.parquet: row 1: found a list" in fails(path, text=["tags"])
    assert "a.parquet: data.label: no column 'lable'" in fails(path, label="lable")


def test_missing_file_and_wrong_kind(write: Write, tmp_path: Path) -> None:
    write("train.csv", "text,label\n")
    assert "trian.csv: no such file" in fails(tmp_path / "trian.csv")
    assert "is a folder, a file was expected" in fails(tmp_path, format="csv")


@pytest.mark.parametrize("name", ["a.csv.gz", "a.csv.xz", "a.jsonl.gz", "a.tsv.xz", "a.parquet.gz", "a.parquet.xz"])
def test_damaged_compressed_files(tmp_path: Path, name: str) -> None:
    content = encoded(name.split(".")[1]) * (1 if "parquet" in name else 2000)
    path = tmp_path / name
    packed = gzip.compress(content) if name.endswith("gz") else lzma.compress(content)
    for bad in (packed[: len(packed) // 2], b"no archive", packed[:20] + b"\xff" * 20 + packed[40:]):
        path.write_bytes(bad)
        message = fails(path)
        assert message.startswith(f"{name}: damaged or incomplete compressed file"), message
