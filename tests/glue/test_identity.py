"""A checkpoint is gone on with by the run that wrote it alone: the same documents, the same recipe, the same seed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import doctune
from doctune.cli import main
from doctune.errors import CheckpointError, UserError
from doctune.training.state import Checkpoints

ROWS = [("bad", "a"), ("good", "b")] * 8


class KilledError(Exception):
    """Stands for the process being killed."""


@contextmanager
def killed_after_a_checkpoint(monkeypatch: pytest.MonkeyPatch, step: int = 3) -> Iterator[None]:
    """The training is killed when the checkpoint of this step is written."""
    save = Checkpoints.save_if_due

    def save_and_die(self: Checkpoints, state: Any, *rest: Any) -> None:
        save(self, state, *rest)
        if state.step == step:
            raise KilledError

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save_if_due", save_and_die)
        with pytest.raises(KilledError):
            yield


def replace_one_word(path: Path) -> None:
    """Another text of the same length at the same place, under the same label."""
    text = path.read_text()
    assert "film" in text
    path.write_text(text.replace("film", "bank", 1))


def test_of_other_documents(
    tune: Callable[..., Any], reviews: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: reviews(f"{name}.csv", ROWS) for name in ("train", "validation", "test")}
    settings = {
        "validation": str(files["validation"]), "test": str(files["test"]), "batch_size": 4, "checkpoint_minutes": 0,
    }  # fmt: skip
    with killed_after_a_checkpoint(monkeypatch):
        tune("run", files["train"], **settings)
    for path in files.values():
        original = path.read_text()
        replace_one_word(path)
        with pytest.raises(UserError, match="changed since"):
            tune("run", files["train"], resume=True, **settings)
        assert (tmp_path / "run" / "checkpoint").is_dir()
        path.write_text(original)
    # Nothing but the documents counts: a file that was written anew with the same content is the same.
    assert tune("run", files["train"], resume=True, **settings)["best"]["step"] == 4


def test_of_another_seed(
    tune: Callable[..., Any], reviews: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"batch_size": 4, "checkpoint_minutes": 0, "seeds": 2}
    train = reviews("train.csv", ROWS)
    with killed_after_a_checkpoint(monkeypatch):
        tune("run", train, **settings)
    shutil.copytree(tmp_path / "run" / "seed-42" / "checkpoint", tmp_path / "run" / "seed-43" / "checkpoint")
    with pytest.raises(CheckpointError, match="seed-43"):
        tune("run", train, resume=True, **settings)


def test_of_several_tasks(
    tiny_encoder: Path, reviews: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {name: reviews(f"{name}.csv", ROWS) for name in ("one", "two")}
    settings = {
        "tasks": [{"name": name, "data": {"train": str(path)}} for name, path in files.items()],
        "encoder": str(tiny_encoder), "output": str(tmp_path / "run"), "max_seq_len": 32, "batch_size": 4, "epochs": 1,
        "continuation_epochs": 0, "learning_rate": 1e-3, "device": "cpu", "precision": "fp32", "checkpoint_minutes": 0,
    }  # fmt: skip
    with killed_after_a_checkpoint(monkeypatch):
        doctune.multitask(**settings)
    replace_one_word(files["two"])
    with pytest.raises(UserError, match="changed since"):
        doctune.multitask(**settings, resume=True)


def test_of_another_corpus(
    tiny_corpus: Path, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Where the corpus is may change, but not what is in it."""
    text = tmp_path / "other.jsonl"
    text.write_text('{"text": "The film was good. He was not. A market it is."}\n' * 30)
    with pytest.raises(SystemExit):
        main([
            "corpus", str(text), "--encoder", str(tiny_encoder), "--output", str(tmp_path / "other"), "--workers", "1",
        ])  # fmt: skip
    moved = Path(shutil.copytree(tiny_corpus, tmp_path / "moved"))

    def pretrain(corpus: Path, *more: str) -> None:
        main([
            "pretrain", "--corpus", str(corpus), "--encoder", str(tiny_encoder), "--output", str(tmp_path / "run"),
            "--sequence-len", "32", "--batch-size", "4", "--steps", "5", "--held-out", "2", "--precision", "fp32",
            "--device", "cpu", "--checkpoint-minutes", "0", "--head-warmup", "0", *more,
        ])  # fmt: skip

    with killed_after_a_checkpoint(monkeypatch):
        pretrain(tiny_corpus)
    for corpus, code in ((tmp_path / "other", 2), (moved, 0)):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            pretrain(corpus, "--resume")
        err = capsys.readouterr().err
        assert stopped.value.code == code, err
        assert ("changed since" in err) == (code == 2)
