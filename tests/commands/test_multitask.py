"""`doctune multitask`, on tasks of a telling word each."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import doctune
from doctune import seeding
from doctune.cli import main
from doctune.config import read_toml
from doctune.encoders.load import load_encoder
from doctune.errors import ConfigError, DataError
from doctune.evaluation.comparison import read_answers
from doctune.models.classifier import build_classifier
from doctune.settings import EncoderSettings, MultitaskSettings, from_flat

TASKS = {"films": ("neg", "pos"), "news": ("awful", "great", "goal")}
SECONDS_TO_WAIT = 120
"""How long a run may take to reach the point at which it is killed."""


@pytest.fixture
def tasks(tiny_csv: Callable[..., Path]) -> list[dict[str, Any]]:
    """Two tasks with test files; a test text is none of the training texts."""
    made = []
    for number, (name, classes) in enumerate(TASKS.items()):
        train = tiny_csv(f"{name}.csv", 24 + 12 * number, classes)
        test = train.with_name(f"{name}-test.csv")
        lines = train.read_text().splitlines()
        rows = [line.replace("the film", f"{name} is not").replace(" is ", " was ") for line in lines[1:13]]
        test.write_text("\n".join([lines[0], *rows]) + "\n")
        made.append({"name": name, "data": {"train": str(train), "test": str(test)}})
    return made


@pytest.fixture
def settings(tiny_encoder: Path, tasks: list[dict[str, Any]], tmp_path: Path) -> dict[str, Any]:
    return {
        "tasks": tasks, "encoder": str(tiny_encoder), "output": str(tmp_path / "run"), "epochs": 3,
        "max_seq_len": 32, "batch_size": 4, "learning_rate": 1e-3, "device": "cpu", "precision": "fp32",
        "continuation_epochs": 1,
    }  # fmt: skip


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """All weights of a model, whether its head is transformers' own or has a file of its own."""
    files = [load_file(file) for file in sorted((folder / "model").rglob("*.safetensors"))]
    return {name: tensor for file in files for name, tensor in file.items()}


def test_files_and_figures(settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = doctune.multitask(**settings)
    run = tmp_path / "run"
    assert json.loads((run / "multitask.json").read_text()) == report
    for name in ("config.toml", "environment.json", "metrics.jsonl", "multitask.md", "multitask.html", "leaks.jsonl"):
        assert (run / name).is_file(), name
    assert not list(run.glob("**/checkpoint"))
    assert [task["name"] for task in report["tasks"]] == list(TASKS)
    for task, classes in zip(report["tasks"], TASKS.values(), strict=True):
        assert task["labels"] == sorted(classes)
        assert task["documents"] == 3 * task["train"]
        for stage in ("joint", "continued"):
            section: Any = task[stage]  # type: ignore[literal-required]
            folder = run / stage / task["name"]
            assert section["run"] == f"{stage}/{task['name']}"
            own = json.loads((folder / "report.json").read_text())
            assert own["test"]["error_percent"] == section["error_percent"]
            assert own["test"]["error_percent"] == pytest.approx(100 * (1 - read_answers(folder).correct.mean()))
            assert own["data"]["train"] == task["train"]
            assert (folder / "report.html").is_file()
            measured = doctune.evaluate(folder, settings["tasks"][list(TASKS).index(task["name"])]["data"]["test"])
            assert measured.error_percent == pytest.approx(section["error_percent"])
            assert measured.loss == pytest.approx(own["test"]["loss"], abs=1e-3)  # in bf16 where there is one
    assert set(report["mean_error_percent"]) == {"joint", "continued"}
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert records[0]["task"] in TASKS
    assert {r["task"] for r in records if r["kind"] == "test"} == set(TASKS)
    evaluations = [r for r in records if r["kind"] == "evaluation"]
    assert len(evaluations) == 3
    for name in TASKS:
        own = json.loads((run / "joint" / name / "report.json").read_text())
        best = max(range(3), key=lambda i: (evaluations[i][f"{name}/validation_accuracy"], i))
        assert own["best"]["step"] == evaluations[best]["step"]
        assert own["epochs"][best]["validation"]["loss"] == pytest.approx(own["validation"]["loss"])
    joint, alone = (json.loads((run / s / "films" / "report.json").read_text()) for s in ("joint", "continued"))
    rates = [one["learning_rates"][0]["learning_rate"] for one in (joint, alone)]
    assert rates == [1e-3, 5e-4]
    assert alone["recipe"]["epochs"] == 1
    assert alone["epochs"][0]["step"] == -(-alone["data"]["train"] // 4)


def test_the_config_repeats_the_run(settings: dict[str, Any], tmp_path: Path) -> None:
    doctune.multitask(**settings)
    run, again = tmp_path / "run", tmp_path / "again"
    assert read_toml(run / "config.toml")["continuation"] == {"epochs": 1.0, "learning_rate": 5e-4}
    doctune.multitask(run / "config.toml", output=str(again))
    for folder in sorted(run.glob("*/*/model/**/*.safetensors")):
        assert folder.read_bytes() == (again / folder.relative_to(run)).read_bytes()


def test_both_tasks_share_their_encoder_where_the_same_epoch_is_best(settings: dict[str, Any], tmp_path: Path) -> None:
    doctune.multitask(**settings, select="last", continuation_learning_rate=1e-2)
    films, news = (weights(tmp_path / "run" / "joint" / name) for name in TASKS)
    assert films["classifier.weight"].shape == (2, 32)
    assert news["classifier.weight"].shape == (3, 32)
    shared = [name for name in films if not name.startswith("classifier")]
    assert all(torch.equal(films[name], news[name]) for name in shared)
    after = weights(tmp_path / "run" / "continued" / "films")
    assert not torch.equal(after["classifier.weight"], films["classifier.weight"])


def test_without_continuation_and_without_test_data(settings: dict[str, Any], tmp_path: Path) -> None:
    for task in settings["tasks"]:
        task["data"].pop("test")
    report = doctune.multitask(**{**settings, "continuation_epochs": 0, "epochs": 1})
    assert not (tmp_path / "run" / "continued").exists()
    for task in report["tasks"]:
        assert (task["continued"], task["difference"], task["kept"], task["part"]) == (
            None,
            None,
            "joint",
            "validation",
        )
    assert report["mean_error_percent"].keys() == {"joint"}
    assert "There is no test set" in (tmp_path / "run" / "multitask.md").read_text()


def test_test_texts_are_left_out_of_every_tasks_training(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films = Path(settings["tasks"][0]["data"]["train"])
    test = Path(settings["tasks"][1]["data"]["test"])
    stolen = films.read_text().splitlines()[1].rpartition(",")[0]
    test.write_text(test.read_text() + f"{stolen},great\n")
    report = doctune.multitask(**{**settings, "epochs": 1, "continuation_epochs": 0})
    assert (
        "films: left out 1 training document that is, or nearly is, in a test set (news 1)" in capsys.readouterr().err
    )
    # tiny_csv gives both tasks' files the same first rows, but for the telling word.
    assert [task["left_out"] for task in report["tasks"]] == [{"news": 1}, {"news": 1}]
    leaks = [json.loads(line) for line in (tmp_path / "run" / "leaks.jsonl").read_text().splitlines()]
    assert leaks[0] == {
        "task": "films", "id": "films.csv:1", "test_task": "news", "test_id": "news-test.csv:13", "reason": "exact",
        "similarity": 1.0,
    }  # fmt: skip
    assert any("leak guard" in warning for warning in report["warnings"])
    kept = doctune.multitask(
        **{**settings, "epochs": 1, "continuation_epochs": 0, "output": str(tmp_path / "kept")}, leak_guard=False
    )
    assert [task["left_out"] for task in kept["tasks"]] == [{}, {}]
    assert kept["tasks"][0]["train"] + kept["tasks"][0]["validation"] == 24


def test_killed_and_resumed(settings: dict[str, Any], tiny_encoder: Path, tmp_path: Path) -> None:
    """In the joint training, and in the continuation of the second task."""
    arguments = [
        "multitask", *(f"--task={t['name']}={t['data']['train']},{t['data']['test']}" for t in settings["tasks"]),
        "--encoder", str(tiny_encoder), "--max-seq-len", "32", "--batch-size", "2", "--epochs", "4",
        "--continuation-epochs", "4", "--precision", "fp32", "--checkpoint-minutes", "0", "--select", "loss",
    ]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--output", str(whole)])
    assert stopped.value.code == 0
    for place in ("checkpoint", "continued/news/checkpoint"):
        resume = ["--resume"] if killed.exists() else []
        with subprocess.Popen(
            [sys.executable, "-m", "doctune", *arguments, "--output", str(killed), *resume],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ) as process:  # fmt: skip
            state, deadline = killed / place / "state.json", time.monotonic() + SECONDS_TO_WAIT
            while process.poll() is None and not state.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert not (killed / "multitask.json").exists(), "it finished before it was killed"
    with pytest.raises(ConfigError, match=r"tasks: not those of the run"):
        doctune.multitask(killed / "config.toml", tasks=settings["tasks"][::-1], output=str(killed), resume=True)
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--output", str(killed), "--resume"])
    assert stopped.value.code == 0
    assert len(list(whole.glob("*/*/model"))) == 4
    for file in whole.glob("*/*/model/**/*.safetensors"):
        assert (killed / file.relative_to(whole)).read_bytes() == file.read_bytes()
    ours, theirs = (json.loads((folder / "multitask.json").read_text())["tasks"] for folder in (killed, whole))
    for task in (*ours, *theirs):
        for stage in ("joint", "continued"):
            task[stage].pop("train_seconds")
    assert ours == theirs


def test_the_command_line(
    cli: Callable[..., Any], settings: dict[str, Any], tiny_encoder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "tasks.toml"
    parts = [
        f'[[tasks]]\nname = "{t["name"]}"\ndata = {{ train = "{t["data"]["train"]}", test = "{t["data"]["test"]}" }}\n'
        for t in settings["tasks"]
    ]
    config.write_text("".join(parts) + "truncation = { max_seq_len = 16 }\n")
    flags = ["--encoder", tiny_encoder, "--output", tmp_path / "run", "--epochs", 1, "--max-seq-len", 24]
    shown = cli("multitask", "--config", config, *flags, "--dry-run", "--mixture", "temperature").out
    # 22 and 32 documents to train on: sqrt(22) / (sqrt(22) + sqrt(32)) of 54.
    assert "# films: 24 of 22 documents, 45.3 % of all" in shown
    assert "joint steps" in shown
    assert not (tmp_path / "run").exists()
    done = cli("multitask", "--config", config, *flags)
    assert done.code == 0
    assert f"report  {tmp_path / 'run'}/multitask.html" in done.out
    assert max(map(len, done.out.splitlines()[:8])) <= 100
    for name, length in (("films", 24), ("news", 16)):
        description = json.loads((tmp_path / "run" / "continued" / name / "model" / "doctune.json").read_text())
        assert description["truncation"]["max_seq_len"] == length


def test_attention_over_windows_is_trained_and_saved(
    settings: dict[str, Any], tiny_encoder: Path, tmp_path: Path
) -> None:
    """The saved weights are neither those that were drawn nor those of the other stage, and what answers has them."""
    windows = {"truncation": "windows", "window_pooling": "attention", "max_seq_len": 8}
    doctune.multitask(**{**settings, **windows, "layerwise": "none"})
    torch.manual_seed(seeding.derive(42, "new layers"))
    loaded = load_encoder(tiny_encoder, EncoderSettings(encoder="x"), (-1,))
    for name, classes in TASKS.items():
        drawn = build_classifier(loaded, "pooler", "concat", len(classes), window_pooling="attention").task
        states = [weights(tmp_path / "run" / stage / name) for stage in ("joint", "continued")]
        assert drawn.window_pooling is not None
        for parameter, start in drawn.window_pooling.named_parameters():
            stored = [state[f"window_pooling.{parameter}"] for state in states]
            if parameter.endswith("linear_second.bias"):
                continue  # softmax does not see it
            assert not torch.equal(stored[0], start.detach()), parameter
            assert not torch.equal(stored[1], stored[0]), parameter


@pytest.mark.parametrize("shared", ["head+tail", "windows"])
def test_one_task_in_windows_and_one_without(settings: dict[str, Any], shared: str, tmp_path: Path) -> None:
    films, news = settings["tasks"]
    if shared == "windows":
        changes: dict[str, Any] = {"truncation": "windows", "overlap": 2}
        tasks = [films, {**news, "truncation": {"truncation": "head-only"}}]
    else:
        changes, tasks = {}, [{**films, "truncation": {"truncation": "windows", "overlap": 2}}, news]
    doctune.multitask(**{**settings, **changes, "tasks": tasks, "window_pooling": "max", "max_seq_len": 8})
    run = tmp_path / "run"
    read = {}
    for name in ("films", "news"):
        for stage in ("joint", "continued"):
            told = json.loads((run / stage / name / "model" / "doctune.json").read_text())
            read[name, stage] = (
                told["truncation"]["truncation"],
                told["truncation"]["overlap"],
                told["window_pooling"],
            )
    without = "head-only" if shared == "windows" else "head+tail"
    assert {value for (name, _), value in read.items() if name == "films"} == {("windows", 2, "max")}
    assert {value for (name, _), value in read.items() if name == "news"} == {(without, 0, "mean")}
    assert '"windows"' in (run / "continued" / "films" / "predictions.jsonl").read_text()


def test_unseen_labels_of_one_task(
    settings: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    films, news = settings["tasks"]
    test = Path(films["data"]["test"])
    test.write_text(test.read_text() + "a film of another kind,unheard\n")
    with pytest.raises(DataError, match=r"^task films: test: class 'unheard' .*--unseen-labels count$"):
        doctune.multitask(**settings)
    tasks = [{**films, "target": {"unseen_labels": "count"}}, news]
    doctune.multitask(**{**settings, "tasks": tasks, "continuation_epochs": 0, "epochs": 1})
    line = "test: 1 document of a class that training lacks ('unheard') counts as an error"
    assert capsys.readouterr().err.count(line) == 1
    reports = {name: json.loads((tmp_path / "run/joint" / name / "report.json").read_text()) for name in TASKS}
    assert reports["films"]["test"]["unseen"] == 1
    assert f"{line}." in reports["films"]["warnings"]
    assert "unseen" not in reports["news"]["test"]
    test = Path(news["data"]["test"])
    test.write_text(test.read_text() + "news of another kind,unheard\n")
    again = {**settings, "tasks": tasks, "output": str(tmp_path / "again")}
    with pytest.raises(DataError, match="task news: test: class"):
        doctune.multitask(**again)
    shared = MultitaskSettings.build(from_flat({**settings, "unseen_labels": "count"}, MultitaskSettings))
    assert [shared.task(task).target.unseen_labels for task in shared.tasks] == ["count", "count"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": []}, "tasks: 0 given, two or more are needed"),
        ({"seeds": 2}, r"training\.seeds: doctune multitask runs one seed"),
        ({"temperature": 3}, "--temperature is for --mixture temperature"),
        ({"class_weights": [1.0, 2.0]}, r"task news: training\.class_weights: 2 weights for 3 classes"),
        ({"max_seq_len": 4096}, r"truncation\.max_seq_len: 4096 is more than"),
        ({"continuation_rate": 1}, "continuation_rate: no such setting"),
        ({"window_pooling": "max"}, r"features\.window_pooling: max is for truncation = windows, which no task has"),
        ({"layers": [7]}, r"features\.layers: layer 7 does not exist"),
    ],
)
def test_bad_settings(settings: dict[str, Any], changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        doctune.multitask(**{**settings, **changes})
    assert not (tmp_path / "run").exists()


def test_bad_tasks(settings: dict[str, Any], cli: Callable[..., Any], tmp_path: Path) -> None:
    films, news = settings["tasks"]
    for bad, message in (
        ([films, {**news, "name": "films"}], "two are called 'films'"),
        ([films, {**news, "name": "a/b"}], r"tasks\.1\.name: a task's name is made of letters"),
        ([films, {**news, "data": {}}], r"tasks\.1\.data: no training data"),
    ):
        with pytest.raises(ConfigError, match=message):
            doctune.multitask(**{**settings, "tasks": bad})
    gone = {"name": "gone", "data": {"train": str(tmp_path / "gone.csv")}}
    with pytest.raises(DataError, match=r"^task gone: .*gone\.csv: no such file"):
        doctune.multitask(**{**settings, "tasks": [films, gone]})
    assert not (tmp_path / "run").exists()
    assert cli("multitask", "--task", "films").error.startswith("--task films: write NAME=DATASET:FOLDER")
    error = cli("multitask", "--task", "films=imbd:IMDB").error
    assert error == "--task films=imbd:IMDB: no such file, and no data set 'imbd'; did you mean 'imdb'?"


def test_a_continuation_begins_with_the_jointly_trained_model(settings: dict[str, Any], tmp_path: Path) -> None:
    """At next to no rate it ends where it began."""
    doctune.multitask(**{**settings, "epochs": 1, "continuation_learning_rate": 1e-30, "weight_decay": 0.0})
    for name in TASKS:
        joint, continued = (weights(tmp_path / "run" / stage / name) for stage in ("joint", "continued"))
        assert all(torch.equal(continued[key], tensor) for key, tensor in joint.items())
