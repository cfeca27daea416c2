"""Ten steps of the original's further pre-training, its TensorFlow graph and optimiser, from the same weights."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from doctune.convert.bert import to_transformers
from doctune.convert.sources import find_checkpoint
from doctune.devices import choose_device
from doctune.models.pretrained_folder import named_tensors
from doctune.models.pretraining import load_pretraining
from doctune.settings import EncoderSettings, LayerwiseSettings, OptimizerSettings, ScheduleSettings
from doctune.tensors import MaskedBatch
from doctune.training.budget import Budget
from doctune.training.layerwise import parameter_groups
from doctune.training.log import MetricsLog
from doctune.training.loop import TrainingSetup, train
from doctune.training.optim import make_optimizer
from doctune.training.schedule import make_schedule


class GoldenFeed:
    """The original's batches, step by step, packed."""

    steps_per_epoch = 1.0

    def __init__(self, batches: Sequence[dict[str, Any]], order: Sequence[int]) -> None:
        self.batches, self.order = batches, order

    def window(self, step: int, progress: float) -> list[MaskedBatch]:
        batch = {name: torch.tensor(values) for name, values in self.batches[self.order[step]].items()}
        real, width = batch["input_mask"].bool(), batch["input_mask"].shape[1]
        lengths = real.sum(1)
        places = torch.full(real.shape, -1).masked_scatter(real, torch.arange(int(real.sum())))
        wanted = batch["masked_lm_weights"] > 0
        rows = torch.arange(len(real)).unsqueeze(1).expand_as(wanted)[wanted]
        return [
            MaskedBatch(
                input_ids=batch["input_ids"][real],
                position_ids=torch.arange(width).expand_as(real)[real],
                token_type_ids=batch["segment_ids"][real],
                cu_seqlens=torch.tensor([0, *itertools.accumulate(lengths.tolist())]),
                max_seqlen=int(lengths.max()),
                window_of=torch.arange(len(real)),
                rows=torch.arange(len(real)),
                lengths=tuple(lengths.tolist()),
                masked_positions=places[rows, batch["masked_lm_positions"][wanted]],
                masked_labels=batch["masked_lm_ids"][wanted],
                pair_labels=batch["next_sentence_labels"].flatten(),
            )
        ]

    def position(self) -> dict[str, int]:
        return {}

    def seek(self, position: dict[str, int]) -> None:
        pass

    def names(self, rows: Sequence[int]) -> list[str]:
        return [str(row) for row in rows]


def test_ten_steps(golden: Path, tmp_path: Path) -> None:
    source = golden / "tf1_checkpoint"
    expected = json.loads((source / "training_steps.json").read_text())
    folder = tmp_path / "encoder"
    folder.mkdir()
    to_transformers(find_checkpoint(source), None, None, None, folder)
    loaded = load_pretraining(folder, EncoderSettings(encoder=str(folder), dropout=0.0), "nsp")
    assert loaded.new_heads == ()
    steps = expected["steps"]
    share = expected["num_warmup_steps"] / expected["num_train_steps"]
    factor = make_schedule(ScheduleSettings(schedule="warmup-linear", warmup=share), len(steps))
    groups, _ = parameter_groups(loaded.model, expected["init_lr"], 0.01, LayerwiseSettings(layerwise="none"))
    optimizer = make_optimizer(groups, OptimizerSettings(optimizer="bert-adam"), factor, clips_per_tensor=False)
    run = TrainingSetup(
        loaded.model, GoldenFeed(expected["batches"], [step["batch"] for step in steps]), Budget("step", len(steps)),
        range(1, len(steps) + 1), ("step", len(steps)), optimizer, factor, 1.0, choose_device("cpu", "fp32"), 0,
    )  # fmt: skip
    outcome = train(run, None, MetricsLog(tmp_path / "metrics.jsonl"))
    for record, step in zip(outcome.records, steps, strict=True):
        assert record.learning_rate == pytest.approx(step["learning_rate"], rel=1e-6)
        # The original divides by the number of predictions + 1e-5.
        assert record.train_loss == pytest.approx(step["total_loss"], abs=3e-5)
    tensors = named_tensors(loaded.model, "bert")
    checked = 0
    for name, facts in expected["final_weights"].items():
        if "key.bias" in name:
            continue  # its gradient is rounding noise
        value = tensors[name]
        assert float(value.norm()) == pytest.approx(facts["norm"], rel=1e-4), name
        assert value.flatten()[:6].tolist() == pytest.approx(facts["first"], abs=2e-3), name
        checked += 1
    assert checked > 50
