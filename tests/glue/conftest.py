"""Short runs through the public commands, whose figures are computed again from what they leave behind."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import doctune

TELLING = {"bad": "awful", "good": "great", "dull": "boring"}
FILLERS = ("film", "book", "food", "place", "service", "team", "match", "city")


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Device auto is the processor, also where there is a GPU: figures are compared exactly."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def saved_weights(run: Path) -> dict[str, np.ndarray]:
    """Every weight of a run's model, whichever files of its folder they are in."""
    weights: dict[str, np.ndarray] = {}
    for file in sorted((run / "model").rglob("*.safetensors")):
        weights |= {f"{file.parent.name}/{name}": tensor for name, tensor in load_file(file).items()}
    assert weights
    return weights


@pytest.fixture
def reviews(tmp_path: Path) -> Callable[..., Path]:
    """Writes a CSV of (what the text says, its label) pairs: short texts that differ in one telling word."""

    def make(name: str, rows: Sequence[tuple[str, str]]) -> Path:
        lines = ["text,label"]
        for number, (tells, label) in enumerate(rows):
            lines.append(f"{TELLING[tells]} {FILLERS[number % 8]}{' it was' * (number % 3)},{label}")
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return make


@pytest.fixture
def tune(tiny_encoder: Path, tmp_path: Path) -> Callable[..., Any]:
    """Fine-tunes into `tmp_path/NAME`; the report."""

    def run(name: str, train: Path, **settings: Any) -> Any:
        defaults = {
            "encoder": str(tiny_encoder), "output": str(tmp_path / name), "max_seq_len": 32, "batch_size": 8,
            "epochs": 1, "learning_rate": 1e-3, "device": "cpu", "precision": "fp32",
        }  # fmt: skip
        return doctune.finetune(**{**defaults, "train": str(train), **settings})

    return run
