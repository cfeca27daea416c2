"""The joint training of `doctune multitask`: one encoder, a head for each task, and each task's best checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from doctune import seeding
from doctune.batches.mixture import MixedFeed, Part
from doctune.classifier.folder import load_weights, save_model
from doctune.classifier.predictor import write_predictions
from doctune.encoders.load import Loaded, load_encoder
from doctune.models.classifier import Classifier
from doctune.models.multitask import MultitaskModel
from doctune.runs.building import description_of, encoder_facts, make_classifier, write_model_card
from doctune.runs.context import RunContext
from doctune.runs.directory import CHECKPOINT, MODEL
from doctune.runs.evaluation import evaluate_model, figures_on, score
from doctune.runs.fit import Fitted
from doctune.runs.identity import Identity
from doctune.runs.tasks import Task, about
from doctune.settings import MultitaskSettings
from doctune.training import setup
from doctune.training.budget import Budget
from doctune.training.choice import best_of
from doctune.training.log import MetricsLog
from doctune.training.loop import Outcome, train
from doctune.training.rates import RateRow, rate_table
from doctune.training.state import Checkpoints, EpochRecord, Evaluation, TrainingState


@dataclass(frozen=True, slots=True)
class Joint:
    """What the joint training gives: each task at its best checkpoint, and how often each was seen."""

    fitted: dict[str, Fitted]
    steps: dict[str, int]
    documents: dict[str, int]


@dataclass(frozen=True, slots=True)
class JointRun:
    """What is trained together into `output`, which says by `identity` what it is of; settings are resolved."""

    settings: MultitaskSettings
    tasks: Sequence[Task]
    output: Path
    identity: Identity

    @property
    def select(self) -> str:
        """What chooses each task's best checkpoint."""
        return self.settings.training.select

    def folder(self, task: str) -> Path:
        """Where a task's model is, at its best."""
        return self.output / "joint" / task


def train_jointly(run: JointRun, context: RunContext) -> Joint:
    """Train all tasks together; `output/joint/TASK` gets the model of each task's best validation, and predictions.

    The best models are written when they are found, so that a killed run has them; the last checkpoint stays until the
    reports are written, too. Of several processes the first one writes.
    """
    settings, tasks, world = run.settings, run.tasks, context.world
    log = MetricsLog(run.output / "metrics.jsonl", world.main)
    torch.manual_seed(seeding.derive(settings.training.seed, "new layers"))
    loaded = load_encoder(context.encoder, settings.encoder, settings.features.layers)
    classifiers = {}
    for task in tasks:
        with about(task.name):
            classifiers[task.name] = make_classifier(task.settings, loaded, task.prepared)
    model = MultitaskModel(classifiers).to(context.device.torch)
    parts = [Part(task.name, task.prepared.train, task.collator) for task in tasks]
    feed = MixedFeed(parts, settings.training, settings.sampling, settings.training.seed)
    course = setup.Course(
        feed, Budget("step", len(feed)), feed.ends, ("examples", sum(feed.num_documents())), settings.training.seed,
        settings.training.patience, keep_last=True,
    )  # fmt: skip
    training, rates = setup.fine_tuning(model, course, settings, context.device, world)
    print(rate_table(rates))

    def evaluate() -> Evaluation:
        record: dict[str, float] = {}
        scores = []
        for task in tasks:
            classifier, validation = classifiers[task.name], task.prepared.validation
            figures = figures_on(classifier, validation, task.collator, context.device, settings.training, world)
            scores.append(score(figures, run.select))
            record |= {f"{task.name}/validation_{name}": value for name, value in figures.items()}
        return Evaluation(sum(scores) / len(scores), record)

    def keep_best(state: TrainingState, before: int) -> None:
        for task in tasks:
            if world.main and best_record(task.name, state.records, run.select) == len(state.records) - 1:
                save(task)

    def save(task: Task) -> None:
        classifier = classifiers[task.name]
        description = description_of(task.settings, classifier, task.prepared)
        save_model(classifier, loaded.config, description, context.tokenizer, run.folder(task.name) / MODEL)

    checkpoints = Checkpoints(
        run.output / CHECKPOINT, settings.training.checkpoint_minutes, run.identity.key(), writes=world.main
    )
    # With "last" nothing is chosen, and only the last weights are written.
    outcome = train(training, evaluate, log, checkpoints, None if run.select == "last" else keep_best)
    for task in tasks if run.select == "last" and world.main else ():
        save(task)
    world.barrier()
    fitted = {
        task.name: _measured(run, task, classifiers[task.name], loaded, outcome, rates, log, context) for task in tasks
    }
    names = [task.name for task in tasks]
    steps, documents = feed.num_steps(outcome.steps), feed.num_documents(outcome.steps)
    return Joint(fitted, dict(zip(names, steps, strict=True)), dict(zip(names, documents, strict=True)))


def _measured(
    run: JointRun, task: Task, classifier: Classifier, loaded: Loaded, outcome: Outcome, rates: list[RateRow],
    log: MetricsLog, context: RunContext,
) -> Fitted:  # fmt: skip
    """A task at its best checkpoint, tested, with its predictions written."""
    folder = run.folder(task.name)
    load_weights(classifier, loaded.config.model_type, folder / MODEL)
    judged = evaluate_model(classifier, task.prepared, task.collator, context.device, context.world)
    if judged.test is not None:
        log.write(kind="test", task=task.name, **task.target.headline(judged.test))
    if context.world.main:
        run.identity.write(folder)
        where = folder / "predictions.jsonl"
        write_predictions(where, task.prepared.judged, judged.probabilities, judged.windows)
        write_model_card(folder / MODEL, task.settings.encoder.encoder, task.prepared, judged)
    return Fitted(
        run.settings.training.seed, folder, _own(outcome, task, run.select), judged.validation, judged.test,
        judged.probabilities, judged.windows, rates, encoder_facts(classifier),
    )  # fmt: skip


def best_record(task: str, records: Sequence[EpochRecord], select: str) -> int:
    """The place of the record in which a task did best, the later one on a tie; the last one with "last"."""
    if select == "last":
        return len(records) - 1
    return best_of([score(figures_of(task, record), select) for record in records])


def figures_of(task: str, record: EpochRecord) -> dict[str, float]:
    """A task's validation figures in a record of all tasks."""
    assert record.evaluation is not None
    prefix = f"{task}/validation_"
    found = record.evaluation.record
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


def _own(outcome: Outcome, task: Task, select: str) -> Outcome:
    """The outcome as a run of one task has it: its own losses and figures; steps and time are those of all tasks."""
    records = []
    for record in outcome.records:
        figures = figures_of(task.name, record)
        named = {f"validation_{name}": value for name, value in figures.items()}
        own = Evaluation(score(figures, select), named)
        loss = record.train_losses.get(task.name, float("nan"))
        records.append(
            EpochRecord(record.epoch, record.step, loss, record.learning_rate, record.examples_per_second, own)
        )
    best = best_record(task.name, outcome.records, select)
    return Outcome(records, best, outcome.steps, outcome.examples, outcome.tokens, outcome.seconds)
