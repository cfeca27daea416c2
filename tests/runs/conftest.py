"""Tiny runs of every command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import doctune

Start = Callable[..., Any]


@pytest.fixture
def csv(tmp_path: Path) -> Callable[..., Path]:
    """Makes a CSV of two classes in a folder of its own; `word` makes the documents of one file unlike another's."""

    def make(name: str = "train.csv", word: str = "film", rows: int = 24) -> Path:
        lines = [f"the {word} {n} is {('awful', 'great')[n % 2]},{('neg', 'pos')[n % 2]}" for n in range(rows)]
        path = tmp_path / "data" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
        return path

    return make


@pytest.fixture
def adapted(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A copy of the encoder under another name."""
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "adapted"
    folder.mkdir()
    for file in tiny_encoder.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    tensors = {name: 1.01 * tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture
def start(csv: Callable[..., Path], tiny_encoder: Path, tiny_corpus: Path, adapted: Path) -> Start:
    """Starts a tiny run of a command."""
    train, other = csv(), csv("other.csv", "book")
    common: dict[str, Any] = {
        "encoder": str(tiny_encoder), "epochs": 2, "max_seq_len": 16, "batch_size": 8, "device": "cpu",
        "precision": "fp32", "learning_rate": 1e-3, "checkpoint_minutes": 0,
    }  # fmt: skip
    own: dict[str, dict[str, Any]] = {
        "finetune": {"train": str(train), **common},
        "seeds": {"train": str(train), "seeds": 2, **common},
        "compare": {"train": str(train), "adapted": [str(adapted)], **common},
        "multitask": {
            "tasks": [{"name": n, "data": {"train": str(path)}} for n, path in (("films", train), ("books", other))],
            "continuation_epochs": 1, **common,
        },
        "curve": {"train": str(train), "sizes": [16], "seeds": 1, **common},
        "probe": {"train": str(train), "encoder": str(tiny_encoder), "max_seq_len": 16, "device": "cpu"},
        "pretrain": {
            "corpus": str(tiny_corpus), "encoder": str(tiny_encoder), "steps": 6, "evaluations": 3, "batch_size": 4,
            "sequence_len": 32, "objective": "none", "checkpoint_minutes": 0, "device": "cpu", "precision": "fp32",
        },
    }  # fmt: skip

    def begin(command: str, output: Path, **changes: Any) -> Any:
        name = {"seeds": "finetune"}.get(command, command)
        return getattr(doctune, name)(**{**own[command], "output": str(output), **changes})

    return begin
