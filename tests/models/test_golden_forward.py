"""Every head of the original on its twelve-layer BERT gives the original's logits and losses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from doctune.pooling.tokens import Cls
from doctune.tensors import Batch


@pytest.fixture(scope="module")
def forward(golden: Path) -> dict[str, Any]:
    folder = golden / "classifier_forward"
    expected = json.loads((folder / "expected.json").read_text())
    return {
        "cases": expected["cases"],
        "tensors": load_file(folder / "expected.safetensors"),
        "batch": load_file(folder / "batch.safetensors"),
    }


@pytest.fixture(scope="module")
def batch(forward: dict[str, Any], pack: Callable[..., Batch]) -> Batch:
    rows, types = [], []
    for ids, kinds, mask in zip(
        *(forward["batch"][k] for k in ("input_ids", "segment_ids", "input_mask")), strict=True
    ):
        length = int(mask.sum())
        rows.append(ids[:length].tolist())
        types.append(kinds[:length].tolist())
    return pack(rows, types, forward["batch"]["label_ids"].tolist())


def test_all_heads(forward: dict[str, Any], batch: Batch, golden_classifier: Callable[..., Any]) -> None:
    seen = 0
    for case in forward["cases"]:
        logits = forward["tensors"][case["logits_tensor"]]
        layers = "all" if isinstance(case["layers"], str) else case["layers"]
        model = golden_classifier(layers, case["pooling"], case["head"], logits.shape[1]).eval()
        with torch.no_grad():
            ours = model(batch)
        torch.testing.assert_close(ours, logits, rtol=1e-5, atol=1e-5, msg=case["name"])
        labels = torch.tensor(case["labels"]) if "labels" in case else batch.labels
        loss = model.task.link.loss(ours, labels)
        assert float(loss.sum / loss.count) == pytest.approx(case["loss"], abs=1e-5), case["name"]
        seen += 1
    assert seen == 43


def test_cls_of_every_layer_and_attention_over_layers(
    forward: dict[str, Any], batch: Batch, golden_classifier: Callable[..., Any]
) -> None:
    expected = forward["tensors"]
    model = golden_classifier("all", None, "classifier_1x32").eval()
    with torch.no_grad():
        states = model.encoder(batch)
        for layer, reference in zip(states.layers, expected["cls_by_layer"], strict=True):
            torch.testing.assert_close(Cls()(layer, states), reference, rtol=1e-5, atol=1e-5)
        pooled = torch.stack([model.task.token_pooling(layer, states) for layer in states.layers])
        torch.testing.assert_close(pooled, expected["attention_over_layers.pooled_by_layer"], rtol=1e-5, atol=1e-5)
        weights = model.task.layer_pooling.weights(pooled).squeeze(2)
        torch.testing.assert_close(weights, expected["attention_over_layers.weights_by_layer"], rtol=1e-5, atol=1e-5)
