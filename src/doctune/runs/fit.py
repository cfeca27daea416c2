"""One run with one seed: build the classifier, train it, test it once, save it."""

from __future__ import annotations

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
from doctune.encoders.load import load_encoder
from doctune.evaluation.schema import Windows
from doctune.metrics.single import Metrics, Probabilities
from doctune.runs.building import description_of, encoder_facts, make_classifier, write_model_card
from doctune.runs.context import RunContext
from doctune.runs.data import Prepared
from doctune.runs.directory import CHECKPOINT, MODEL
from doctune.runs.evaluation import evaluate_model, figures_on, score
from doctune.runs.identity import Identity
from doctune.settings import FinetuneSettings
from doctune.training import setup
from doctune.training.budget import Budget
from doctune.training.log import MetricsLog
from doctune.training.loop import Outcome, train
from doctune.training.rates import RateRow, rate_table
from doctune.training.state import Checkpoints, Evaluation

# Validation documents below which their choice of an epoch is mostly noise.
FEWEST_TO_CHOOSE_BY = 50


def validation_documents(count: int, do: str) -> str:
    """So many validation documents, and what they do."""
    return f"1 validation document {do}s" if count == 1 else f"{count} validation documents {do}"


@dataclass(frozen=True, slots=True)
class SeedRun:
    """What is trained with one seed into `folder`, which says by `identity` what it is of.

    `settings` are resolved: the learning rate and the token pooling are given. `announce` prints the table of rates.
    `start`: the folder of a saved classifier of the same shape, to go on from.
    """

    settings: FinetuneSettings
    prepared: Prepared
    collator: Collator
    seed: int
    folder: Path
    identity: Identity
    announce: bool = False
    start: Path | None = None


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


def fit(one: SeedRun, context: RunContext) -> Fitted:
    """Train with one seed; the run's folder gets metrics.jsonl, predictions.jsonl and model/.

    The last checkpoint stays until the report is written, too. Of several processes the first one writes.
    """
    settings, prepared, collator, world = one.settings, one.prepared, one.collator, context.world
    target = prepared.target
    log = MetricsLog(one.folder / "metrics.jsonl", world.main)
    if world.main:
        one.identity.write(one.folder)
    torch.manual_seed(seeding.derive(one.seed, "new layers"))
    loaded = load_encoder(context.encoder, settings.encoder, settings.features.layers)
    model = make_classifier(settings, loaded, prepared).to(context.device.torch)
    description = description_of(settings, model, prepared)
    if one.start is not None:
        load_weights(model, loaded.config.model_type, one.start)
    feed = DocumentFeed(prepared.train, collator, settings.training, one.seed)
    course = setup.Course(
        feed, Budget("step", len(feed.steps)), feed.ends, ("examples", feed.num_documents()), one.seed,
        settings.training.patience, keep_last=settings.training.select == "last",
    )  # fmt: skip
    training, rates = setup.fine_tuning(model, course, settings, context.device, world)
    if one.announce:
        _announce(one, rates)

    def evaluate() -> Evaluation:
        figures = figures_on(model, prepared.validation, collator, context.device, settings.training, world)
        record = {f"validation_{name}": value for name, value in figures.items()}
        return Evaluation(score(figures, settings.training.select), record)

    checkpoints = Checkpoints(
        one.folder / CHECKPOINT, settings.training.checkpoint_minutes, one.identity.key(one.seed, one.start is None),
        writes=world.main,
    )  # fmt: skip
    outcome = train(training, evaluate, log, checkpoints)
    judged = evaluate_model(model, prepared, collator, context.device, world)
    if judged.test is not None:
        log.write(kind="test", **target.headline(judged.test))
    if world.main:
        write_predictions(one.folder / "predictions.jsonl", prepared.judged, judged.probabilities, judged.windows)
        save_model(model, loaded.config, description, context.tokenizer, one.folder / MODEL)
        write_model_card(one.folder / MODEL, settings.encoder.encoder, prepared, judged)
    return Fitted(
        one.seed, one.folder, outcome, judged.validation, judged.test, judged.probabilities, judged.windows, rates,
        encoder_facts(model),
    )  # fmt: skip


def _announce(one: SeedRun, rates: list[RateRow]) -> None:
    """The table of rates, and a note where few documents choose the epoch."""
    print(rate_table(rates))
    count = len(one.prepared.validation)
    if count < FEWEST_TO_CHOOSE_BY and one.settings.training.select != "last":
        print(
            f"note: {validation_documents(count, 'choose')} the epoch, which is little more than chance; --select last "
            f"keeps the last epoch instead",
            file=sys.stderr,
        )
