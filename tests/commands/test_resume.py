"""A run that is killed outright goes on with --resume and ends as if nothing had happened."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import doctune
from doctune.cli import main
from doctune.errors import ConfigError

SECONDS_TO_WAIT = 120


def figures(folder: Path) -> list[object]:
    report = json.loads((folder / "report.json").read_text())
    return [report["seeds"]["error_percent"], report["validation"], report["best"]]


def test_killed_in_the_second_seed(tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path) -> None:
    arguments = [
        "finetune", "--train", str(tiny_csv(rows=60)), "--encoder", str(tiny_encoder), "--max-seq-len", "32",
        "--batch-size", "2", "--epochs", "4", "--seeds", "2", "--precision", "fp32", "--checkpoint-minutes", "0",
    ]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--output", str(whole)])
    assert stopped.value.code == 0

    with subprocess.Popen(
        [sys.executable, "-m", "doctune", *arguments, "--output", str(killed)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    ) as process:  # fmt: skip
        state, deadline = killed / "seed-43" / "checkpoint" / "state.json", time.monotonic() + SECONDS_TO_WAIT
        while process.poll() is None and not state.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not (killed / "report.json").exists(), "it finished before it was killed"

    with pytest.raises(SystemExit) as refused:
        main([*arguments, "--output", str(killed)])
    assert refused.value.code == 2
    with pytest.raises(ConfigError, match=r"training\.batch_size: 3, but the run"):
        doctune.finetune(killed / "config.toml", batch_size=3, output=str(killed), resume=True)

    first_seed = (killed / "seed-42" / "report.json").stat().st_mtime_ns
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--output", str(killed), "--resume"])
    assert stopped.value.code == 0
    assert figures(killed) == figures(whole)
    assert (killed / "seed-42" / "report.json").stat().st_mtime_ns == first_seed
    assert not list(killed.glob("**/checkpoint"))
    assert (killed / "model" / "model.safetensors").read_bytes() == (whole / "model" / "model.safetensors").read_bytes()


def test_killed_while_tokenising(
    tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then, too, the folder says what run it is, and --resume goes on."""

    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    output = tmp_path / "run"
    settings = {"train": str(tiny_csv()), "encoder": str(tiny_encoder), "epochs": 1, "output": str(output)}
    with monkeypatch.context() as patched:
        patched.setattr("doctune.runs.finetuning.read", killed)
        with pytest.raises(KeyboardInterrupt):
            doctune.finetune(**settings)
    with pytest.raises(ConfigError, match=r"go on with the run in it with --resume"):
        doctune.finetune(**settings)
    assert doctune.finetune(**settings, resume=True)["validation"]["count"] > 0
