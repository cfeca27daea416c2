"""metrics.jsonl, and the curves for TensorBoard beside it where that is installed."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from doctune.training.log import MetricsLog

Calls = list[tuple[Any, ...]]


@pytest.fixture
def curves(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """A stand-in for tensorboard and torch's writer; what is called, in order."""
    calls: Calls = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int | None) -> None:
            warnings.warn("old packages below tensorboard", DeprecationWarning, stacklevel=1)
            calls.append(("open", Path(folder), purge_step))

        def add_scalar(self, name: str, value: float, step: int) -> None:
            calls.append((name, value, step))

        def flush(self) -> None:
            calls.append(("flush",))

        def close(self) -> None:
            pass

    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    installed(monkeypatch, True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    return calls


def installed(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    """Say whether the package tensorboard is installed; others are looked for as ever."""
    real = importlib.util.find_spec
    spec = importlib.machinery.ModuleSpec("tensorboard", None) if there else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: spec if name == "tensorboard" else real(name))


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_record_is_on_disk_at_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    for step in (1, 2):
        log.write(kind="step", step=step, loss=0.5)
        assert [record["step"] for record in records(log.path)][-1] == step


def test_what_a_killed_run_wrote_beyond_its_checkpoint_is_dropped(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 21, 41):
        log.write(kind="step", step=step, loss=0.5)
    log.path.write_text(log.path.read_text() + '{"kind": "st')
    log.forget_after(21)
    assert [record["step"] for record in records(log.path)] == [1, 21]


def test_without_tensorboard_there_are_no_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, False)
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.forget_after(0)
    log.write(kind="step", step=1, loss=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_curves_of_every_number(tmp_path: Path, curves: Calls) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.forget_after(0)
    assert curves == []  # nothing is imported before there is something to write
    log.write(kind="step", step=1, epoch=0.1, loss=0.5, mlm=0.3)
    log.write(kind="evaluation", step=20, epoch=1.0, validation_accuracy=0.9)
    log.write(kind="test", accuracy=0.8)
    assert curves[0] == ("open", tmp_path / "tensorboard", 1)
    assert [call for call in curves[1:] if call != ("flush",)] == [
        ("train/loss", 0.5, 1), ("train/mlm", 0.3, 1), ("evaluation/accuracy", 0.9, 20), ("test/accuracy", 0.8, 20),
    ]  # fmt: skip
    assert curves[-1] == ("flush",)


def test_a_resumed_run_says_from_where_the_curves_are_written_again(tmp_path: Path, curves: Calls) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 21):
        log.write(kind="step", step=step, loss=0.5)
    log.forget_after(1)
    log.write(kind="step", step=21, loss=0.4)
    assert [call[2] for call in curves if call[0] == "open"] == [None, 2]


def test_other_counts_of_steps_get_curves_of_their_own(tmp_path: Path, curves: Calls) -> None:
    MetricsLog(tmp_path / "metrics-heads.jsonl").write(kind="step", step=1, loss=0.5)
    assert curves[0][1] == tmp_path / "tensorboard" / "heads"


def test_a_broken_tensorboard_costs_a_line_and_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    installed(monkeypatch, True)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # importing it fails
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        log.write(kind="step", step=step, loss=0.5)
    assert capsys.readouterr().err.count("tensorboard cannot be used") == 1
    assert len(records(log.path)) == 2
