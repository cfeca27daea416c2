"""The joint training of `doctune multitask`: one encoder, a head for each task, and each task's best checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from doctune import seeding
from doctune.batches.mixture import MixedFeed, Part
from doctune.classifier.folder import load_weights, save_model
from doctune.classifier.predictor import write_predictions
from doctune.devices import Device
from doctune.distributed import World
from doctune.encoders.load import load_encoder
from doctune.files import content_hash
from doctune.models.multitask import MultitaskModel
from doctune.runs.building import describe, encoder_facts, make_classifier
from doctune.runs.evaluation import evaluate_model, metrics_on
from doctune.runs.fit import Fitted, rate_table
from doctune.runs.tasks import Task, about, shards_of
from doctune.settings import MultitaskSettings
from doctune.text.tokenizer import TextTokenizer
from doctune.training.budget import Budget
from doctune.training.layerwise import parameter_groups
from doctune.training.log import MetricsLog
from doctune.training.loop import Outcome, Run, train
from doctune.training.optim import make_optimizer
from doctune.training.schedule import make_schedule
from doctune.training.state import Checkpoints, EpochRecord, Evaluation, TrainingState

FREE_TO_CHANGE = {"output": True, "training": {"checkpoint_minutes", "device"}}


@dataclass(frozen=True, slots=True)
class Joint:
    """What the joint training gives: each task at its best checkpoint, and how often each was seen."""

    fitted: dict[str, Fitted]
    steps: dict[str, int]
    documents: dict[str, int]


def train_jointly(
    settings: MultitaskSettings, tasks: Sequence[Task], tokenizer: TextTokenizer, encoder_folder: Path, output: Path,
    device: Device, world: World,
) -> Joint:  # fmt: skip
    """Train all tasks together; `output/joint/TASK` gets the model of each task's best validation, and predictions.

    The best models are written when they are found, so that a killed run has them. Of several processes in `world`
    the first one writes.
    """
    seed, select = settings.training.seed, settings.training.select
    log = MetricsLog(output / "metrics.jsonl", world.main)
    torch.manual_seed(seeding.derive(seed, "new layers"))
    loaded = load_encoder(encoder_folder, settings.encoder, settings.features.layers)
    classifiers = {}
    for task in tasks:
        with about(task.name):
            classifiers[task.name] = make_classifier(task.settings, loaded, task.prepared)
    model = MultitaskModel(classifiers).to(device.torch)
    learning_rate = settings.optimizer.learning_rate
    assert learning_rate is not None
    if settings.layerwise.freeze_encoder:
        model.freeze_encoder()
    groups, rates = parameter_groups(model, learning_rate, settings.optimizer.weight_decay, settings.layerwise)
    print(rate_table(rates))
    parts = [Part(task.name, task.prepared.train, task.collator) for task in tasks]
    feed = MixedFeed(parts, settings.training, settings.sampling, seed)
    budget = Budget("step", len(feed))
    factor = make_schedule(settings.schedule, budget.end)
    optimizer = make_optimizer(groups, settings.optimizer, factor)
    run = Run(
        model, feed, budget, feed.ends, ("examples", sum(feed.num_documents())), optimizer, factor,
        settings.optimizer.max_grad_norm, device, seed, settings.training.patience, keep_last=True,
        world=world,
    )  # fmt: skip

    def evaluate() -> Evaluation:
        record: dict[str, float] = {}
        scores = []
        for task in tasks:
            classifier, validation = classifiers[task.name], task.prepared.validation
            figures = task.target.headline(metrics_on(classifier, validation, task.collator, device, world))
            scores.append(task.target.score(figures, select))
            record |= {f"{task.name}/validation_{name}": value for name, value in figures.items()}
        return Evaluation(sum(scores) / len(scores), record)

    def keep_best(state: TrainingState, before: int) -> None:
        for task in tasks:
            if world.main and best_of(task, state.records, select) == len(state.records) - 1:
                save(task)

    def save(task: Task) -> None:
        classifier = classifiers[task.name]
        description = describe(task.settings, classifier, task.prepared)
        save_model(classifier, loaded.config, description, tokenizer, output / "joint" / task.name / "model")

    checkpoints = Checkpoints(
        output / "checkpoint", settings.training.checkpoint_minutes, identity(settings, tasks), writes=world.main
    )
    # With "last" nothing is chosen, and only the last weights are written.
    outcome = train(run, evaluate, log, checkpoints, None if select == "last" else keep_best)
    for task in tasks if select == "last" and world.main else ():
        save(task)
    world.barrier()
    fitted = {}
    for task in tasks:
        classifier, folder = classifiers[task.name], output / "joint" / task.name
        load_weights(classifier, loaded.config.model_type, folder / "model")
        judged = evaluate_model(classifier, task.prepared, task.collator, device, world)
        if judged.test is not None:
            log.write(kind="test", task=task.name, **task.target.headline(judged.test))
        if world.main:
            where = folder / "predictions.jsonl"
            write_predictions(where, task.prepared.judged, judged.probabilities, judged.windows)
        fitted[task.name] = Fitted(
            seed, folder, _own(outcome, task, select), judged.validation, judged.test, judged.probabilities,
            judged.windows, rates, encoder_facts(classifier),
        )  # fmt: skip
    if world.main:
        shutil.rmtree(checkpoints.folder, ignore_errors=True)
    names = [task.name for task in tasks]
    steps, documents = feed.num_steps(outcome.steps), feed.num_documents(outcome.steps)
    return Joint(fitted, dict(zip(names, steps, strict=True)), dict(zip(names, documents, strict=True)))


def best_of(task: Task, records: Sequence[EpochRecord], select: str) -> int:
    """The place of the record in which a task did best, the earlier one on a tie; the last one with "last"."""
    if select == "last":
        return len(records) - 1
    scores = [task.target.score(figures_of(task.name, record), select) for record in records]
    return scores.index(max(scores))


def figures_of(task: str, record: EpochRecord) -> dict[str, float]:
    """A task's validation figures in a record of all tasks."""
    assert record.evaluation is not None
    prefix = f"{task}/validation_"
    found = record.evaluation.record
    return {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}


def identity(settings: MultitaskSettings, tasks: Sequence[Task]) -> str:
    """What a checkpoint must have been made with to go on from it: the recipe and the documents."""
    tree = settings.model_dump(mode="json", exclude=FREE_TO_CHANGE)  # type: ignore[arg-type]
    for task in tree["tasks"]:
        task["data"].pop("cache")
    return content_hash(repr(tree), *shards_of(tasks))


def _own(outcome: Outcome, task: Task, select: str) -> Outcome:
    """The outcome as a run of one task has it: its own losses and figures; steps and time are those of all tasks."""
    records = []
    for record in outcome.records:
        figures = figures_of(task.name, record)
        named = {f"validation_{name}": value for name, value in figures.items()}
        own = Evaluation(task.target.score(figures, select), named)
        loss = record.train_losses.get(task.name, float("nan"))
        records.append(
            EpochRecord(record.epoch, record.step, loss, record.learning_rate, record.examples_per_second, own)
        )
    best = best_of(task, outcome.records, select)
    return Outcome(records, best, outcome.steps, outcome.examples, outcome.tokens, outcome.seconds)
