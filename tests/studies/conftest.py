"""A study of one's own over a small CSV, and the means to run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

import doctune
from doctune.studies import jobs
from doctune.studies.command import Asked, Prepared, prepare
from doctune.studies.results import StudyJson

DEFINITION: dict[str, Any] = {
    "title": "Head or tail", "question": "Which?", "reference": "head", "columns": ["films"],
    "rows": [
        {"name": "head", "paper": {"films": 5.5}, "set": {"truncation": {"truncation": "head-only"}}},
        {"name": "tail", "paper": {"films": 5.0}, "set": {"truncation": {"truncation": "tail-only"}}},
        {"name": "one layer", "layers": [0]},
    ],
    "findings": [{"text": "The tail is better.", "better": "tail", "than": ["head"]}],
    "scales": {"small": {"about": "small", "seeds": 2, "set": {
        "data": {"train_examples": 20, "test_examples": 10}, "truncation": {"max_seq_len": 8},
        "training": {"epochs": 1, "batch_size": 8, "precision": "fp32"},
    }}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing that one test read may serve another one."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    yield
    jobs._read.cache_clear()


@pytest.fixture
def asked(tmp_path: Path, tiny_csv: Callable[..., Path], tiny_encoder: Path) -> Callable[..., Asked]:
    """What to ask for: a study of one's own, changed where the test wants it."""
    train, test = tiny_csv("train.csv", rows=40), tiny_csv("test.csv", rows=20)

    def make(change: dict[str, Any] | None = None, **options: Any) -> Asked:
        definition = tmp_path / "mine.toml"
        definition.write_text(tomli_w.dumps({**DEFINITION, **(change or {})}))
        data = tmp_path / "data.toml"
        data.write_text(tomli_w.dumps({"films": {"data": {"train": train.name, "test": test.name}, "note": "made up"}}))
        base: dict[str, Any] = {
            "datasets": str(data), "output": str(tmp_path / "out"), "cache": str(tmp_path / "runs"),
            "encoders": (("base", str(tiny_encoder)), ("large", str(tiny_encoder))),
        }  # fmt: skip
        return Asked(str(definition), **{**base, **options})

    return make


@pytest.fixture
def planned(asked: Callable[..., Asked]) -> Callable[..., Prepared]:
    """A study that is ready to run."""
    return lambda *args, **options: prepare(asked(*args, **options))


@pytest.fixture
def run(asked: Callable[..., Asked]) -> Callable[..., StudyJson]:
    """Run the study through the Python interface."""
    from doctune.studies.command import run as run_study

    return lambda *args, **options: run_study(asked(*args, **options), f"doctune {doctune.__version__}")
