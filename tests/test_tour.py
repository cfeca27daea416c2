"""CONTRIBUTING's tour, walked: each hop gives the type that it promises, and each place that it names is there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from doctune.batches.collate import make_collator
from doctune.batches.feed import DocumentFeed
from doctune.batches.plan import sorted_plan
from doctune.devices import choose_device
from doctune.distributed import World
from doctune.encoders.load import load_encoder
from doctune.examples import Example
from doctune.models.classifier import build_classifier
from doctune.readers import open_source
from doctune.runs.evaluation import evaluation_mode, metrics_on
from doctune.settings import DataSettings, FinetuneSettings
from doctune.store.build import build_shard
from doctune.store.shards import Shard
from doctune.store.splits import Dataset, make_dataset
from doctune.targets import SingleTarget
from doctune.tensors import Batch, HiddenStates, Loss
from doctune.text.tokenizer import TextTokenizer
from doctune.training import setup
from doctune.training.budget import Budget
from doctune.training.log import MetricsLog
from doctune.training.loop import Outcome, train

ROOT = Path(__file__).parents[1]
TOUR = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_seven_hops_each_with_its_type(tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path) -> None:
    path = str(tiny_csv(rows=48))
    settings = FinetuneSettings.build({
        "output": "unused", "data": {"train": path}, "encoder": {"encoder": str(tiny_encoder)},
        "truncation": {"max_seq_len": 16}, "layerwise": {"layerwise": "none"},
        "optimizer": {"learning_rate": 3e-3}, "training": {"epochs": 8, "batch_size": 8},
    })  # fmt: skip
    examples = list(open_source(path, DataSettings.build({"train": path}), "train").read())
    assert all(isinstance(example, Example) for example in examples)

    tokenizer = TextTokenizer.load(tiny_encoder)
    shard = build_shard(examples, tokenizer, tmp_path, "train").shard
    assert isinstance(shard, Shard)

    target = settings.target.bind(shard.column("label"))
    dataset = make_dataset("train", shard, target)
    assert isinstance(target, SingleTarget)
    assert isinstance(dataset, Dataset)

    collator = make_collator(tokenizer, settings.truncation)
    places = next(iter(sorted_plan(collator.lengths(dataset), 256)))
    batch = collator(dataset, places)
    assert isinstance(batch, Batch)

    torch.manual_seed(0)
    loaded = load_encoder(tiny_encoder, settings.encoder, settings.features.layers)
    model = build_classifier(loaded, "cls", "concat", target.num_outputs)
    states = model.encoder(batch)
    assert isinstance(states, HiddenStates)
    losses, logits = model.losses(batch)
    assert isinstance(losses["label"], Loss)
    assert logits.shape == (batch.num_documents, target.num_outputs)

    device, feed = choose_device("cpu", "fp32"), DocumentFeed(dataset, collator, settings.training, 0)
    course = setup.Course(feed, Budget("step", len(feed.steps)), (), ("examples", feed.num_documents()), 0)
    training, _ = setup.fine_tuning(model, course, settings, device, World.single())
    outcome = train(training, None, MetricsLog(tmp_path / "metrics.jsonl"))
    assert isinstance(outcome, Outcome)

    with evaluation_mode(model):
        metrics = metrics_on(model, dataset, collator, device)
    assert metrics.count == len(dataset)
    assert metrics.error_percent < 10  # what the hops carried is what was to be learnt


MADE_UP = {"commands/x.py", "readers/my_news.py"}  # what a reader would add
NAMED = sorted(set(re.findall(r"[a-z_]+(?:/[a-z_]+)+(?:\.py)?", TOUR)) - MADE_UP)


@pytest.mark.parametrize("name", NAMED)
def test_every_place_that_the_tour_names_is_there(name: str) -> None:
    source = ROOT / "src" / "doctune" / name
    assert any(place.exists() for place in (ROOT / name, ROOT / f"{name}.md", source, source.with_suffix(".py")))
