"""A model's figures on labelled documents."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import doctune
from doctune.errors import DataError

Cli = Callable[..., Any]


def report_of(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((run / "report.json").read_text())
    return loaded


@pytest.mark.parametrize("inner", ["", "model"])
def test_the_test_set_again(trained: Path, inner: str) -> None:
    reported = report_of(trained)["test"]
    metrics = doctune.evaluate(trained / inner, trained.parent / "test.csv")
    assert 0 < metrics.error_percent == reported["error_percent"] < 50
    assert metrics.to_json()["confusion"] == reported["confusion"]
    assert metrics.loss == pytest.approx(reported["loss"], rel=1e-6)
    assert 0 < metrics.count == report_of(trained)["data"]["test"]


def test_the_command(cli: Cli, trained: Path, tmp_path: Path) -> None:
    figures, predictions = tmp_path / "figures.json", tmp_path / "predictions.jsonl"
    test = trained.parent / "test.csv"
    done = cli("evaluate", trained, test, "--output", figures, "--predictions", predictions)
    assert done.code == 0, done.err
    reported = report_of(trained)["test"]
    written = json.loads(figures.read_text())
    assert (written["error_percent"], written["confusion"]) == (reported["error_percent"], reported["confusion"])
    assert f"error       {reported['error_percent']:.2f} %" in done.out
    assert all(f"\n{row['name']}" in done.out for row in reported["per_class"])
    assert predictions.read_text() == (trained / "predictions.jsonl").read_text()
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert 100 * np.mean([row["label"] != row["true_label"] for row in rows]) == pytest.approx(written["error_percent"])


def test_other_columns(trained: Path, tmp_path: Path) -> None:
    rows = ["stars\tscore\treview", "1\t3\tgreat film", "2\t1\tbad film", "3\t2\tthe film"]
    (tmp_path / "new.tsv").write_text("\n".join(rows) + "\n")
    with pytest.raises(DataError, match="no column 'title'"):
        doctune.evaluate(trained, tmp_path / "new.tsv")
    metrics = doctune.evaluate(trained, tmp_path / "new.tsv", text=("review",), label="score")
    assert metrics.count == 3


def test_an_unknown_class(cli: Cli, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("title,body,stars\ngreat,film,3\nbad,film,9\n")
    with pytest.raises(DataError, match=r"class '9' \(1 documents, first new.csv:2\) does not occur in training"):
        doctune.evaluate(trained, tmp_path / "new.csv")
    figures = tmp_path / "figures.json"
    done = cli("evaluate", trained, tmp_path / "new.csv", "--output", figures)
    assert "class '9'" in done.error
    assert not figures.exists()


def test_an_unknown_class_is_counted_where_that_is_asked_for(cli: Cli, trained: Path, tmp_path: Path) -> None:
    lines = (trained.parent / "test.csv").read_text().splitlines()
    (tmp_path / "new.csv").write_text("\n".join([*lines, "9,bad,film", "10,bad,film"]) + "\n")
    assert "give --unseen-labels count" in cli("evaluate", trained, tmp_path / "new.csv").error
    figures, predictions = tmp_path / "figures.json", tmp_path / "predictions.jsonl"
    done = cli(
        "evaluate", trained, tmp_path / "new.csv", "--unseen-labels", "count", "--output", figures,
        "--predictions", predictions, "--against", trained,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "2 documents of classes that training lacks ('9', '10') count as errors" in done.err
    assert "unseen      2 of classes that training lacks" in done.out
    assert "+0.00 points of error" in done.out
    written, reported = json.loads(figures.read_text()), report_of(trained)["test"]
    errors = round(reported["error_percent"] * reported["count"] / 100) + 2
    assert written["error_percent"] == pytest.approx(100 * errors / (reported["count"] + 2))
    assert (written["unseen"], written["loss"]) == (2, pytest.approx(reported["loss"], rel=1e-6))
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert [row["true_label"] for row in rows[-2:]] == ["9", "10"]
    assert sum(row["label"] != row["true_label"] for row in rows) == errors


def test_no_documents(cli: Cli, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("title,body,stars\n , ,3\n")
    assert "test: every document is empty" in cli("evaluate", trained, tmp_path / "new.csv").error


def test_empty_documents_are_counted(cli: Cli, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "new.csv").write_text("title,body,stars\n , ,3\ngreat,film,3\n")
    done = cli("evaluate", trained, tmp_path / "new.csv")
    assert "1 empty document" in done.out + done.err


def test_a_model_trained_in_another_precision(trained: Path, trained_in: Callable[[str], Path]) -> None:
    run = trained_in("fp32")
    reported = report_of(run)["test"]
    metrics = doctune.evaluate(run, trained.parent / "test.csv")
    assert metrics.error_percent == reported["error_percent"]
