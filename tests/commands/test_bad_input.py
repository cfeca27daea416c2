"""Bad data: one line that says what is wrong, exit code 2, and nothing half-written."""

from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
MakeCsv = Callable[..., Path]
HEAD = "text,label\n"
ROWS = HEAD + "good film,pos\nbad film,neg\n" * 12


@pytest.fixture
def fails(finetune: Cli, tmp_path: Path) -> Callable[..., str]:
    """The error of `doctune finetune` with these arguments, which must leave no output directory."""

    def run(train: object, *flags: object, **options: Any) -> str:
        error: str = finetune(train, *flags, **options).error
        assert not (tmp_path / "run").exists()
        return error

    return run


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_missing_files(fails: Callable[..., str], tiny_csv: MakeCsv, tmp_path: Path) -> None:
    train = tiny_csv()
    error = fails(tmp_path / "trian.csv")
    assert error.startswith(f"{tmp_path}/trian.csv: no such file; {tmp_path} holds ")
    assert "train.csv" in error
    for split in ("validation", "test"):
        assert "nowhere.csv: no such file" in fails(train, f"--{split}", tmp_path / "nowhere.csv")


CSV_ERRORS: dict[str, tuple[str | bytes, tuple[str, ...], str]] = {
    "wrong column": (ROWS, ("--text", "txet"), "train.csv:1: data.text: no column 'txet'; the columns are text, label"),
    "wrong label": (
        ROWS,
        ("--label", "labels"),
        "data.label: no column 'labels'; the columns are text, label; did you",
    ),
    "undecodable": (ROWS.encode() + b"caf\xe9,pos\n", (), "train.csv:26: byte 0xE9 is not utf-8"),
    "ragged": (ROWS + "one, two,pos\n", (), "train.csv:26: 3 fields, expected 2"),
    "open quote": (ROWS + '"never closed,pos\n', (), "train.csv:26: the row that begins here is not CSV"),
    "empty label": (ROWS + "film,\n", (), "train.csv:26: the label is empty"),
    "empty file": ("", (), "train.csv: the file is empty"),
    "header only": (HEAD, (), "train: there is no document"),
    "one class": (HEAD + "good film,same\n" * 20, (), "train: two classes or more are needed, found only 'same'"),
    "all empty": (HEAD + " ,pos\n,neg\n" * 10, (), "train: every document is empty"),
    "nul byte": (ROWS + "a\0b,pos\n", (), "train.csv:26: holds a NUL byte"),
    "too few": (HEAD + "good,pos\nbad,neg\n", (), "too few to hold out 10 %"),
    "unknown encoding": (ROWS, ("--encoding", "utf-88"), "unknown encoding 'utf-88'"),
}


@pytest.mark.parametrize("case", CSV_ERRORS)
def test_bad_csv(fails: Callable[..., str], tmp_path: Path, case: str) -> None:
    content, flags, message = CSV_ERRORS[case]
    error = fails(write(tmp_path / "train.csv", content), *flags)
    assert message in error


def test_utf16_without_a_mark(fails: Callable[..., str], tiny_csv: MakeCsv) -> None:
    assert "utf-16" in fails(tiny_csv(), "--encoding", "utf-16")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_class_that_training_lacks(fails: Callable[..., str], tiny_csv: MakeCsv, tmp_path: Path, split: str) -> None:
    other = write(tmp_path / "other.csv", ROWS + "new film,unheard\n")
    error = fails(tiny_csv(), f"--{split}", other)
    assert error.startswith(f"{split}: class 'unheard' (1 documents, first other.csv:25)")
    assert "training has neg, pos" in error
    assert error.endswith("give --unseen-labels count")


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_class_that_training_lacks_is_counted_where_that_is_asked_for(
    finetune: Cli, tiny_csv: MakeCsv, tmp_path: Path, split: str
) -> None:
    """Nothing but the figures of that set differs from a run without the document: what is trained is the same."""
    other = write(tmp_path / "other.csv", ROWS)
    plain = finetune(tiny_csv(), f"--{split}", other, "--select", "last", "--output", tmp_path / "plain")
    assert plain.code == 0, plain.err
    write(other, ROWS + "new film,unheard\n")
    done = finetune(
        tiny_csv(), f"--{split}", other, "--select", "last", "--output", tmp_path / "counted",
        "--unseen-labels", "count",
    )  # fmt: skip
    assert done.code == 0, done.err
    line = f"{split}: 1 document of a class that training lacks ('unheard') counts as an error"
    assert line in done.err
    before, report = (json.loads((tmp_path / n / "report.json").read_text()) for n in ("plain", "counted"))
    assert f"{line}." in report["warnings"]
    assert report["recipe"] == before["recipe"] | {"unseen_labels": "count"}
    figures, without = report[split], before[split]
    assert (figures["unseen"], figures["count"]) == (1, without["count"] + 1)
    assert figures["accuracy"] == pytest.approx(without["accuracy"] * without["count"] / figures["count"])
    assert (figures["loss"], figures["confusion"]) == (pytest.approx(without["loss"]), without["confusion"])
    models = [(tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("plain", "counted")]
    assert models[0] == models[1]


def test_some_empty_documents_are_left_out_and_counted(finetune: Cli, tmp_path: Path) -> None:
    train = write(tmp_path / "train.csv", ROWS + " ,pos\n\u200b,neg\n,pos\n")
    test = write(tmp_path / "test.csv", ROWS + " ,neg\n")
    done = finetune(train, "--test", test)
    assert done.code == 0, done.err
    assert "train: left out 3 empty documents\ntest: left out 1 empty document\n" in done.err
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["data"]["left_out_empty"] == {"train": 3, "test": 1}
    assert (report["data"]["train"] + report["data"]["validation"], report["data"]["test"]) == (24, 24)


@pytest.mark.parametrize("name", ["train.csv.gz", "train.csv.xz"])
def test_damaged_compression(fails: Callable[..., str], tmp_path: Path, name: str) -> None:
    pack = gzip.compress if name.endswith("gz") else lzma.compress
    damaged = write(tmp_path / name, pack(ROWS.encode())[:-20])
    assert f"{name}: damaged or incomplete compressed file" in fails(damaged)
    assert f"{name}: damaged or incomplete compressed file" in fails(write(tmp_path / name, ROWS))


def test_json_lines(fails: Callable[..., str], tmp_path: Path) -> None:
    good = '{"text": "good film", "label": "pos"}\n{"text": "bad film", "label": "neg"}\n' * 5
    assert "train.jsonl:11: not a line of JSON" in fails(write(tmp_path / "train.jsonl", good + "{oops}\n"))
    assert "train.jsonl:11: found a JSON int" in fails(write(tmp_path / "train.jsonl", good + "12\n"))
    assert "train.jsonl:11: data.label: no column 'label'" in fails(
        write(tmp_path / "train.jsonl", good + '{"text": "a"}\n')
    )


def test_folders_and_files_mistaken_for_each_other(
    fails: Callable[..., str], tiny_csv: MakeCsv, tmp_path: Path
) -> None:
    train = tiny_csv()
    folder = tmp_path / "documents"
    folder.mkdir()
    write(folder / "a.txt", "text")
    assert f"{folder}: no class folders; it holds a.txt" in fails(folder)
    assert f"{folder}: is a folder, a file was expected" in fails(folder, "--format", "csv")
    assert "is a folder, a file was expected" in fails(train, "--test", folder, "--format", "csv")
    assert f"{train}: is a file, a folder with one folder per class was expected" in fails(train, "--format", "folder")
    assert "no known format '.txt'" in fails(folder / "a.txt")


def test_unknown_data_set(fails: Callable[..., str], tiny_csv: MakeCsv) -> None:
    error = fails(tiny_csv(), "--dataset", "agnews2")
    assert "agnews2" in error
    assert "ag_news" in error


def test_a_known_data_set_without_its_files(cli: Cli, tiny_encoder: Path, tmp_path: Path) -> None:
    done = cli(
        "finetune", "--dataset", "ag_news", "--data", tmp_path, "--encoder", tiny_encoder, "--output", tmp_path / "run",
        "--max-seq-len", 32,
    )  # fmt: skip
    assert "no training data of ag_news (train.csv and test.csv)" in done.error
    assert not (tmp_path / "run").exists()


def test_a_column_name_with_a_line_break_keeps_the_error_on_one_line(fails: Callable[..., str], tmp_path: Path) -> None:
    error = fails(write(tmp_path / "train.csv", '"my\nwords",label\ngood,pos\nbad,neg\n'))
    assert "no column 'text'" in error
    assert "label" in error
