"""Settings that are unknown, contradict each other or the data, and places that cannot be written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]
MakeCsv = Callable[..., Path]
Fails = Callable[..., str]


@pytest.fixture
def fails(finetune: Cli, tiny_csv: MakeCsv, tmp_path: Path) -> Fails:
    """The error of fine-tuning with these flags, which must leave no output directory."""

    def run(*flags: object) -> str:
        error: str = finetune(tiny_csv(), *flags).error
        assert not (tmp_path / "run").exists()
        return error

    return run


def config(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_unknown_settings(fails: Fails, tmp_path: Path) -> None:
    for text, message in (
        (
            "[optimizer]\nlearning_rat = 1e-4\n",
            "optimizer.learning_rat: no such setting; did you mean 'learning_rate'?",
        ),
        ("[optimiser]\nlearning_rate = 1e-4\n", "optimiser: no such setting; did you mean 'optimizer'?"),
        ("[training]\nxyzzy = 1\n", "training.xyzzy: no such setting; there is epochs, "),
    ):
        assert message in fails("--config", config(tmp_path, text))
    assert "trainin.epochs" not in fails("--set", "trainin.epochs=1")
    assert "did you mean 'training'?" in fails("--set", "trainin.epochs=1")


def test_bad_toml(fails: Fails, tmp_path: Path) -> None:
    assert "config.toml: not a TOML file" in fails("--config", config(tmp_path, "[training\nepochs = 1\n"))
    (tmp_path / "config.toml").write_bytes(b"[data]\ntrain = 'caf\xe9'\n")
    assert "config.toml: not a TOML file" in fails("--config", tmp_path / "config.toml")
    assert "nowhere.toml: no such config file" in fails("--config", tmp_path / "nowhere.toml")
    assert "write section.name=value" in fails("--set", "epochs=3")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--epochs", "0"], "training.epochs: give --epochs a number above 0, found '0'"),
        (["--epochs", "many"], "training.epochs: give --epochs a number above 0, found 'many'"),
        (["--batch-size", "2.5"], "training.batch_size: give --batch-size a whole number from 1, found '2.5'"),
        (["--seed", "x"], "training.seed"),
        (["--warmup", "1.5"], "schedule.warmup: give --warmup a number from 0 and below 1"),
        (["--validation-fraction", "0"], "data.validation_fraction"),
        (["--head-tokens", "30"], "truncation.head_tokens: 30 leaves no tail in the 30 tokens"),
        (["--max-seq-len", "2"], "truncation.max_seq_len"),
        (["--class-weights", "1", "2", "3"], "training.class_weights: 3 weights for 2 classes (neg, pos)"),
        (["--class-weights", "1", "-2"], "class weights must not be negative"),
        (["--class-weights", "0", "0"], "step 1: every document has class weight 0"),
        (["--device", "abacus"], "abacus"),
        (["--data", "folder"], "--data FOLDER needs --dataset NAME"),
        (["--layers", "some"], "features.layers: give numbers of layers, or all, found some"),
        (["--layers", "1", "all"], "features.layers: give numbers of layers, or all, found 1 all"),
        (["--layers", "9"], "features.layers: layer 9 does not exist: there are 2"),
        (["--lstm-hidden", "20"], "lstm_hidden is for head = bilstm, found linear; leave lstm_hidden out"),
    ],
)
def test_bad_values(fails: Fails, flags: list[str], message: str) -> None:
    assert message in fails(*flags)


def test_a_flag_that_does_not_exist(cli: Cli) -> None:
    error = cli("finetune", "--learning-rte", "1").error
    assert error == "--learning-rte: no such argument; did you mean '--learning-rate'?"
    assert "epochs" not in cli("finetune", "--xyzzy").error


def test_required_settings_are_named(cli: Cli, tiny_encoder: Path, tmp_path: Path) -> None:
    without_encoder = cli("finetune", "--train", "a.csv", "--output", tmp_path / "run").error
    assert without_encoder.startswith("encoder.encoder: must be given, as --encoder")
    without_output = cli("finetune", "--train", "a.csv", "--encoder", tiny_encoder).error
    assert without_output.startswith("output: must be given, as --output")
    flags = ("--encoder", tiny_encoder, "--output", tmp_path / "run")
    assert "no training data: give --train FILE" in cli("finetune", "--text", "body", *flags).error
    assert not (tmp_path / "run").exists()


def test_nothing_to_train_on(cli: Cli, tiny_encoder: Path, tmp_path: Path) -> None:
    done = cli("finetune", "--encoder", tiny_encoder, "--output", tmp_path / "run")
    assert "no training data: give --train FILE" in done.error


def test_an_output_with_something_in_it_is_left_alone(finetune: Cli, tiny_csv: MakeCsv, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "precious.txt").write_text("years of work")
    said = finetune(tiny_csv()).error
    assert said == f"output: {run} is not empty; give a new directory, or remove what is there"
    assert [(p.name, p.read_text()) for p in run.iterdir()] == [("precious.txt", "years of work")]
    assert f"output: {run / 'precious.txt'} is a file" in finetune(tiny_csv(), output=run / "precious.txt").error
    assert (run / "precious.txt").read_text() == "years of work"


def test_an_empty_output_stays_after_a_failure(finetune: Cli, tiny_csv: MakeCsv, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    assert "3 weights for 2 classes" in finetune(tiny_csv(), "--class-weights", 1, 2, 3).error
    assert list(run.iterdir()) == []
    assert finetune(tiny_csv()).code == 0
    assert (run / "report.json").is_file()


@pytest.mark.parametrize("flag", ["--output", "--cache"])
def test_a_file_where_a_folder_is_needed(finetune: Cli, tiny_csv: MakeCsv, tmp_path: Path, flag: str) -> None:
    file = tiny_csv("file.csv")
    error = finetune(tiny_csv(), flag, file / "run" if flag == "--output" else file).error
    assert str(file) in error


def test_a_revision_of_a_folder(fails: Fails) -> None:
    assert "encoder.revision" in fails("--revision", "main")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    if os.geteuid() != 0:
        pytest.skip("mounting a small disk needs root")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount command here")
    if done.returncode != 0:
        pytest.skip(f"a small disk cannot be mounted here: {done.stderr.strip()}")
    try:
        yield place
    finally:
        # Lazily: a traceback that pytest keeps may still hold a memory-mapped shard.
        subprocess.run(["umount", "--lazy", str(place)], check=True)


def leave_free(disk: Path, free: int) -> None:
    """Fill the disk until so many bytes are free."""
    room = os.statvfs(disk)
    (disk / "filler").write_bytes(b"\0" * (room.f_bavail * room.f_frsize - free))


def test_a_full_disk_is_seen_before_training(finetune: Cli, tiny_csv: MakeCsv, small_disk: Path) -> None:
    leave_free(small_disk, 64 * 1024)
    done = finetune(tiny_csv(), output=small_disk / "run")
    assert f"{small_disk}/run: no space left on the disk for the model: " in done.error
    assert "peak rate" not in done.out  # which is printed when training begins
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_a_disk_that_cannot_hold_the_tokens(finetune: Cli, tiny_csv: MakeCsv, small_disk: Path) -> None:
    leave_free(small_disk, 32 * 1024)
    done = finetune(tiny_csv(rows=3000), output=small_disk / "run")
    assert "no space left on the disk" in done.error
    assert [path.name for path in small_disk.iterdir()] == ["filler"]


def test_a_disk_that_fills_up_in_training(
    finetune: Cli, tiny_csv: MakeCsv, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_free(small_disk, 64 * 1024)
    monkeypatch.setattr("doctune.runs.directory.check_space", lambda *_: None)
    done = finetune(tiny_csv(), output=small_disk / "run")
    assert "no space left on the disk" in done.error
    assert [path.name for path in small_disk.iterdir()] == ["filler"]
