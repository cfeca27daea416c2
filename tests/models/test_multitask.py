"""Several classifiers on one encoder."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from doctune.encoders.load import load_encoder
from doctune.models.classifier import build_classifier
from doctune.models.multitask import MultitaskModel
from doctune.settings import EncoderSettings, LayerwiseSettings
from doctune.tensors import Batch
from doctune.training.layerwise import parameter_groups

CLASSES = {"a": 2, "b": 3}


@pytest.fixture
def model(tiny_encoder: Path) -> MultitaskModel:
    loaded = load_encoder(tiny_encoder, EncoderSettings(encoder="x"), (-1,))
    return MultitaskModel({name: build_classifier(loaded, "pooler", "concat", n) for name, n in CLASSES.items()})


def test_the_originals_four_tasks(golden: Path, golden_bert: Path, pack: Callable[..., Batch]) -> None:
    """Heads of 2, 2, 4 and 14 classes on one encoder and its pooler: the original's logits and losses."""
    folder = golden / "classifier_forward"
    cases = [c for c in json.loads((folder / "expected.json").read_text())["cases"] if isinstance(c.get("task"), int)]
    heads, expected, rows = (load_file(folder / f"{n}.safetensors") for n in ("heads", "expected", "batch"))
    loaded = load_encoder(golden_bert, EncoderSettings(encoder=str(golden_bert)), (-1,))
    model = MultitaskModel({c["name"]: build_classifier(loaded, "pooler", "concat", c["num_labels"]) for c in cases})
    model.eval()
    lengths = rows["input_mask"].sum(1).tolist()
    ids, types = (
        [row[:n].tolist() for row, n in zip(rows[k], lengths, strict=True)] for k in ("input_ids", "segment_ids")
    )
    assert len(cases) == 4
    for case in cases:
        head = model.classifiers[case["name"]].task.head.linear
        with torch.no_grad():
            head.weight.copy_(heads[f"{case['head']}.weight"])
            head.bias.copy_(heads[f"{case['head']}.bias"])
            batch = replace(pack(ids, types, case["labels"]), task=case["name"])
            losses, logits = model.losses(batch)
        torch.testing.assert_close(logits, expected[case["logits_tensor"]], rtol=1e-5, atol=1e-5, msg=case["name"])
        assert list(losses) == [case["name"]]
        loss = losses[case["name"]]
        assert float(loss.sum / loss.count) == pytest.approx(case["loss"], abs=1e-5)
        assert model.counts(batch) == {case["name"]: 6.0}


def test_the_encoder_is_listed_once_and_in_every_classifier(model: MultitaskModel) -> None:
    alone = model.classifiers["a"]
    shared = sum(p.numel() for p in alone.encoder.parameters())
    assert sum(t.numel() for name, t in model.state_dict().items() if name.startswith("encoder.")) == shared
    assert not any("encoder" in name for name in model.state_dict() if not name.startswith("encoder."))
    assert model.classifiers["b"].encoder is alone.encoder
    together = sum(p.numel() for p in model.parameters())
    assert together < sum(p.numel() for c in model.classifiers.values() for p in c.parameters())


def test_a_batch_trains_its_own_head_and_the_encoder(model: MultitaskModel, pack: Callable[..., Batch]) -> None:
    batch = replace(pack([[2, 9, 10, 3], [2, 11, 3]], labels=[2, 0]), task="b")
    losses, logits = model.losses(batch)
    assert logits.shape == (2, 3)
    losses["b"].sum.backward()
    assert model.classifiers["a"].task.head.linear.weight.grad is None
    assert model.classifiers["b"].task.head.linear.weight.grad is not None
    assert all(p.grad is not None for n, p in model.encoder.named_parameters() if "layer.0" in n)


def test_every_parameter_has_a_rate_and_heads_have_the_highest(model: MultitaskModel) -> None:
    groups, table = parameter_groups(model, 1e-3, 0.01, LayerwiseSettings())
    listed = [p for group in groups for p in group["params"]]
    assert len(listed) == len({id(p) for p in listed}) == len(list(model.parameters()))
    for classifier in model.classifiers.values():
        rate = next(g["lr"] for g in groups if any(p is classifier.task.head.linear.weight for p in g["params"]))
        assert rate == 1e-3
    assert table[0].part == "pooling and head"


def test_training_and_freezing_reach_every_classifier(model: MultitaskModel) -> None:
    def modes() -> set[bool]:
        return {
            module.training
            for c in model.classifiers.values()
            for module in (c, c.task, c.task.head, c.task.token_pooling)
        }

    model.eval()
    assert modes() == {False}
    model.train()
    assert modes() == {True}
    model.freeze_encoder()
    assert not any(c.encoder.training for c in model.classifiers.values())
    assert not any(p.requires_grad for p in model.encoder.parameters())
    assert all(c.task.head.linear.weight.requires_grad for c in model.classifiers.values())
    values: Any = [c.encoder_frozen for c in model.classifiers.values()]
    assert values == [True, True]
