"""The command line, in this process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import doctune
from doctune.cli import main


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line of an error; nothing may follow it, and no second one may stand before it."""
        assert self.code == 2, self.err
        assert self.err.endswith("\n")
        lines = self.err.rstrip("\n").split("\n")
        assert lines[-1].startswith("doctune: error: "), self.err
        assert sum(line.startswith("doctune: error: ") for line in lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[-1].removeprefix("doctune: error: ")


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Device auto is the processor, also where there is a GPU: figures are compared exactly."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs `doctune ARGUMENTS`."""

    def run(*arguments: object) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        code = stopped.value.code
        assert isinstance(code, int)
        return Done(code, out, err)

    return run


@pytest.fixture
def encoder_copy(tiny_encoder: Path, tmp_path: Path) -> Path:
    """A copy of the tiny encoder to damage."""
    return Path(shutil.copytree(tiny_encoder, tmp_path / "encoder"))


@pytest.fixture
def finetune(cli: Callable[..., Done], tiny_encoder: Path, tmp_path: Path) -> Callable[..., Done]:
    """Runs `doctune finetune` for an epoch into `tmp_path/run`; flags given replace these."""

    def run(train: object, *flags: object, encoder: object = None, output: Path | None = None) -> Done:
        return cli(
            "finetune", "--train", train, "--encoder", encoder or tiny_encoder, "--output", output or tmp_path / "run",
            "--epochs", 1, "--max-seq-len", 32, "--batch-size", 8, "--device", "cpu", "--precision", "fp32", *flags,
        )  # fmt: skip

    return run


def write_reviews(path: Path, rows: int, seed: int) -> None:
    """A CSV of short reviews with columns stars, title and body; a tenth has the wrong number of stars."""
    random = np.random.default_rng(seed)
    words = {1: ["awful", "terrible", "boring"], 2: ["film", "book", "place"], 3: ["great", "lovely", "excellent"]}
    lines = ["stars,title,body"]
    for row in range(rows):
        stars = row % 3 + 1
        said = random.choice(words[stars], 2)
        shown = stars if random.random() > 0.1 else random.integers(1, 4)
        lines.append(f"{shown},{said[0]} one,the {said[1]} {'and the food ' * int(random.integers(0, 4))}of two")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(scope="session")
def trained_in(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Fine-tunes in a precision; the run directory, with train.csv and test.csv beside it."""
    made: dict[str, Path] = {}

    def make(precision: str) -> Path:
        if precision not in made:
            folder = tmp_path_factory.mktemp(f"reviews-{precision}")
            write_reviews(folder / "train.csv", 120, 0)
            write_reviews(folder / "test.csv", 60, 1)
            doctune.finetune(
                train=str(folder / "train.csv"), test=str(folder / "test.csv"), text=("title", "body"), label="stars",
                encoder=str(tiny_encoder), output=str(folder / "run"), max_seq_len=32, epochs=6, learning_rate=2e-3,
                batch_size=8, token_pooling="mean", device="cpu", precision=precision,
            )  # fmt: skip
            made[precision] = folder / "run"
        return made[precision]

    return make


@pytest.fixture(scope="session")
def trained(trained_in: Callable[[str], Path]) -> Path:
    """A run directory of a model of three classes of reviews."""
    return trained_in("auto")
