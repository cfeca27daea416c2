"""`doctune compare`: equal runs but for their encoder, each once, and what is refused."""

from __future__ import annotations

import json
import shutil
import tomllib
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import doctune
from doctune.commands.compare import compare, names
from doctune.encoders.scratch import bert_config, new_bert
from doctune.errors import CheckpointError, ConfigError

Cli = Callable[..., Any]
MakeCsv = Callable[..., Path]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def adapted(tiny_encoder: Path, tmp_path: Path) -> Callable[..., Path]:
    """A folder with an encoder of the same shape as the tiny one and other weights, or with the very same ones."""

    def make(name: str, seed: int | None = 7, vocabulary: str = "", **facts: Any) -> Path:
        folder = tmp_path / name
        shutil.copytree(tiny_encoder, folder)
        if vocabulary:
            with (folder / "vocab.txt").open("a", encoding="utf-8") as file:
                file.write(vocabulary + "\n")
        if seed is not None or vocabulary:
            size = len((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
            new_bert(folder, bert_config(size, 2, 32, 128, 8), seed=seed or 0)
        if facts:
            (folder / "doctune-pretraining.json").write_text(json.dumps(facts))
        return folder

    return make


@pytest.fixture
def run(cli: Cli, tiny_csv: MakeCsv, tiny_encoder: Path, tmp_path: Path) -> Cli:
    """Runs `doctune compare` with tiny settings into `tmp_path/out`."""
    train, test = tiny_csv(rows=40), tiny_csv("test.csv", rows=20)

    def go(*folders: object, flags: tuple[object, ...] = (), test: object = test, seeds: int = 2) -> Any:
        given = ("--test", test) if test else ()
        return cli(
            "compare", "--encoder", tiny_encoder, "--train", train, *given, "--output", tmp_path / "out", "--epochs", 1,
            "--max-seq-len", 32, "--batch-size", 8, "--device", "cpu", "--precision", "fp32", "--seeds", seeds,
            *(("--adapted", *folders) if folders else ()), *flags,
        )  # fmt: skip

    return go


def test_unseen_labels_are_errors_of_every_run(run: Cli, adapted: Callable[..., Path], tmp_path: Path) -> None:
    test = tmp_path / "other.csv"
    test.write_text((tmp_path / "test.csv").read_text() + "a film of another kind,unheard\n")
    assert "give --unseen-labels count" in run(adapted("one"), test=test).error
    done = run(tmp_path / "one", test=test, flags=("--unseen-labels", "count"), seeds=1)
    assert done.code == 0, done.err
    for name in ("base", "one"):
        report = read(tmp_path / "out" / name / "report.json")
        assert report["test"]["unseen"] == 1
        last = json.loads((tmp_path / "out" / name / "predictions.jsonl").read_text().splitlines()[-1])
        assert (last["true_label"], last["label"] in ("neg", "pos")) == ("unheard", True)


def test_runs_differ_in_nothing_but_their_encoder(run: Cli, adapted: Callable[..., Path], tmp_path: Path) -> None:
    one = adapted("one", steps=100, tokens=5000, seconds=61.0, corpus={"name": "films", "documents": 40})
    two = adapted("two", seed=8, steps=200)
    done = run(one, two)
    assert done.code == 0, done.err
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {
        "base", "one", "two", "tokenised", "compare.json", "compare.html", "compare.md", "error-by-steps.svg"
    }  # fmt: skip
    configs = [tomllib.loads((out / name / "config.toml").read_text()) for name in ("base", "one", "two")]
    assert [config["encoder"].pop("encoder") for config in configs][1:] == [str(one), str(two)]
    assert {config.pop("output") for config in configs} == {str(out / name) for name in ("base", "one", "two")}
    assert configs[0] == configs[1] == configs[2]
    # Equal tokenizers: the documents are tokenised once.
    assert len(list((out / "tokenised").glob("*.arrow"))) == 2
    made = read(out / "compare.json")
    assert [encoder["name"] for encoder in made["adapted"]] == ["one", "two"]
    for encoder in (made["base"], *made["adapted"]):
        report = read(out / encoder["name"] / "report.json")
        assert encoder["error_percent"] == report["seeds"]["error_percent"]
        assert len(encoder["train_seconds"]) == 2
    assert made["adapted"][0]["pretraining"]["corpus"]["name"] == "films"
    assert made["adapted"][1]["pretraining"]["seconds"] is None
    plot = ElementTree.parse(out / "error-by-steps.svg").getroot()
    assert len(plot.findall("{http://www.w3.org/2000/svg}circle")) == 3
    assert f"report  {out}/compare.html" in done.out
    assert "one: " in done.out
    assert not any("tokenizer" in warning for warning in made["warnings"])


def test_identical_encoders_do_not_differ(run: Cli, adapted: Callable[..., Path], tmp_path: Path) -> None:
    done = run(adapted("same", seed=None))
    assert done.code == 0, done.err
    versus = read(tmp_path / "out" / "compare.json")["adapted"][0]["against_base"]
    assert (versus["points"], versus["by_seed"], versus["verdict"]) == (0.0, [0.0, 0.0], "no difference")
    assert versus["low"] <= 0 <= versus["high"]
    assert "same: no difference that these runs can tell" in done.out
    assert "not known" in done.out  # the cost of a pre-training that the folder does not tell


def test_few_labels_and_no_test_set(run: Cli, adapted: Callable[..., Path], tmp_path: Path) -> None:
    done = run(adapted("one"), flags=("--train-examples", 20), test=None, seeds=2)
    assert done.code == 0, done.err
    made = read(tmp_path / "out" / "compare.json")
    assert made["part"] == "validation"
    assert made["data"]["train_examples"] == {"count": 20, "of": 40}
    assert "20 of 40 labelled documents" in done.out
    assert "each seed draws its own labels" in done.out
    assert "warning: There is no test set" in done.out
    for seed in (42, 43):
        first, second = (
            [json.loads(line)["id"] for line in path.read_text().splitlines()]
            for path in sorted((tmp_path / "out").glob(f"*/seed-{seed}/predictions.jsonl"))
        )
        assert first == second


def test_a_killed_comparison_goes_on_and_repeats_nothing(
    run: Cli, adapted: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from doctune.commands import finetune as command

    one, two, out, original = adapted("one"), adapted("two", seed=8), tmp_path / "out", command.fit
    fitted: list[str] = []

    def fit(one: Any, context: Any) -> Any:
        fitted.append(f"{one.folder.parent.name}/{one.folder.name}")
        return original(one, context)

    def killed(*args: Any) -> Any:
        if fitted[-1:] == ["one/seed-42"]:
            raise KeyboardInterrupt
        return fit(*args)

    monkeypatch.setattr(command, "fit", killed)
    assert run(one).code == 130
    assert fitted == ["base/seed-42", "base/seed-43", "one/seed-42"]
    assert "--resume" in run(one).error
    monkeypatch.setattr(command, "fit", fit)
    assert "batch_size: 4, but the run in" in run(one, flags=("--resume", "--batch-size", 4)).error
    before = {path: path.stat().st_mtime_ns for path in out.glob("*/seed-*/report.json")}
    assert run(one, flags=("--resume",)).code == 0
    assert fitted[3:] == ["one/seed-43"]
    first = read(out / "compare.json")

    # Finished: nothing is run; another checkpoint: only that.
    assert run(one, flags=("--resume",)).code == 0
    assert run(one, two, flags=("--resume",)).code == 0
    assert fitted[4:] == ["two/seed-42", "two/seed-43"]
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert read(out / "compare.json")["adapted"][0] == first["adapted"][0]
    # More seeds: only those.
    assert run(one, two, flags=("--resume",), seeds=3).code == 0
    assert fitted[6:] == ["base/seed-44", "one/seed-44", "two/seed-44"]
    assert "training.seeds: 2, but the run in" in run(one, two, flags=("--resume",)).error


def test_a_finished_run_of_the_base_encoder_is_used(
    run: Cli, adapted: Callable[..., Path], tiny_csv: MakeCsv, tiny_encoder: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {
        "train": str(tmp_path / "train.csv"), "test": str(tmp_path / "test.csv"), "encoder": str(tiny_encoder),
        "epochs": 1, "max_seq_len": 32, "batch_size": 8, "device": "cpu", "precision": "fp32",
    }  # fmt: skip
    one = adapted("one")
    doctune.finetune(**settings, output=str(tmp_path / "before"), seeds=2)
    assert run(one, flags=("--base-run", tmp_path / "before")).code == 0
    assert not (tmp_path / "out" / "base").exists()
    assert read(tmp_path / "out" / "compare.json")["base"]["run"] == str(tmp_path / "before")
    shutil.rmtree(tmp_path / "out")
    assert "seeds: 1, but the run" in run(one, flags=("--base-run", tmp_path / "before"), seeds=1).error
    assert "no finished run with 2 seeds" in run(one, flags=("--base-run", tmp_path / "nowhere")).error
    other = run(one, flags=("--base-run", tmp_path / "before", "--learning-rate", 1e-3)).error
    assert "optimizer.learning_rate: 0.001, but the run in" in other
    assert not (tmp_path / "out").exists()


def test_another_tokenizer_is_said(run: Cli, adapted: Callable[..., Path], tmp_path: Path) -> None:
    assert run(adapted("words", vocabulary="filmy")).code == 0
    warnings = read(tmp_path / "out" / "compare.json")["warnings"]
    assert any(warning.startswith("words: another tokenizer") for warning in warnings)
    assert len(list((tmp_path / "out" / "tokenised").glob("*.arrow"))) == 4


def test_what_is_refused_before_anything_runs(
    run: Cli, adapted: Callable[..., Path], tiny_encoder: Path, tiny_csv: MakeCsv, tmp_path: Path
) -> None:
    one, damaged = adapted("one"), adapted("damaged", steps="many")
    broken = adapted("broken")
    (broken / "config.json").unlink()
    for folders, message in (
        ((), "--adapted: must be given"),
        ((tmp_path / "nowhere",), f"--adapted {tmp_path / 'nowhere'}: no such folder; give folders"),
        ((tiny_csv(),), f"--adapted {tmp_path / 'train.csv'}: is a file"),
        ((one, tmp_path / "broken" / ".." / "one"), "is given twice; give each encoder once"),
        ((tiny_encoder,), "is the base encoder itself"),
        ((one, broken), "broken"),
        ((one, damaged), "doctune-pretraining.json: steps"),
    ):
        assert message in run(*folders).error
        assert not (tmp_path / "out").exists()
    assert "no column 'words'" in run(one, flags=("--text", "words")).error
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    assert "1, but train has 2 classes" in run(one, flags=("--train-examples", 1)).error
    assert list((tmp_path / "out").iterdir()) == []


def test_an_output_with_something_in_it_is_left_alone(run: Cli, adapted: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("years of work")
    one = adapted("one")
    for flags in ((), ("--resume",)):
        assert "is not empty" in run(one, flags=flags).error
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["precious.txt"]


def test_a_dry_run_lists_the_runs(run: Cli, adapted: Callable[..., Path], tiny_encoder: Path, tmp_path: Path) -> None:
    one = adapted("one")
    done = run(one, flags=("--dry-run", "--train-examples", 20))
    assert done.code == 0
    assert "# labels: 20 of 40 training documents" in done.out
    assert f"# {tmp_path}/out/base: {tiny_encoder}\n# {tmp_path}/out/one: {one}\n" in done.out
    assert not (tmp_path / "out").exists()
    assert "given twice" in run(one, one, flags=("--dry-run",)).error


def test_names_tell_runs_apart() -> None:
    def named(*folders: str) -> list[str]:
        return names([Path(folder) for folder in folders])

    assert named("/runs/a", "/runs/b") == ["a", "b"]
    assert named("/runs/a/step-10", "/runs/b/step-10") == ["step-10", "b-step-10"]
    assert named("/runs/imdb/model", "/runs/base") == ["imdb-model", "runs-base"]
    assert len(set(named("/a/b-c", "/x/b-c", "/x-b-c", "/y/x-b-c"))) == 4


def test_from_python(adapted: Callable[..., Path], tiny_csv: MakeCsv, tiny_encoder: Path, tmp_path: Path) -> None:
    settings = {"train": str(tiny_csv()), "encoder": str(tiny_encoder), "output": str(tmp_path / "out"), "epochs": 1}
    made = compare(**settings, adapted=[adapted("one")])
    assert made["adapted"][0]["name"] == "one"
    assert any("one seed only" in warning for warning in made["warnings"])
    with pytest.raises(ConfigError, match="is not empty"):
        compare(**settings, adapted=[adapted("two")])
    (tmp_path / "two" / "doctune-pretraining.json").write_text("[]")
    with pytest.raises(CheckpointError, match="the file: Input should be"):
        compare(**settings, adapted=[tmp_path / "two"], resume=True)
