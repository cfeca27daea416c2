"""The rate that stands in the log is the one that moved the weights, for each optimiser and schedule."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from doctune.batches.collate import Collator
from doctune.batches.feed import DocumentFeed
from doctune.devices import choose_device
from doctune.distributed import World
from doctune.encoders.load import load_encoder
from doctune.examples import Example
from doctune.models.classifier import Classifier, build_classifier
from doctune.settings import EncoderSettings, FinetuneSettings, OptimizerSettings
from doctune.settings.components import names
from doctune.store.build import build_shard
from doctune.store.splits import Dataset, make_dataset
from doctune.targets import SingleTarget
from doctune.text.tokenizer import TextTokenizer
from doctune.text.truncation import HeadOnly
from doctune.training import loop, setup
from doctune.training.budget import Budget
from doctune.training.log import MetricsLog
from doctune.training.optim import make_optimizer, set_rates

CPU = choose_device("cpu", "fp32")
SCHEDULES = names("schedule")


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path) -> TextTokenizer:
    return TextTokenizer.load(tiny_encoder)


@pytest.fixture(scope="module")
def dataset(tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    words = (("awful", "neg"), ("great", "pos"))
    examples = [Example(f"doc-{i}", f"{words[i % 2][0]} film", words[i % 2][1]) for i in range(16)]
    built = build_shard(examples, tokenizer, tmp_path_factory.mktemp("shards"), "train")
    return make_dataset("train", built.shard, SingleTarget(("neg", "pos")))


def new_model(encoder: Path) -> Classifier:
    torch.manual_seed(1)
    return build_classifier(
        load_encoder(encoder, EncoderSettings(encoder="x", dropout=0.0), (-1,)), "mean", "concat", 2, dropout=0.0
    )


def settings_of(optimizer: str, schedule: str, **training: Any) -> FinetuneSettings:
    return FinetuneSettings.build({
        "output": "x", "data": {"train": "x"}, "encoder": {"encoder": "x"}, "layerwise": {"layerwise": "none"},
        "optimizer": {"optimizer": optimizer, "learning_rate": 1e-3, "max_grad_norm": 0.0, "weight_decay": 0.1},
        "schedule": {"schedule": schedule, "warmup": 0.3}, "training": {"batch_size": 4, "epochs": 2, **training},
    })  # fmt: skip


class Replayed:
    """Adam computed a second time for one parameter: what a step at a rate of 1 would move it by."""

    def __init__(self, parameter: nn.Parameter, settings: OptimizerSettings) -> None:
        self.parameter, self.settings = parameter, settings
        self.first, self.second, self.steps = torch.zeros_like(parameter), torch.zeros_like(parameter), 0
        self.rates: list[float] = []

    def before(self, *_: object) -> None:
        gradient, (one, two) = self.parameter.grad, self.settings.betas
        assert gradient is not None
        self.was, self.steps = self.parameter.detach().clone(), self.steps + 1
        self.first = one * self.first + (1 - one) * gradient
        self.second = two * self.second + (1 - two) * gradient**2
        first, second = self.first, self.second
        if self.settings.optimizer == "adamw":
            first, second = first / (1 - one**self.steps), second / (1 - two**self.steps)
        decay = self.settings.weight_decay * self.was
        self.move = first / (second.sqrt() + self.settings.epsilon) + decay

    def after(self, *_: object) -> None:
        moved = self.was - self.parameter.detach()
        self.rates.append(float((moved * self.move).sum() / (self.move**2).sum()))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", ["adamw", "bert-adam"])
def test_the_logged_rate_is_the_one_that_was_used(
    optimizer: str, schedule: str, tiny_encoder: Path, dataset: Dataset, tokenizer: TextTokenizer, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(loop, "STEPS_PER_RECORD", 1)
    settings, model = settings_of(optimizer, schedule), new_model(tiny_encoder)
    feed = DocumentFeed(dataset, Collator(tokenizer.template, HeadOnly(), 32), settings.training, 1)
    course = setup.Course(feed, Budget("step", len(feed.steps)), (), ("examples", feed.num_documents()), 1)
    training, _ = setup.fine_tuning(model, course, settings, CPU, World.single())
    replayed = Replayed(model.task.head.linear.weight, settings.optimizer)
    training.optimizer.register_step_pre_hook(replayed.before)
    training.optimizer.register_step_post_hook(replayed.after)
    loop.train(training, None, MetricsLog(tmp_path / "metrics.jsonl"))
    logged = [json.loads(line)["learning_rate"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert len(logged) == 8
    assert logged == pytest.approx(replayed.rates, rel=2e-3, abs=2e-7)
    assert len(set(logged)) > 1


def test_bert_adam_tells_the_rate_of_each_parameters_own_step() -> None:
    """A head that had no gradient so far is at its first step, wherever the run is; so is the rate that is told."""
    always, seldom = (nn.Parameter(torch.ones(3)) for _ in range(2))
    groups = [{"params": [one], "lr": rate, "base_lr": rate, "weight_decay": 0.0}
              for one, rate in ((always, 1e-3), (seldom, 5e-3))]  # fmt: skip

    def factor(step: int) -> float:
        return (step + 1) / 10

    optimizer = make_optimizer(groups, OptimizerSettings(optimizer="bert-adam"), factor)
    told = []
    for step in range(4):
        always.grad = torch.ones(3)
        seldom.grad = torch.ones(3) if step == 2 else None
        told.append(set_rates(optimizer, factor, step))
        optimizer.step()
    assert told == pytest.approx([1e-4, 2e-4, 5e-4, 4e-4])


def test_a_frozen_encoder_is_frozen_and_the_table_says_so(
    tiny_encoder: Path, dataset: Dataset, tokenizer: TextTokenizer
) -> None:
    settings = settings_of("adamw", "constant")
    frozen = settings.model_copy(update={"layerwise": settings.layerwise.model_copy(update={"freeze_encoder": True})})
    feed = DocumentFeed(dataset, Collator(tokenizer.template, HeadOnly(), 32), settings.training, 1)
    course = setup.Course(feed, Budget("step", 1), (), ("step", 1), 1)
    model = new_model(tiny_encoder)
    training, rates = setup.fine_tuning(model, course, frozen, CPU, World.single())
    trained = {id(p) for group in training.optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for name, p in model.named_parameters() if not name.startswith("encoder.")}
    assert [row.part for row in rates] == ["pooling and head", "encoder (frozen)"]
