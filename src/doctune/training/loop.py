"""The training loop. One function; its collaborators are arguments."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from doctune import seeding
from doctune.batches.collate import Collator
from doctune.batches.plan import Places, epoch_plan
from doctune.devices import Device
from doctune.errors import TrainingError
from doctune.models.classifier import Classifier
from doctune.models.folder import state_to_cpu
from doctune.progress import Progress
from doctune.settings import TrainingSettings
from doctune.store.splits import Dataset
from doctune.tensors import Batch
from doctune.training.log import MetricsLog
from doctune.training.optim import BertAdam
from doctune.training.schedule import Factor

STEPS_PER_RECORD = 20


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one validation says: `score` chooses the best (higher is better), `record` goes into the log."""

    score: float
    record: dict[str, object]


@dataclass(frozen=True, slots=True)
class EpochRecord:
    """One evaluation in the course of training."""

    epoch: float
    step: int
    train_loss: float
    learning_rate: float
    examples_per_second: float
    evaluation: Evaluation | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What training gives: the model holds the best weights; `best` is a position in `records`."""

    records: list[EpochRecord]
    best: int
    steps: int
    examples: int
    tokens: int
    seconds: float
    stopped_early: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The batches of every optimiser step of a run: `steps[i]` is the accumulation window of step i."""

    steps: list[list[Places]]
    evaluate_after: frozenset[int]
    steps_per_epoch: float


def plan_run(dataset: Dataset, collator: Collator, settings: TrainingSettings, seed: int) -> Plan:
    """Plan all epochs before the first step: the schedule needs the number of steps."""
    lengths = collator.lengths(dataset)
    steps: list[list[Places]] = []
    ends: list[int] = []
    for epoch in range(math.ceil(settings.epochs)):
        batches = epoch_plan(lengths, seed, epoch, settings.batch_size, settings.tokens_per_batch)
        window = settings.accumulation
        epoch_steps = [batches[i : i + window] for i in range(0, len(batches), window)]
        share = min(settings.epochs - epoch, 1.0)
        epoch_steps = epoch_steps[: max(round(share * len(epoch_steps)), 1)]
        parts = max(round(settings.evaluations_per_epoch * share), 1)
        ends += [len(steps) + math.ceil(len(epoch_steps) * (part + 1) / parts) for part in range(parts)]
        steps += epoch_steps
    return Plan(steps, frozenset(ends), len(steps) / settings.epochs)


def train(
    model: Classifier,
    dataset: Dataset,
    collator: Collator,
    plan: Plan,
    optimizer: torch.optim.Optimizer,
    factor: Factor,
    evaluate: Callable[[], Evaluation] | None,
    settings: TrainingSettings,
    max_grad_norm: float,
    device: Device,
    seed: int,
    log: MetricsLog,
) -> Outcome:
    """Train over the plan, validate where it says, and leave the best weights in the model.

    The random numbers of a step depend on (seed, step) alone. Without `evaluate` the last weights are the best.
    Raises `TrainingError` before the step whose loss or gradient is not finite, and names the documents in it.
    """
    records: list[EpochRecord] = []
    best, best_state, without_gain, stopped = 0, None, 0, False
    examples = 0
    loss_sum = loss_count = 0.0
    training_seconds, started = 0.0, time.perf_counter()
    model.train()
    with Progress(sum(len(b) for window in plan.steps for b in window), "train", "examples") as progress:
        for step, window in enumerate(plan.steps):
            torch.manual_seed(seeding.derive(seed, "step", step))
            total, count = _accumulate(model, dataset, collator, window, device, step)
            for parameter in _trained(optimizer):
                if parameter.grad is not None:
                    parameter.grad.div_(count)
            norm = _clip(optimizer, max_grad_norm)
            if not math.isfinite(norm):
                raise _not_finite("gradient", step, dataset, [int(p) for places in window for p in places])
            rate = factor(step)
            for group in optimizer.param_groups:
                group["lr"] = group["base_lr"] * rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

            here = sum(len(places) for places in window)
            examples += here
            loss_sum, loss_count = loss_sum + total, loss_count + count
            progress.advance(here, f"loss {loss_sum / loss_count:.3f}")
            top_rate = max(group["lr"] for group in optimizer.param_groups)
            if step % STEPS_PER_RECORD == 0:
                log.write(kind="step", step=step + 1, epoch=round((step + 1) / plan.steps_per_epoch, 4),
                          loss=total / count, learning_rate=top_rate, gradient_norm=norm)  # fmt: skip
            if step + 1 not in plan.evaluate_after:
                continue
            training_seconds += time.perf_counter() - started
            evaluation = evaluate() if evaluate else None
            record = EpochRecord(
                round((step + 1) / plan.steps_per_epoch, 4), step + 1, loss_sum / loss_count, top_rate,
                examples / training_seconds, evaluation,
            )  # fmt: skip
            records.append(record)
            log.write(kind="evaluation", step=record.step, epoch=record.epoch, train_loss=record.train_loss,
                      **(evaluation.record if evaluation else {}))  # fmt: skip
            loss_sum = loss_count = 0.0
            previous = records[best].evaluation
            if evaluation is None or previous is None or len(records) == 1 or evaluation.score > previous.score:
                best, without_gain = len(records) - 1, 0
                best_state = state_to_cpu(model) if step + 1 < len(plan.steps) else None
            else:
                without_gain += 1
            started = time.perf_counter()
            if settings.patience is not None and without_gain >= settings.patience:
                stopped = True
                break
    if best_state is not None:
        model.load_state_dict(best_state)
    done = records[-1].step
    tokens = int(sum(collator.lengths(dataset)[p].sum() for window in plan.steps[:done] for p in window))
    return Outcome(records, best, done, examples, tokens, training_seconds, stopped)


def _accumulate(
    model: Classifier, dataset: Dataset, collator: Collator, window: list[Places], device: Device, step: int
) -> tuple[float, float]:
    """Forward and backward of the batches of one step; the summed loss and what to divide it and the gradients by."""
    total = count = 0.0
    for places in window:
        batch = collator(dataset, places).to(device.torch)
        with device.autocast():
            loss, logits = model.objective(batch)
        value = loss.sum.item()
        if not math.isfinite(value):
            raise _not_finite("loss", step, dataset, _culprits(batch, logits))
        loss.sum.backward()  # type: ignore[no-untyped-call]
        total, count = total + value, count + loss.count.item()
    if count <= 0:
        raise TrainingError(f"step {step + 1}: every document has class weight 0; mend training.class_weights")
    return total, count


def _trained(optimizer: torch.optim.Optimizer) -> Iterator[Tensor]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])


def _clip(optimizer: torch.optim.Optimizer, max_norm: float) -> float:
    """The global gradient norm before clipping. BERTAdam clips each tensor by itself, so it is only measured there."""
    limit = max_norm if max_norm > 0 and not isinstance(optimizer, BertAdam) else math.inf
    return float(torch.nn.utils.clip_grad_norm_(list(_trained(optimizer)), limit))


def _culprits(batch: Batch, logits: Tensor) -> list[int]:
    """The documents whose logits are not finite; all of the batch if none stands out."""
    bad = ~torch.isfinite(logits.float()).all(dim=-1)
    rows = batch.rows[bad.nonzero().flatten()] if bool(bad.any()) else batch.rows
    return [int(row) for row in rows]


def _not_finite(what: str, step: int, dataset: Dataset, places: list[int]) -> TrainingError:
    named = ", ".join(dataset.ids(np.array(places[:8])))
    more = f" and {len(places) - 8} more" if len(places) > 8 else ""
    return TrainingError(
        f"training: the {what} is not a finite number in step {step + 1}; stopped before it. Documents: {named}{more}. "
        f"Try a lower --learning-rate, or --precision fp32"
    )
