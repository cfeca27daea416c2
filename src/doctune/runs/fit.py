"""One run with one seed: build the classifier, train it, test it once, save it."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from doctune import seeding
from doctune.batches.collate import Collator
from doctune.batches.feed import DocumentFeed
from doctune.classifier.folder import load_weights, save_model
from doctune.classifier.predictor import write_predictions
from doctune.devices import Device
from doctune.distributed import World
from doctune.encoders.load import load_encoder
from doctune.evaluation.schema import Windows
from doctune.files import content_hash
from doctune.metrics.single import Metrics, Probabilities
from doctune.runs.building import describe, encoder_facts, make_classifier
from doctune.runs.data import Prepared
from doctune.runs.evaluation import evaluate_model, metrics_on
from doctune.settings import FinetuneSettings
from doctune.text.tokenizer import TextTokenizer
from doctune.training.budget import Budget
from doctune.training.layerwise import RateRow, parameter_groups
from doctune.training.log import MetricsLog
from doctune.training.loop import Outcome, Run, train
from doctune.training.optim import make_optimizer
from doctune.training.schedule import make_schedule
from doctune.training.state import Checkpoints, Evaluation

# Validation documents below which their choice of an epoch is mostly noise.
FEWEST_TO_CHOOSE_BY = 50


def validation_documents(count: int, do: str) -> str:
    """So many validation documents, and what they do."""
    return f"1 validation document {do}s" if count == 1 else f"{count} validation documents {do}"


@dataclass(frozen=True, slots=True)
class Fitted:
    """What one seed gives. `probabilities` and `windows` are of the test set, or of validation where there is none."""

    seed: int
    folder: Path
    outcome: Outcome
    validation: Metrics
    test: Metrics | None
    probabilities: Probabilities
    windows: Windows
    rates: list[RateRow]
    encoder: dict[str, Any]


def fit(
    settings: FinetuneSettings, prepared: Prepared, tokenizer: TextTokenizer, collator: Collator,
    encoder_folder: Path, folder: Path, seed: int, device: Device, announce: bool, start: Path | None = None,
    world: World | None = None,
) -> Fitted:  # fmt: skip
    """Train with one seed into `folder`: metrics.jsonl, predictions.jsonl and model/.

    `settings` are resolved: the learning rate and the token pooling are given. `announce` prints the table of rates.
    `start`: the folder of a saved classifier of the same shape, to go on from. Of several processes in `world` the
    first one writes.
    """
    world = world or World.single()
    target = prepared.target
    log = MetricsLog(folder / "metrics.jsonl", world.main)
    torch.manual_seed(seeding.derive(seed, "new layers"))
    loaded = load_encoder(encoder_folder, settings.encoder, settings.features.layers)
    model = make_classifier(settings, loaded, prepared).to(device.torch)
    if start is not None:
        load_weights(model, loaded.config.model_type, start)
    learning_rate = settings.optimizer.learning_rate
    assert learning_rate is not None
    if settings.layerwise.freeze_encoder:
        model.freeze_encoder()
    groups, rates = parameter_groups(model, learning_rate, settings.optimizer.weight_decay, settings.layerwise)
    if announce:
        print(rate_table(rates))
        if len(prepared.validation) < FEWEST_TO_CHOOSE_BY and settings.training.select != "last":
            print(
                f"note: {validation_documents(len(prepared.validation), 'choose')} the epoch, which is little more "
                f"than chance; --select last keeps the last epoch instead",
                file=sys.stderr,
            )
    feed = DocumentFeed(prepared.train, collator, settings.training, seed)
    budget = Budget("step", len(feed.steps))
    factor = make_schedule(settings.schedule, budget.end)
    optimizer = make_optimizer(groups, settings.optimizer, factor)

    def evaluate() -> Evaluation:
        figures = target.headline(metrics_on(model, prepared.validation, collator, device, world))
        return Evaluation(
            target.score(figures, settings.training.select), {f"validation_{k}": v for k, v in figures.items()}
        )

    run = Run(
        model, feed, budget, feed.ends, ("examples", feed.num_documents()), optimizer, factor,
        settings.optimizer.max_grad_norm, device, seed, settings.training.patience,
        keep_last=settings.training.select == "last", world=world,
    )  # fmt: skip
    checkpoints = Checkpoints(
        folder / "checkpoint",
        settings.training.checkpoint_minutes,
        identity(settings, prepared, seed),
        writes=world.main,
    )
    outcome = train(run, evaluate, log, checkpoints)
    judged = evaluate_model(model, prepared, collator, device, world)
    if judged.test is not None:
        log.write(kind="test", **target.headline(judged.test))
    if world.main:
        write_predictions(folder / "predictions.jsonl", prepared.judged, judged.probabilities, judged.windows)
        save_model(model, loaded.config, describe(settings, model, prepared), tokenizer, folder / "model")
        shutil.rmtree(checkpoints.folder, ignore_errors=True)
    return Fitted(
        seed, folder, outcome, judged.validation, judged.test, judged.probabilities, judged.windows, rates,
        encoder_facts(model),
    )  # fmt: skip


def identity(settings: FinetuneSettings, prepared: Prepared, seed: int) -> str:
    """What a checkpoint must have been made with to go on from it: the recipe, the documents, the seed."""
    recipe = settings.model_dump_json(
        exclude={"output": True, "data": {"cache"}, "training": {"seeds", "checkpoint_minutes", "device"}}
    )
    shards = [part.shard.path.name for part in prepared.parts().values()]
    return content_hash(recipe, *shards, str(seed))


def rate_table(rates: list[RateRow]) -> str:
    """The learning rates as lines of text, from the head down to the embeddings."""
    lines = [f"{'part':<20} {'peak rate':<12} {'parameters':>12}"]
    lines += [f"{row.part:<20} {row.learning_rate:<12.4g} {row.parameters:>12,}" for row in rates]
    return "\n".join(lines) + "\n"
