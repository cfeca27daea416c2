"""The training loop. Functions; their collaborators are arguments."""

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
from doctune.training.state import Checkpoints, EpochRecord, Evaluation, TrainingState

STEPS_PER_RECORD = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What training gives: the model holds the best weights; `best` is a position in `records`."""

    records: list[EpochRecord]
    best: int
    steps: int
    examples: int
    tokens: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """The batches of every optimiser step of a run: `steps[i]` is the accumulation window of step i."""

    steps: list[list[Places]]
    evaluate_after: frozenset[int]
    steps_per_epoch: float

    def documents(self, first: int = 0, last: int | None = None) -> int:
        """Documents in the steps from `first` to before `last`, repetitions counted."""
        return sum(len(places) for window in self.steps[first:last] for places in window)


def plan_run(dataset: Dataset, collator: Collator, settings: TrainingSettings, seed: int) -> Plan:
    """Plan all epochs before the first step: the schedule needs their number, and a resumed run the same batches."""
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


@dataclass(frozen=True, slots=True)
class Run:
    """The collaborators of one run: what `train` and its helpers share."""

    model: Classifier
    dataset: Dataset
    collator: Collator
    plan: Plan
    optimizer: torch.optim.Optimizer
    factor: Factor
    settings: TrainingSettings
    max_grad_norm: float
    device: Device
    seed: int


def train(
    run: Run, evaluate: Callable[[], Evaluation] | None, log: MetricsLog, checkpoints: Checkpoints | None = None
) -> Outcome:
    """Train over the plan, validate where it says, and leave the best weights in the model.

    The random numbers of a step depend on (seed, step) alone, so a run that goes on from its checkpoint ends with the
    same weights. Without `evaluate` the last weights are the best. Raises `TrainingError` before the step whose loss or
    gradient is not finite, and names the documents in it.
    """
    model, plan, settings = run.model, run.plan, run.settings
    state, best_weights = TrainingState(), None
    if checkpoints is not None:
        state, best_weights = checkpoints.restore(model, run.optimizer)
    log.forget_after(state.step)
    stopped = False
    model.train()
    with Progress(plan.documents(), "train", "examples", done=plan.documents(last=state.step)) as progress:
        while state.step < len(plan.steps) and not stopped:
            started = time.perf_counter()
            total, count, norm, rate = _step(run, state.step)
            documents = plan.documents(state.step, state.step + 1)
            state.seconds += time.perf_counter() - started
            state.step += 1
            state.examples += documents
            state.loss_sum, state.loss_count = state.loss_sum + total, state.loss_count + count
            progress.advance(documents, f"loss {state.loss_sum / state.loss_count:.3f}")
            if (state.step - 1) % STEPS_PER_RECORD == 0:
                epoch = round(state.step / plan.steps_per_epoch, 4)
                log.write(kind="step", step=state.step, epoch=epoch, loss=total / count, learning_rate=rate,
                          gradient_norm=norm)  # fmt: skip
            if state.step in plan.evaluate_after:
                if _evaluated_best(run, state, rate, evaluate, log):
                    # The last weights need no copy: they are in the model.
                    best_weights = state_to_cpu(model) if state.step < len(plan.steps) else None
                stopped = settings.patience is not None and state.without_gain >= settings.patience
            if checkpoints is not None:
                checkpoints.save_if_due(state, model, run.optimizer, best_weights)
    if best_weights is not None:
        model.load_state_dict(best_weights)
    lengths = run.collator.lengths(run.dataset)
    tokens = int(sum(lengths[places].sum() for window in plan.steps[: state.step] for places in window))
    return Outcome(state.records, state.best, state.step, state.examples, tokens, state.seconds)


def _step(run: Run, step: int) -> tuple[float, float, float, float]:
    """One optimiser step: summed loss, what it is divided by, gradient norm before clipping, highest learning rate."""
    torch.manual_seed(seeding.derive(run.seed, "step", step))
    window = run.plan.steps[step]
    total, count = _accumulate(run, window, step)
    for parameter in _trained(run.optimizer):
        if parameter.grad is not None:
            parameter.grad.div_(count)
    norm = _clip(run.optimizer, run.max_grad_norm)
    if not math.isfinite(norm):
        raise _not_finite("gradient", step, run.dataset, [int(place) for places in window for place in places])
    factor = run.factor(step)
    for group in run.optimizer.param_groups:
        group["lr"] = group["base_lr"] * factor
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    return total, count, norm, max(group["lr"] for group in run.optimizer.param_groups)


def _evaluated_best(
    run: Run, state: TrainingState, rate: float, evaluate: Callable[[], Evaluation] | None, log: MetricsLog
) -> bool:
    """Validate and record it; whether these weights are the best so far."""
    evaluation = evaluate() if evaluate else None
    record = EpochRecord(
        epoch=round(state.step / run.plan.steps_per_epoch, 4),
        step=state.step,
        train_loss=state.loss_sum / state.loss_count,
        learning_rate=rate,
        examples_per_second=state.examples / state.seconds,
        evaluation=evaluation,
    )
    state.records.append(record)
    state.loss_sum = state.loss_count = 0.0
    log.write(kind="evaluation", step=record.step, epoch=record.epoch, train_loss=record.train_loss,
              **(evaluation.record if evaluation else {}))  # fmt: skip
    previous = state.records[state.best].evaluation
    first = len(state.records) == 1
    if first or evaluation is None or previous is None or evaluation.score > previous.score:
        state.best, state.without_gain = len(state.records) - 1, 0
        return True
    state.without_gain += 1
    return False


def _accumulate(run: Run, window: list[Places], step: int) -> tuple[float, float]:
    """Forward and backward of the batches of one step; the summed loss and what to divide it and the gradients by."""
    total = count = 0.0
    for places in window:
        batch = run.collator(run.dataset, places).to(run.device.torch)
        with run.device.autocast():
            loss, logits = run.model.objective(batch)
        value = loss.sum.item()
        if not math.isfinite(value):
            raise _not_finite("loss", step, run.dataset, _culprits(batch, logits))
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
