"""Where a run stands, and its checkpoint on disk: a killed run goes on from there, to the very same weights."""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from doctune.errors import CheckpointError
from doctune.files import atomic_folder, recover_folder, write_json

Weights = dict[str, Tensor]
FORMAT = 2
"""What a checkpoint's parameters are called: another number, or none, is of another version of doctune."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one validation says: `score` chooses the best (higher is better), `record` goes into the log."""

    score: float
    record: dict[str, float]


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One evaluation in the course of training; `train_losses` are the parts of `train_loss` by name."""

    epoch: float
    step: int
    train_loss: float
    learning_rate: float
    examples_per_second: float
    evaluation: Evaluation | None
    train_losses: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class TrainingState:
    """How far a run is: `step` optimiser steps are done, and where its feed of batches stands.

    `losses`: sum and count of each loss since the last evaluation.
    """

    step: int = 0
    examples: int = 0
    tokens: int = 0
    seconds: float = 0.0
    feed: dict[str, int] = field(default_factory=dict)
    losses: dict[str, list[float]] = field(default_factory=dict)
    best: int = 0
    without_gain: int = 0
    records: list[EpochRecord] = field(default_factory=list)

    def add_loss(self, name: str, total: float, count: float) -> None:
        """Count a loss in."""
        sums = self.losses.setdefault(name, [0.0, 0.0])
        sums[0], sums[1] = sums[0] + total, sums[1] + count

    def mean_losses(self) -> dict[str, float]:
        """The mean of each loss since the last evaluation; none where nothing was counted."""
        return {name: total / count for name, (total, count) in self.losses.items() if count > 0}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> TrainingState:
        """What `dataclasses.asdict` made of a state."""
        records = []
        for record in value["records"]:
            evaluation = record["evaluation"]
            records.append(EpochRecord(**{**record, "evaluation": evaluation and Evaluation(**evaluation)}))
        return cls(**{**value, "records": records})


@dataclass(slots=True)
class Checkpoints:
    """The last checkpoint of a run in `folder`, written when `minutes` have passed since the one before.

    `run` identifies settings and data: a checkpoint of another run is refused. `budget` may change: then the run goes
    on from the checkpoint that was kept at a certain point, if it is past that. Without `writes` (a process that is not
    the first of a run) checkpoints are only read.
    """

    folder: Path
    minutes: float
    run: str
    budget: str = ""
    saved: float = field(default_factory=time.monotonic)
    writes: bool = True

    def save_if_due(
        self, state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer, best: Weights | None
    ) -> None:
        """Write a checkpoint if it is time; the one before is replaced only when this one is complete."""
        if self.writes and time.monotonic() - self.saved >= 60 * self.minutes:
            self._save(self.folder, state, model, optimizer, best)
            self.saved = time.monotonic()

    def keep(
        self, state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer, best: Weights | None
    ) -> None:
        """Write a second checkpoint, beside the other, which stays."""
        if self.writes:
            self._save(self._kept, state, model, optimizer, best)

    def exist(self) -> bool:
        """Whether there is anything to go on from."""
        return _read(self.folder) is not None or _read(self._kept) is not None

    @property
    def _kept(self) -> Path:
        return self.folder.with_name(f"{self.folder.name}-kept")

    def _save(
        self, folder: Path, state: TrainingState, model: nn.Module, optimizer: torch.optim.Optimizer,
        best: Weights | None,
    ) -> None:  # fmt: skip
        with atomic_folder(folder) as temporary:
            save_model(model, str(temporary / "model.safetensors"))  # weights that are shared are written once
            save_file(_optimizer_tensors(optimizer), temporary / "optimizer.safetensors")
            if best is not None:
                save_file(best, temporary / "best.safetensors")
            content = {"format": FORMAT, "run": self.run, "budget": self.budget, "state": dataclasses.asdict(state)}
            write_json(temporary / "state.json", content)

    def restore(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[TrainingState, Weights | None]:
        """Put the checkpoint into model and optimiser; a fresh state if there is none.

        Raises `CheckpointError` if it belongs to another run, or to another version of doctune.
        """
        if self.writes:
            recover_folder(self.folder)
        folder = self.folder
        content = _read(folder)
        kept = _read(self._kept)
        if kept is not None and (content is None or content.get("budget", self.budget) != self.budget):
            folder, content = self._kept, kept
        if content is None:
            return TrainingState(), None
        if content["run"] != self.run:
            raise CheckpointError(f"{folder}: this checkpoint is of other data or another recipe; give a new --output")
        try:
            load_model(model, folder / "model.safetensors")
            _restore_optimizer(optimizer, load_file(folder / "optimizer.safetensors"))
            best = folder / "best.safetensors"
            return TrainingState.from_json(content["state"]), load_file(best) if best.is_file() else None
        except (SafetensorError, FileNotFoundError, RuntimeError, KeyError, TypeError) as error:
            raise _damaged(folder, error) from None


def _damaged(folder: Path, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split())[:150]
    return CheckpointError(f"{folder}: damaged checkpoint ({reason}); remove it to begin from the start with --resume")


def _read(folder: Path) -> dict[str, Any] | None:
    path = folder / "state.json"
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise _damaged(folder, error) from None
    if content.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder}: this checkpoint was written by another version of doctune, whose weights have other names; "
            f"start again with a new --output"
        )
    return content


def _contiguous(tensors: Weights) -> Weights:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> Weights:
    """The optimiser's state as tensors named NUMBER.KEY; counts become tensors too."""
    state = optimizer.state_dict()["state"]
    return _contiguous(
        {f"{number}.{key}": torch.as_tensor(value) for number, entry in state.items() for key, value in entry.items()}
    )


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Weights) -> None:
    plain = optimizer.state_dict()
    state: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".")
        # An integer count was an int; AdamW's own step count is a float tensor and stays one.
        value = int(tensor) if tensor.ndim == 0 and not tensor.is_floating_point() else tensor
        state.setdefault(int(number), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": plain["param_groups"]})


def state_to_cpu(model: nn.Module) -> dict[str, Tensor]:
    """A copy of the model's weights in host memory."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}
