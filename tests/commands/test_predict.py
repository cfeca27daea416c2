"""Labels for new documents from a model that was fine-tuned here."""

from __future__ import annotations

import contextlib
import copy
import csv
import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import doctune
from doctune.commands.predict import read_documents
from doctune.errors import CheckpointError, ConfigError, DataError, UserError
from doctune.examples import Example

Cli = Callable[..., Any]
TEXTS = ["the film was great", "", "awful food, bad service", "   ", "a good book about war and peace"]
NEW = "number,title,body\n" + "".join(f"{i},{text.replace(',', ';')},good\n" for i, text in enumerate(TEXTS))


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], None]:
    """Makes these bytes the standard input."""

    def make(content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))

    return make


@pytest.fixture
def predictor(trained: Path) -> doctune.Predictor:
    return doctune.load(trained)


def expected_rows(predictor: doctune.Predictor, texts: list[str]) -> list[dict[str, float]]:
    return [dict(zip(predictor.labels, row, strict=True)) for row in predictor.predict_proba(texts)]


def check(rows: list[dict[str, Any]], predictor: doctune.Predictor, texts: list[str]) -> None:
    """One row a text, in order, each equal to what the model says about that text alone."""
    assert len(rows) == len(texts)
    for row, text in zip(rows, texts, strict=True):
        if not text.strip():
            assert row["label"] in (None, "")
            assert row["probability"] in (None, "")
            assert list(row["probabilities"].values()) == [pytest.approx(1 / len(predictor.labels), abs=1e-6)] * 3
            continue
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert row["probabilities"][row["label"]] == row["probability"] == max(row["probabilities"].values())
        assert row["probabilities"] == pytest.approx(expected_rows(predictor, [text])[0], abs=1e-3)


def test_a_file_is_read_as_the_training_data_was(
    cli: Cli, trained: Path, predictor: doctune.Predictor, tmp_path: Path
) -> None:
    new = tmp_path / "new.csv"
    new.write_text(NEW)
    done = cli("predict", trained, new)
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["id"] for row in rows] == [f"new.csv:{i + 1}" for i in range(len(TEXTS))]
    texts = [f"{t.replace(',', ';')} good" if t.strip() else "good" for t in TEXTS]
    check(rows, predictor, texts)
    assert doctune.predict(trained, new) == rows


def test_other_columns_can_be_named(cli: Cli, trained: Path, predictor: doctune.Predictor, tmp_path: Path) -> None:
    new = tmp_path / "new.jsonl"
    new.write_text("".join(json.dumps({"id": f"my {i}", "review": text}) + "\n" for i, text in enumerate(TEXTS)))
    assert "no column 'title'" in cli("predict", trained, new).error
    done = cli("predict", trained, new, "--text", "review")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["id"] for row in rows] == [f"my {i}" for i in range(len(TEXTS))]
    check(rows, predictor, TEXTS)
    equal = {label: pytest.approx(1 / len(predictor.labels), abs=1e-6) for label in predictor.labels}
    assert rows[1]["probabilities"] == rows[3]["probabilities"] == equal


def test_text_lines_from_standard_input(
    cli: Cli, trained: Path, predictor: doctune.Predictor, stdin: Callable[..., None]
) -> None:
    stdin("\n".join(TEXTS) + "\n{not json\n")
    done = cli("predict", trained, "-")
    assert done.code == 0, done.err
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5", "6"]
    check(rows, predictor, [*TEXTS, "{not json"])


def test_json_lines_from_standard_input(
    cli: Cli, trained: Path, predictor: doctune.Predictor, stdin: Callable[..., None]
) -> None:
    stdin("".join(json.dumps({"title": text, "body": "", "id": f"n{i}"}) + "\n" for i, text in enumerate(TEXTS)))
    rows = [json.loads(line) for line in cli("predict", trained, "-").out.splitlines()]
    assert [row["id"] for row in rows] == [f"n{i}" for i in range(len(TEXTS))]
    check(rows, predictor, TEXTS)


def test_json_lines_that_lack_a_column(cli: Cli, trained: Path, stdin: Callable[..., None]) -> None:
    stdin('{"title": "a", "body": "b"}\n{"title": "a"}\n')
    assert "standard input:2: no body in title" in cli("predict", trained, "-").error


def test_columns_of_standard_input_can_be_named(
    cli: Cli, trained: Path, predictor: doctune.Predictor, stdin: Callable[..., None]
) -> None:
    stdin('{"review": "the film was great"}\n')
    done = cli("predict", trained, "-", "--text", "review")
    check([json.loads(line) for line in done.out.splitlines()], predictor, ["the film was great"])


def test_standard_input_that_does_not_decode(
    cli: Cli, trained: Path, stdin: Callable[..., None], tmp_path: Path
) -> None:
    stdin(b"good\ncaf\xe9\n")
    out = tmp_path / "out.jsonl"
    assert "standard input: byte 0xE9 is not utf-8" in cli("predict", trained, "-", "--output", out).error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.csv", "out.jsonl", "out.txt"])
def test_output_to_a_file(
    cli: Cli, trained: Path, predictor: doctune.Predictor, stdin: Callable[..., None], tmp_path: Path, name: str
) -> None:
    stdin("\n".join(TEXTS) + "\n")
    done = cli("predict", trained, "-", "--output", tmp_path / name)
    assert (done.code, done.out) == (0, "")
    assert done.err.endswith(f"5 predictions in {tmp_path / name}\n")
    with (tmp_path / name).open(newline="") as file:
        if not name.endswith("csv"):
            check([json.loads(line) for line in file], predictor, TEXTS)
            return
        table = list(csv.DictReader(file))
    rows = [
        {**row, "probability": row["probability"] and float(row["probability"]),
         "probabilities": {label: float(row[f"probability_{label}"]) for label in predictor.labels}}
        for row in table
    ]  # fmt: skip
    check(rows, predictor, TEXTS)


def test_the_form_can_be_named(cli: Cli, trained: Path, stdin: Callable[..., None]) -> None:
    stdin("good\n")
    lines = cli("predict", trained, "-", "--output-format", "csv").out.splitlines()
    assert lines[0].startswith("id,label,probability,probability_1")
    assert len(lines) == 2


def test_a_predictor_in_python(trained: Path, predictor: doctune.Predictor) -> None:
    probabilities = predictor.predict_proba(TEXTS)
    assert probabilities.shape == (len(TEXTS), 3)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    best = [predictor.labels[i] for i in probabilities.argmax(axis=1)]
    assert predictor.predict(TEXTS) == [
        label if text.strip() else None for label, text in zip(best, TEXTS, strict=True)
    ]
    rows = doctune.predict(trained, TEXTS)
    assert [row["label"] for row in rows] == predictor.predict(TEXTS)
    assert predictor.predict([]) == []
    assert predictor.predict_proba([("the film", "was great")]).shape == (1, 3)
    pairs = doctune.predict(trained, [("the film", "was great"), "the film"])
    assert [row["label"] for row in pairs] == predictor.predict([("the film", "was great"), "the film"])
    with pytest.raises(DataError, match=r"texts\[1\]: found None"):
        doctune.predict(trained, ["a", None])


def test_the_order_of_documents_and_batches_changes_nothing(predictor: doctune.Predictor) -> None:
    texts = [f"the film {i} was {'great and lovely ' * (i % 17)}" for i in range(300)]
    whole = predictor.predict_proba(texts)
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_allclose(predictor.predict_proba([texts[i] for i in order]), whole[order], atol=2e-3)


def test_many_documents_go_through_in_parts(predictor: doctune.Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doctune.classifier.predictor.DOCUMENTS_AT_A_TIME", 4)
    examples = [Example(f"d{i}", text) for i, text in enumerate(TEXTS * 2)]
    check(list(predictor.rows(iter(examples))), predictor, TEXTS * 2)


@pytest.mark.parametrize("texts", [[""], ["", "  "], []])
def test_nothing_but_empty_texts(predictor: doctune.Predictor, texts: list[str]) -> None:
    assert predictor.predict_proba(texts).tolist() == [[pytest.approx(1 / 3)] * 3] * len(texts)


def test_nothing_but_texts_without_tokens(predictor: doctune.Predictor) -> None:
    assert predictor.predict_proba(["\u200b"]).tolist() == [[pytest.approx(1 / 3)] * 3]


def test_run_directory_and_model_folder_are_the_same_model(trained: Path, predictor: doctune.Predictor) -> None:
    other = doctune.load(trained / "model")
    np.testing.assert_array_equal(other.predict_proba(TEXTS), predictor.predict_proba(TEXTS))


def test_folders_that_are_no_model(cli: Cli, trained: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    for folder, message in (
        (tmp_path / "nowhere", "no such folder; give a run directory"),
        (tmp_path, "no doctune.json, so not a model that doctune finetune made"),
        (tiny_encoder, "no doctune.json"),
        (trained.parent, "no doctune.json"),
    ):
        with pytest.raises(CheckpointError, match=message):
            doctune.load(folder)
        assert message in cli("predict", folder, "-").error


def test_a_damaged_model(trained: Path, tmp_path: Path) -> None:
    def copy(name: str, content: bytes) -> Path:
        folder = Path(shutil.copytree(trained / "model", tmp_path / "damaged"))
        assert (folder / name).is_file()
        (folder / name).write_bytes(content)
        return folder

    description = json.loads((trained / "model" / "doctune.json").read_text())
    for name, content in (
        ("doctune.json", b"{"),
        ("doctune.json", json.dumps({**description, "format": 3}).encode()),
        ("doctune.json", json.dumps({**description, "labels": ["1", "2"]}).encode()),
        ("encoder/model.safetensors", (trained / "model" / "encoder" / "model.safetensors").read_bytes()[:-50]),
        ("head.safetensors", (trained / "model" / "head.safetensors").read_bytes()[:-5]),
        ("encoder/tokenizer.json", b"{}"),
    ):
        folder = copy(name, content)
        with pytest.raises(CheckpointError) as caught:
            doctune.load(folder)
        assert name in str(caught.value) or "weights do not load" in str(caught.value)
        shutil.rmtree(folder)


def places(tree: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of everything in a tree."""
    inside = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in inside:
        yield (*path, key)
        yield from places(value, (*path, key))


def test_no_field_of_a_model_runs_code(
    cli: Cli, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Python file lies in the model's folder, and every field of doctune.json names it in turn."""
    folder = Path(shutil.copytree(trained / "model", tmp_path / "model"))
    new, ran = trained.parent / "test.csv", tmp_path / "ran"
    (folder / "reader.py").write_text(
        f"open({str(ran)!r}, 'w').close()\nclass R:\n    labels = None\n    def read(self, path, split):\n"
        f"        return iter(())\n"
    )
    monkeypatch.chdir(folder)
    description = json.loads((folder / "doctune.json").read_text())
    description["columns"] |= {"dataset": "trec", "own_reader": "MyReader", "text_pair": "body"}
    paths = list(places(description))
    assert ("columns", "dataset") in paths
    for path in paths:
        changed = copy.deepcopy(description)
        for name in ("dataset", "own_reader", "text_pair"):
            if path[-1] != name:
                del changed["columns"][name]
        within = changed
        for key in path[:-1]:
            within = within[key]
        within[path[-1]] = "reader.py:R"
        (folder / "doctune.json").write_text(json.dumps(changed))
        for use in (
            lambda: doctune.predict(folder, new),
            lambda: doctune.evaluate(folder, new),
            lambda: doctune.features(new, folder, tmp_path / "features.jsonl", token_pooling="mean"),
        ):
            with contextlib.suppress(UserError):
                use()
        assert not ran.exists(), path
    description["columns"] = {"dataset": "reader.py:R"}
    (folder / "doctune.json").write_text(json.dumps(description))
    assert "columns.dataset: 'reader.py:R' is no known data set, and code that" in cli("predict", folder, new).error
    description["columns"] = {"own_reader": "R"}
    (folder / "doctune.json").write_text(json.dumps(description))
    assert "give --dataset FILE.py:R" in cli("predict", folder, new).error
    assert not ran.exists()
    assert cli("predict", folder, new, "--dataset", "reader.py:R").code == 0
    assert ran.exists()


def test_a_bad_file(cli: Cli, trained: Path, tmp_path: Path) -> None:
    assert "no such file" in cli("predict", trained, tmp_path / "nowhere.csv").error
    (tmp_path / "new.csv").write_text(NEW + "1,2,3,4\n")
    out = tmp_path / "out.csv"
    assert "new.csv:7: 4 fields, expected 3" in cli("predict", trained, tmp_path / "new.csv", "--output", out).error
    assert not out.exists()
    with pytest.raises(ConfigError, match="encodin"):
        doctune.predict(trained, tmp_path / "new.csv", encodin="latin-1")


def test_values_of_standard_input_are_read_as_those_of_files(predictor: doctune.Predictor) -> None:
    """Nothing is no text, and not the word None; a number is written as files have it."""
    lines = '{"a": "x", "b": null}\n{"a": 3.0, "b": "y"}\n{"a": null, "b": ""}\n'
    read = read_documents(predictor.description, "-", io.StringIO(lines), text=["a"], text_pair="b")
    assert [(e.id, e.text, e.text_pair) for e in read] == [("1", "x", None), ("2", "3", "y"), ("3", "", None)]
