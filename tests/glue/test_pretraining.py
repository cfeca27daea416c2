"""Which weights of a further pre-training are kept, where it is measured, and what it says of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from doctune.cli import main

from .conftest import read, read_lines

FACTS = "doctune-pretraining.json"


@pytest.fixture
def pretrain(tiny_corpus: Path, tmp_path: Path) -> Callable[..., Path]:
    """Pre-trains into `tmp_path/NAME`; the run directory."""

    def run(name: str, encoder: Path, *flags: object) -> Path:
        with pytest.raises(SystemExit) as stopped:
            main([
                "pretrain", "--corpus", str(tiny_corpus), "--encoder", str(encoder), "--output", str(tmp_path / name),
                "--sequence-len", "32", "--batch-size", "4", "--held-out", "4", "--precision", "fp32", "--device",
                "cpu", *map(str, flags),
            ])  # fmt: skip
        assert stopped.value.code == 0
        return tmp_path / name

    return run


def measured(run: Path) -> dict[int, dict[str, Any]]:
    return {one["step"]: one for one in read_lines(run / "metrics.jsonl") if one["kind"] == "evaluation"}


def test_the_weights_of_the_lowest_held_out_loss_are_kept(
    pretrain: Callable[..., Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    """A good encoder, and then a rate that spoils it: the best is neither the first nor the last measurement."""
    good = pretrain("good", tiny_encoder, "--steps", 40, "--evaluations", 1, "--learning-rate", 3e-3) / "model"
    run = pretrain(
        "run", good, "--steps", 12, "--evaluations", 12, "--learning-rate", 0.5, "--warmup", 0.9, "--snapshots", 12
    )
    losses = {step: record["held_out_loss"] for step, record in measured(run).items()}
    assert sorted(losses) == list(range(1, 13))
    facts = read(run / "model" / FACTS)
    assert losses[facts["kept_step"]] == min(losses.values())
    assert losses[12] > 1.2 * min(losses.values())
    assert facts["steps"] == 12
    assert facts["held_out"]["held_out_loss"] == pytest.approx(min(losses.values()))
    # The snapshot of that step has the same weights, and no other has.
    kept = load_file(run / "model" / "model.safetensors")
    equal = [
        folder.name
        for folder in sorted((run / "snapshots").iterdir())
        if all((kept[name] == tensor).all() for name, tensor in load_file(folder / "model.safetensors").items())
    ]
    assert equal == [f"step-{facts['kept_step']:07d}"]


def test_snapshots_and_measurements_are_each_where_they_were_asked_for(
    pretrain: Callable[..., Path], tiny_encoder: Path
) -> None:
    run = pretrain(
        "run", tiny_encoder, "--steps", 12, "--evaluations", 3, "--snapshots", 4, "--learning-rate", 1e-3,
        "--head-warmup", 0,
    )  # fmt: skip
    assert [folder.name for folder in sorted((run / "snapshots").iterdir())] == [
        "step-0000003", "step-0000006", "step-0000009", "step-0000012",
    ]  # fmt: skip
    assert {4, 8, 12} <= set(measured(run))
    for folder in (run / "snapshots").iterdir():
        facts = json.loads((folder / FACTS).read_text())
        assert f"step-{facts['steps']:07d}" == folder.name
        assert facts["kept_step"] == facts["steps"]
        assert facts["held_out"]["held_out_loss"] == measured(run)[facts["steps"]]["held_out_loss"]


def test_measuring_takes_no_part_in_training(pretrain: Callable[..., Path], tiny_encoder: Path) -> None:
    """However often it is measured, dropout is at work in every step, and the steps are the same."""
    steps = []
    for name, evaluations in (("once", 1), ("often", 11)):
        run = pretrain(
            name, tiny_encoder, "--steps", 22, "--evaluations", evaluations, "--learning-rate", 1e-3, "--dropout", 0.3,
            "--head-warmup", 0,
        )  # fmt: skip
        steps.append({one["step"]: one["loss"] for one in read_lines(run / "metrics.jsonl") if one["kind"] == "step"})
    assert steps[0] == steps[1]
    assert set(steps[0]) == {1, 21}
