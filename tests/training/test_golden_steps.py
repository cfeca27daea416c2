"""Twelve fine-tuning steps of the original, repeated: losses, logits, and how far every parameter moved."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from doctune.models.classifier import Classifier
from doctune.settings import LayerwiseSettings, OptimizerSettings, ScheduleSettings
from doctune.tensors import Batch
from doctune.training.layerwise import parameter_groups
from doctune.training.optim import make_optimizer
from doctune.training.schedule import make_schedule


@pytest.fixture(scope="module")
def steps(golden: Path) -> dict[str, Any]:
    return json.loads((golden / "classifier_forward" / "finetune_steps.json").read_text())


@pytest.fixture(scope="module")
def batches(steps: dict[str, Any], pack: Callable[..., Batch]) -> list[Batch]:
    made = []
    for batch in steps["batches"]:
        lengths = [sum(mask) for mask in batch["input_mask"]]
        rows = [ids[:length] for ids, length in zip(batch["input_ids"], lengths, strict=True)]
        made.append(pack(rows, labels=batch["label_ids"]))
    return made


def layerwise(run: dict[str, Any]) -> LayerwiseSettings:
    args = run["args"]
    if "layer_learning_rate" in args:
        rates, decay = tuple(args["layer_learning_rate"]), args["layer_learning_rate_decay"]
        return LayerwiseSettings(layerwise="original-decay", layer_rates=rates, layer_decay=decay)
    return LayerwiseSettings(layerwise="three-group" if args.get("discr") else "none")


NAMES = [
    "pooled_plain", "layer_11_plain_grad_accumulation_2", "concat_discr", "pooled_discriminative",
    "last4_max_discriminative", "pooled_frozen",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_steps(
    name: str, steps: dict[str, Any], batches: list[Batch], golden_classifier: Callable[..., Classifier]
) -> None:
    (run,) = [r for r in steps["runs"] if r["name"] == name]
    model = golden_classifier(run["layers"], run["pooling"], run["head"])
    if run["frozen_bert"]:
        model.freeze_encoder()
    settings = layerwise(run)
    groups, _ = parameter_groups(model, run["args"]["learning_rate"], 0.01, settings)
    schedule = ScheduleSettings(schedule="warmup-linear", warmup=run["warmup_proportion"])
    optimizer = make_optimizer(
        groups, OptimizerSettings(optimizer="bert-adam"), make_schedule(schedule, run["t_total"])
    )
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    accumulation = run["gradient_accumulation_steps"]
    losses: list[float] = []
    model.train()
    for step in range(run["steps"]):
        for part in range(accumulation):
            found, _ = model.losses(batches[(step * accumulation + part) % len(batches)])
            loss = found["label"]
            mean = loss.sum / loss.count / accumulation
            mean.backward()
            losses.append(mean.item())
        optimizer.step()
        optimizer.zero_grad()
    assert losses == pytest.approx(torch.tensor(run["losses"]).flatten().tolist(), abs=5e-6)
    with torch.no_grad():
        logits = model.eval()(batches[0])
    torch.testing.assert_close(logits, torch.tensor(run["logits_on_batch_0_after"]), rtol=1e-5, atol=1e-5)
    checked = 0
    for parameter, value in model.state_dict().items():
        expected = run["final_norm_and_moved"].get(_original_name(parameter))
        if expected is None or "key.bias" in parameter:
            continue  # its gradient is rounding noise
        norm, moved = float(value.norm()), float((value - before[parameter]).norm())
        assert (norm, moved) == pytest.approx(expected, rel=2e-4, abs=1e-6), parameter
        checked += 1
    assert checked > 40


def _original_name(name: str) -> str:
    """Our parameter name as the original has it."""
    name = name.replace("encoder.model.", "bert.", 1).replace("token_pooling.dense", "bert.pooler.dense")
    name = name.replace("head.linear", "classifier")
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
