"""A checkpoint that was cut short is one line, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from doctune.errors import CheckpointError
from doctune.training.state import Checkpoints, TrainingState


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "optimizer.safetensors", "best.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_damaged_file(name: str, share: float, tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    checkpoints = Checkpoints(tmp_path / "checkpoint", 0, "run")
    best = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    checkpoints.save_if_due(TrainingState(step=1), model, optimizer, best)
    state, weights = checkpoints.restore(model, optimizer)
    assert state.step == 1
    assert weights is not None
    path = tmp_path / "checkpoint" / name
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CheckpointError, match=r"damaged checkpoint .*remove it"):
        checkpoints.restore(model, optimizer)
