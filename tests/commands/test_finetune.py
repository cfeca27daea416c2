"""What a run leaves behind, and that it can be repeated."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import doctune
from doctune.errors import ConfigError, DataError, TrainingError, UserError
from doctune.report.finetuning import summary_table

Cli = Callable[..., Any]
MakeCsv = Callable[..., Path]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def weights(run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = load_file(run / "model" / "model.safetensors")
    return loaded


def same_weights(first: Path, second: Path) -> bool:
    a, b = weights(first), weights(second)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture
def tune(tiny_encoder: Path, tmp_path: Path, tiny_csv: MakeCsv) -> Callable[..., Any]:
    """Fine-tunes in Python for two short epochs into `tmp_path/NAME`."""

    def run(name: str = "run", **settings: Any) -> Any:
        given = {
            "train": str(tiny_csv(rows=60)), "test": str(tiny_csv("test.csv", rows=20)), "encoder": str(tiny_encoder),
            "output": str(tmp_path / name), "max_seq_len": 32, "epochs": 2, "batch_size": 8, "device": "cpu",
            "learning_rate": 1e-3,
        }  # fmt: skip
        return doctune.finetune(**{**given, **settings})

    return run


def test_the_run_directory(trained: Path) -> None:
    there = {path.name for path in trained.iterdir()}
    assert there == {
        "config.toml", "environment.json", "identity.json", "metrics.jsonl", "model", "predictions.jsonl",
        "report.html", "report.json", "shards",
    }  # fmt: skip
    assert {path.name for path in (trained / "model").iterdir()} == {
        "config.json", "doctune.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"
    }  # fmt: skip
    report = read(trained / "report.json")
    assert report["data"]["labels"] == ["1", "2", "3"]
    assert (report["data"]["train"], report["data"]["validation"], report["data"]["test"]) == (108, 12, 60)
    assert [record["epoch"] for record in report["epochs"]] == [1, 2, 3, 4, 5, 6]
    records = lines(trained / "metrics.jsonl")
    assert [record["kind"] for record in records if record["kind"] != "step"] == ["evaluation"] * 6 + ["test"]
    assert records[-1]["error_percent"] == report["test"]["error_percent"]


def test_predictions_are_of_the_test_set_in_its_order(trained: Path) -> None:
    rows = lines(trained / "predictions.jsonl")
    assert [row["id"] for row in rows] == [f"test.csv:{n}" for n in range(1, 61)]
    labels = [line.split(",")[0] for line in (trained.parent / "test.csv").read_text().splitlines()[1:]]
    assert [row["true_label"] for row in rows] == labels
    wrong = sum(row["label"] != row["true_label"] for row in rows)
    assert 100 * wrong / 60 == pytest.approx(read(trained / "report.json")["test"]["error_percent"])


def test_it_learns_what_can_be_learnt(trained: Path) -> None:
    report = read(trained / "report.json")
    assert report["test"]["error_percent"] < 25  # a tenth of the labels is random
    assert report["epochs"][-1]["train_loss"] < report["epochs"][0]["train_loss"]


def test_its_config_alone_repeats_a_run(trained: Path, cli: Cli, tmp_path: Path) -> None:
    done = cli("finetune", "--config", trained / "config.toml", "--output", tmp_path / "again")
    assert done.code == 0, done.err
    assert same_weights(trained, tmp_path / "again")
    assert (tmp_path / "again" / "predictions.jsonl").read_text() == (trained / "predictions.jsonl").read_text()
    assert read(tmp_path / "again" / "report.json")["test"] == read(trained / "report.json")["test"]
    assert "part" in done.out
    assert f"report  {tmp_path}/again/report.html" in done.out


def test_another_seed_is_another_run(tune: Callable[..., Any], tmp_path: Path) -> None:
    tune("a")
    tune("b")
    tune("c", seed=7)
    assert same_weights(tmp_path / "a", tmp_path / "b")
    assert not same_weights(tmp_path / "a", tmp_path / "c")


def test_several_seeds(tune: Callable[..., Any], tiny_csv: MakeCsv, tmp_path: Path) -> None:
    validation = str(tiny_csv("validation.csv", rows=20))
    report = tune("many", seeds=2, seed=7, validation=validation)
    tune("alone", seed=8, validation=validation)
    many = tmp_path / "many"
    assert report["seeds"]["seeds"] == [7, 8]
    assert [run["dir"] for run in report["seeds"]["runs"]] == ["seed-7", "seed-8"]
    assert same_weights(many / "seed-8", tmp_path / "alone")
    errors = [run["error_percent"] for run in report["seeds"]["runs"]]
    assert report["seeds"]["error_percent"]["mean"] == pytest.approx(np.mean(errors))
    assert same_weights(many, many / f"seed-{report['seeds']['details_of']}")
    assert read(many / "report.json") == json.loads(json.dumps(report))


def test_finished_seeds_outlive_a_failure(
    tune: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from doctune.commands import finetune as command

    original = command.fit

    def fails_at_8(one: Any, context: Any) -> Any:
        if one.seed == 8:
            one.folder.mkdir()
            raise TrainingError("the second seed fails")
        return original(one, context)

    monkeypatch.setattr(command, "fit", fails_at_8)
    with pytest.raises(TrainingError, match=r"fails; kept in .*run: seed-7/model, seed-7/report.json; .* --resume"):
        tune("run", seeds=2, seed=7)
    assert (tmp_path / "run" / "seed-7" / "report.json").is_file()
    assert doctune.load(tmp_path / "run" / "seed-7").labels == ("neg", "pos")


def test_a_saved_model_outlives_a_report_that_does_not_fit_on_the_disk(
    tune: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path, report: Any) -> None:
        raise UserError(f"{folder}/report.json: no space left on the disk")

    monkeypatch.setattr("doctune.commands.finetune.write_report", full)
    with pytest.raises(UserError, match="no space left"):
        tune("run")
    assert doctune.load(tmp_path / "run").labels == ("neg", "pos")


def test_without_a_test_set_the_report_says_so(tune: Callable[..., Any], tmp_path: Path) -> None:
    report = tune(test=None)
    assert report["test"] is None
    assert any("There is no test set" in warning for warning in report["warnings"])
    assert len(lines(tmp_path / "run" / "predictions.jsonl")) == report["data"]["validation"] == 6


def test_the_report_tells_of_further_pretraining(
    finetune: Cli, tiny_csv: MakeCsv, encoder_copy: Path, tmp_path: Path
) -> None:
    facts = encoder_copy / "doctune-pretraining.json"
    corpus = {"name": "reviews", "documents": 9, "left_out": {"exact": 2}, "transductive": True}
    facts.write_text(json.dumps({"base_encoder": "minilm", "steps": 40, "tokens": 5000, "corpus": corpus}))
    done = finetune(tiny_csv(), "--seeds", 2, encoder=encoder_copy)
    assert done.code == 0, done.err
    for folder in (tmp_path / "run", tmp_path / "run" / "seed-42"):
        report = read(folder / "report.json")
        assert [run["corpus"] for run in report["further_pretraining"]] == ["reviews"]
        assert report["further_pretraining"][0]["left_out"] == {"exact": 2}
        assert any("transductive" in warning for warning in report["warnings"])
        assert "Further pre-training" in (folder / "report.html").read_text()
    facts.write_text("{")
    assert "mend or remove" in finetune(tiny_csv(), encoder=encoder_copy, output=tmp_path / "other").error
    assert not (tmp_path / "other").exists()


def test_given_validation_documents(tune: Callable[..., Any], tiny_csv: MakeCsv) -> None:
    report = tune(validation=str(tiny_csv("validation.csv", rows=10)))
    assert (report["data"]["train"], report["data"]["validation"]) == (60, 10)
    assert report["data"]["validation_from"] == "given"


def test_few_labels(tune: Callable[..., Any], tmp_path: Path, tiny_csv: MakeCsv) -> None:
    report = tune("few", train_examples=20, seeds=2, epochs=1)
    reports = [read(tmp_path / "few" / f"seed-{seed}" / "report.json") for seed in (42, 43)]
    for one in (report, *reports):
        assert (one["data"]["train"], one["data"]["validation"], one["data"]["test"]) == (18, 2, 20)
        assert one["data"]["train_examples"] == {"count": 20, "of": 60}
        assert one["data"]["train_per_class"] == {"neg": 9, "pos": 9}
        assert one["data"]["validation_from"] == "held out, 10 % of the 20 chosen documents, stratified"
    assert "20 of 60 training documents" in (tmp_path / "few" / "report.html").read_text()
    assert "20 of 60 training documents" in summary_table(report)
    # Its seed draws the same documents for a run alone, and other seeds draw others.
    tune("alone", train_examples=20, seed=43, epochs=1)
    assert same_weights(tmp_path / "few" / "seed-43", tmp_path / "alone")
    given = tune("given", train_examples=20, epochs=1, validation=str(tiny_csv("validation.csv", rows=10)))
    assert (given["data"]["train"], given["data"]["validation"]) == (20, 10)
    assert given["data"]["train_examples"] == {"count": 20, "of": 60}


def test_every_seed_draws_labels_of_its_own(tune: Callable[..., Any], tmp_path: Path) -> None:
    tune(train_examples=20, seeds=2, epochs=1, test=None)
    held = [{row["id"] for row in lines(tmp_path / "run" / f"seed-{seed}" / "predictions.jsonl")} for seed in (42, 43)]
    assert held[0] != held[1]


def test_a_part_of_the_test_documents(tune: Callable[..., Any], tmp_path: Path) -> None:
    report = tune("a", test_examples=10, seeds=2, epochs=1)
    assert report["data"]["test"] == 10
    assert report["data"]["test_examples"] == {"count": 10, "of": 20}
    assert "10 of 20 test documents" in (tmp_path / "a" / "report.html").read_text()
    assert "10 of 20 test documents" in summary_table(report)
    parts = [
        [(r["id"], r["true_label"]) for r in lines(tmp_path / "a" / f"seed-{seed}" / "predictions.jsonl")]
        for seed in (42, 43)
    ]
    assert parts[0] == parts[1]
    assert sorted(label for _, label in parts[0]) == ["neg"] * 5 + ["pos"] * 5
    # More than there are is all of them.
    assert "test_examples" not in tune("b", test_examples=100, epochs=1)["data"]


@pytest.mark.parametrize(("wanted", "message"), [(1, "1, but train has 2 classes"), (61, "61, but train has 60 doc")])
def test_impossible_numbers_of_labels(tune: Callable[..., Any], tmp_path: Path, wanted: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        tune(train_examples=wanted)
    assert not (tmp_path / "run").exists()


def test_a_cache_is_used_by_later_runs(tune: Callable[..., Any], tmp_path: Path) -> None:
    tune("a", cache=str(tmp_path / "cache"))
    written = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()}
    assert sum(name.endswith(".arrow") for name in written) == 2
    tune("b", cache=str(tmp_path / "cache"), epochs=1)
    tune("c")
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cache").iterdir()} == written
    assert same_weights(tmp_path / "a", tmp_path / "c")
    assert not list((tmp_path / "b").glob("shards/*"))


def test_pairs_of_texts(tune: Callable[..., Any], tmp_path: Path) -> None:
    rows = [f"the film {i},{'great' if i % 2 else 'awful'} food,{i % 2}" for i in range(40)]
    (tmp_path / "pairs.csv").write_text("first,second,label\n" + "\n".join(rows) + "\n")
    report = tune(train=str(tmp_path / "pairs.csv"), test=None, text=("first",), text_pair="second", epochs=20)
    assert report["data"]["labels"] == ["0", "1"]
    predictor = doctune.load(tmp_path / "run")
    assert predictor.predict([("the film 1", "great food"), ("the film 1", "awful food")]) == ["1", "0"]
    assert [row["label"] for row in doctune.predict(tmp_path / "run", tmp_path / "pairs.csv")[:2]] == ["0", "1"]


@pytest.mark.parametrize(
    "settings",
    [
        {"layers": "all", "layer_pooling": "mean", "token_pooling": "mean"},
        {"layers": (0,), "token_pooling": "attention"},
        {"truncation": "tail-only", "max_seq_len": 6},
        {"packing": "padded"},
        {"tokens_per_batch": 64, "accumulation": 2, "patience": 1, "evaluations_per_epoch": 2},
        {"optimizer": "bert-adam", "schedule": "warmup-linear", "layerwise": "three-group"},
        {"class_weights": "balanced", "label_smoothing": 0.1},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_a_recipe_is_the_same_in_training_and_in_use(
    tune: Callable[..., Any], tmp_path: Path, settings: dict[str, Any]
) -> None:
    report = tune(**settings)
    again = doctune.evaluate(tmp_path / "run", tmp_path / "test.csv")
    assert again.error_percent == report["test"]["error_percent"]
    assert again.loss == pytest.approx(report["test"]["loss"], rel=1e-3)


def test_settings_in_python(tune: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="epoch: no such setting; did you mean 'epochs'"):
        tune(epoch=1)
    with pytest.raises(ConfigError, match=r"training\.epochs: give a number above 0"):
        tune(epochs=0)
    assert not (tmp_path / "run").exists()
