"""A kind of answer from a file of the test's own: one class in a target, one link for its loss, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

import doctune
from doctune.errors import ConfigError
from doctune.heads import links
from doctune.targets import SingleTarget, TargetSettings, base
from doctune.tensors import Loss


@dataclass(frozen=True, slots=True)
class YesOrNo(SingleTarget):
    """Two classes, told by the sign of a single logit."""

    kind: ClassVar[str] = "yes-or-no"
    link: ClassVar[str] = "sign"

    @property
    def num_outputs(self) -> int:
        return 1

    def row(self, probabilities: Any) -> dict[str, Any]:
        return {**SingleTarget.row(self, probabilities), "sure": bool(probabilities.max() > 0.9)}


@dataclass(frozen=True, slots=True)
class Sign:
    """Logits [D, 1] against labels 0 and 1."""

    class_weights: Tensor | None = None
    label_smoothing: float = 0.0

    def loss(self, logits: Tensor, labels: Tensor) -> Loss:
        total = binary_cross_entropy_with_logits(logits[:, 0].float(), labels.float(), reduction="sum")
        return Loss(total, torch.tensor(self.count(labels)))

    def count(self, labels: Tensor) -> float:
        return float(len(labels))

    def probabilities(self, logits: Tensor) -> Tensor:
        second = torch.sigmoid(logits[:, 0].cpu().double())
        return torch.stack([1 - second, second], dim=1)

    def evidence(self, logits: Tensor, added: Tensor) -> Tensor:
        return (torch.sign(logits) * added).squeeze(1)


@pytest.fixture
def new_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(base.KINDS, "yes-or-no", YesOrNo)
    monkeypatch.setitem(links.LINKS, "sign", Sign)


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.usefixtures("new_kind")
def test_a_kind_of_answer_is_a_target_and_a_link(
    windows: bool, tiny_encoder: Path, tiny_csv: Callable[..., Path], tmp_path: Path
) -> None:
    truncation = {"truncation": "windows", "max_seq_len": 8} if windows else {}
    train, test, output = tiny_csv(rows=64), tiny_csv("test.csv", rows=16), tmp_path / "run"
    report = doctune.finetune(
        train=str(train), test=str(test), encoder=str(tiny_encoder), output=str(output), target="yes-or-no",
        epochs=12, learning_rate=3e-3, batch_size=8, layerwise="none", **truncation,
    )  # fmt: skip
    assert report["test"] is not None
    assert report["test"]["error_percent"] < 10  # it learns by its own loss
    stored = json.loads((output / "model" / "doctune.json").read_text())
    assert stored["answer"] == {"target": "yes-or-no"}
    weights = [tensor for name, tensor in load_file(output / "model" / "head.safetensors").items() if "head" in name]
    assert {tensor.shape[0] for tensor in weights} == {1}
    rows = [json.loads(line) for line in (output / "predictions.jsonl").read_text().splitlines()]
    assert all(row["sure"] == (max(row["probabilities"].values()) > 0.9) for row in rows)
    assert {"windows" in row for row in rows} == {windows}
    model = doctune.load(output)
    texts = ["the film 0 is awful and the", "the film 1 is great and the"]
    assert model.predict(texts) == ["neg", "pos"]
    np.testing.assert_allclose(model.predict_proba(texts).sum(axis=1), 1.0)
    assert doctune.evaluate(output, test).error_percent == report["test"]["error_percent"]


def test_a_kind_that_is_not_there_is_said_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match="target: give single, found 'severall'"):
        TargetSettings.build({"target": "severall"})
