"""The training loop of fine-tuning and of further pre-training. Functions; their collaborators are arguments."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from doctune import seeding
from doctune.batches.feed import Feed
from doctune.batches.share import share
from doctune.devices import Device
from doctune.distributed import World
from doctune.errors import TrainingError
from doctune.progress import Progress
from doctune.tensors import ONE_TASK, Batch, Loss
from doctune.training.ahead import Ahead
from doctune.training.budget import Budget
from doctune.training.choice import best_of, is_gain
from doctune.training.log import MetricsLog
from doctune.training.optim import clip_gradients, set_rates
from doctune.training.schedule import Factor
from doctune.training.state import Checkpoints, EpochRecord, Evaluation, TrainingState, state_to_cpu

STEPS_PER_RECORD = 20
Bar = Literal["examples", "step", "tokens", "seconds"]
# Devices that work by themselves once they are told what to do.
ASYNCHRONOUS = ("cuda",)


class Trainable(Protocol):
    """What a model must have: losses as (sum, count), and their counts known beforehand. It is an `nn.Module`."""

    def losses(self, batch: Any) -> tuple[dict[str, Loss], Tensor]:
        """The losses by name, and logits [rows, ...] from which bad documents are told."""
        ...

    def counts(self, batch: Any) -> dict[str, float]:
        """The count of each loss, before it is computed."""
        ...


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
class TrainingSetup:
    """The collaborators of one training: what `train` and its helpers share.

    `budget` says when it is over, `evaluate_after` at which of its positions the model is validated. The progress bar
    counts `bar` of these units of the state. At position `keep_at` a second checkpoint is kept, from which the run goes
    on if it is given another budget. `keep_last`: the last weights are kept, not the best. Of several processes in
    `world` each has all of these, and computes its share of every step.
    """

    model: Any
    feed: Feed
    budget: Budget
    evaluate_after: Sequence[int]
    bar: tuple[Bar, int]
    optimizer: torch.optim.Optimizer
    factor: Factor
    max_grad_norm: float
    device: Device
    seed: int
    patience: int | None = None
    keep_at: int | None = None
    keep_last: bool = False
    world: World = field(default_factory=World.single)


def train(
    run: TrainingSetup,
    evaluate: Callable[[], Evaluation] | None,
    log: MetricsLog,
    checkpoints: Checkpoints | None = None,
    evaluated: Callable[[TrainingState, int], None] | None = None,
) -> Outcome:
    """Train until the budget is spent, validate where the run says, and leave the best weights in the model.

    The random numbers of a step depend on (seed, step) alone, so a run that goes on from its checkpoint ends with the
    same weights. Without `evaluate` the last weights are the best. `evaluated` is called after each validation, with
    the position before that step. Raises `TrainingError` before the step whose loss or gradient is not finite, and
    names the documents in it.
    """
    model, budget = run.model, run.budget
    state, best_weights = TrainingState(), None
    if checkpoints is not None:
        restore = checkpoints.restore
        state, best_weights = run.world.rank0_first(lambda: restore(model, run.optimizer))
        run.feed.seek(state.feed)
    log.forget_after(state.step)
    ahead = Ahead(run.feed)
    stopped = False
    model.train()
    unit, total = run.bar
    with Progress(total, "train", "steps" if unit == "step" else unit, done=int(getattr(state, unit))) as progress:
        while budget.position(state) < budget.end and not stopped:
            before, counted = budget.position(state), int(getattr(state, unit))
            norm, rate, losses, task = _timed_step(run, ahead, state)
            progress.advance(int(getattr(state, unit)) - counted, _note(state, unit))
            if (state.step - 1) % STEPS_PER_RECORD == 0:
                epoch = round(state.step / run.feed.steps_per_epoch, 4)
                log.write(kind="step", step=state.step, epoch=epoch, tokens=state.tokens, loss=sum(losses.values()),
                          **(losses if len(losses) > 1 else task), learning_rate=rate, gradient_norm=norm)  # fmt: skip
            if any(before < place <= budget.position(state) for place in run.evaluate_after):
                if _evaluated_best(run, state, rate, evaluate, log):
                    # The last weights need no copy: they are in the model.
                    over = budget.position(state) >= budget.end
                    best_weights = None if over or run.keep_last else state_to_cpu(model)
                stopped = run.patience is not None and state.without_gain >= run.patience
                if evaluated is not None:
                    evaluated(state, before)
            if checkpoints is not None and before < (run.keep_at or 0) <= budget.position(state):
                checkpoints.keep(state, model, run.optimizer, best_weights)
            if checkpoints is not None:
                checkpoints.save_if_due(state, model, run.optimizer, best_weights)
    if best_weights is not None:
        model.load_state_dict(best_weights)
    return Outcome(state.records, state.best, state.step, state.examples, state.tokens, state.seconds)


def _timed_step(
    run: TrainingSetup, ahead: Ahead, state: TrainingState
) -> tuple[float, float, dict[str, float], dict[str, str]]:
    """One optimiser step, counted in `state`: gradient norm before clipping, highest learning rate, mean losses.

    And the task for the log, where there are several.
    """
    started = time.perf_counter()
    # Each process has dropout of its own.
    own = () if run.world.size == 1 else (run.world.rank,)
    torch.manual_seed(seeding.derive(run.seed, "step", state.step, *own))
    window = ahead.take(state.step, run.budget.position(state) / run.budget.end)
    counts, done = _accumulate(run, window, state.step)
    if run.device.torch.type in ASYNCHRONOUS:
        _make_next(run, ahead, state, window)
    sums = _summed(run, counts, done, state.step)
    norm = clip_gradients(run.optimizer, run.max_grad_norm)
    if not math.isfinite(norm):
        raise _not_finite("gradient", state.step, run, [int(row) for batch in window for row in batch.rows])
    position = run.budget.last_position(state, sum(batch.num_tokens for batch in window))
    rate = set_rates(run.optimizer, run.factor, position)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    for name, total in sums.items():
        state.add_loss(name, total, counts[name])
    state.step += 1
    state.examples += sum(batch.num_documents for batch in window)
    state.tokens += sum(batch.num_tokens for batch in window)
    state.feed = ahead.position
    state.seconds += time.perf_counter() - started
    if run.budget.unit == "seconds":
        # Clocks differ, and all processes must end with the same step.
        state.seconds = run.world.broadcast(torch.tensor(state.seconds, dtype=torch.float64)).item()
    means = {name: total / counts[name] for name, total in sums.items() if counts[name] > 0}
    return norm, rate, means, {} if window[0].task == ONE_TASK else {"task": window[0].task}


def _make_next(run: TrainingSetup, ahead: Ahead, state: TrainingState, window: Sequence[Batch]) -> None:
    """Make the next step's batches, if there will be one: a GPU is busy with what it was given meanwhile."""
    if run.budget.unit == "seconds":
        return  # nobody knows yet how far the run will be
    tokens = sum(batch.num_tokens for batch in window)
    position = run.budget.position(replace(state, step=state.step + 1, tokens=state.tokens + tokens))
    if position < run.budget.end:
        ahead.make(state.step + 1, position / run.budget.end)


Done = list[tuple[Batch, dict[str, Tensor]]]
"""The batches that went through the model, on its device, each with the sum of each of its losses."""


def _accumulate(run: TrainingSetup, window: Sequence[Batch], step: int) -> tuple[dict[str, float], Done]:
    """Forward and backward of the batches of one step, divided by each loss's count over the whole window.

    Of several processes each computes its share of every batch.
    """
    counts: dict[str, float] = {}
    for batch in window:
        for name, count in run.model.counts(batch).items():
            counts[name] = counts.get(name, 0.0) + count
    if not any(count > 0 for count in counts.values()):
        raise TrainingError(f"step {step + 1}: every document has class weight 0; mend training.class_weights")
    done: Done = []
    for batch in window:
        mine = share(batch, run.world.rank, run.world.size)
        if mine is None:
            continue
        moved = mine.to(run.device.torch)
        with run.device.autocast():
            losses, _ = run.model.losses(moved)
        done.append((moved, {name: loss.sum.detach() for name, loss in losses.items()}))
        parts = [loss.sum / counts[name] for name, loss in losses.items() if counts[name] > 0]
        torch.stack(parts).sum().backward()  # type: ignore[no-untyped-call]
    return counts, done


def _summed(run: TrainingSetup, counts: dict[str, float], done: Done, step: int) -> dict[str, float]:
    """Each loss's sum; raises where one is not finite. Of several processes sums and gradients are those of all.

    Read only now, behind the backward passes: a GPU has been given all of its work before it is waited for.
    """
    sums, error = dict.fromkeys(counts, 0.0), None
    for batch, losses in done:
        values = {name: total.item() for name, total in losses.items()}
        for name, value in values.items():
            sums[name] += value
        if error is None and not all(map(math.isfinite, values.values())):
            error = _not_finite("loss", step, run, _culprits(run, batch))
    if error is not None and run.world.size == 1:
        raise error
    return sums if run.world.size == 1 else _add_up(run, sums, error)


def _add_up(run: TrainingSetup, sums: dict[str, float], error: TrainingError | None) -> dict[str, float]:
    """Sum losses and gradients over all processes; raises on all of them if one has an error."""
    parameters = [p for group in run.optimizer.param_groups for p in group["params"]]
    here = [float(p.grad is not None) for p in parameters]
    told = torch.tensor([float(error is not None), *sums.values(), *here], dtype=torch.float64)
    failed, *values = run.world.all_reduce(told).tolist()
    if failed:
        run.world.raise_together(error)
    totals, present = values[: len(sums)], values[len(sums) :]
    run.world.sum_gradients(parameters, [count > 0 for count in present])
    return dict(zip(sums, totals, strict=True))


def _evaluated_best(
    run: TrainingSetup, state: TrainingState, rate: float, evaluate: Callable[[], Evaluation] | None, log: MetricsLog
) -> bool:
    """Validate and record it; whether these weights are the best so far."""
    evaluation = evaluate() if evaluate else None
    means = state.mean_losses()
    record = EpochRecord(
        epoch=round(state.step / run.feed.steps_per_epoch, 4),
        step=state.step,
        train_loss=sum(means.values()),
        learning_rate=rate,
        examples_per_second=state.examples / state.seconds,
        evaluation=evaluation,
        train_losses=means,
    )
    state.records.append(record)
    state.losses = {}
    log.write(kind="evaluation", step=record.step, epoch=record.epoch, tokens=state.tokens,
              train_loss=record.train_loss, **(evaluation.record if evaluation else {}))  # fmt: skip
    scores = [one.evaluation.score for one in state.records if one.evaluation is not None]
    last = len(state.records) - 1
    state.without_gain = 0 if evaluation is None or is_gain(scores) else state.without_gain + 1
    if evaluation is None or run.keep_last or best_of(scores) == last:
        state.best = last
    return state.best == last


def _note(state: TrainingState, unit: str) -> str:
    """The losses, and the speed in tokens where the bar does not show it."""
    means = state.mean_losses()
    names = means if len(means) > 1 else dict.fromkeys(["loss"], sum(means.values()))
    text = ", ".join(f"{name} {value:.3f}" for name, value in names.items())
    text += "" if "loss" in names else " loss"
    return text if unit in ("examples", "tokens") else f"{text}, {state.tokens / state.seconds:,.0f} tokens/s"


@torch.no_grad()
def _culprits(run: TrainingSetup, batch: Batch) -> list[int]:
    """The documents whose logits are not finite, computed once more; all of the batch if none stands out."""
    with run.device.autocast():
        _, logits = run.model.losses(batch)
    bad = ~torch.isfinite(logits.float()).all(dim=-1)
    stands_out = bool(bad.any()) and len(bad) == len(batch.rows)
    rows = batch.rows[bad.nonzero().flatten()] if stands_out else batch.rows
    return [int(row) for row in rows]


def _not_finite(what: str, step: int, run: TrainingSetup, rows: list[int]) -> TrainingError:
    more = f" and {len(rows) - 8} more" if len(rows) > 8 else ""
    return TrainingError(
        f"training: the {what} is not a finite number in step {step + 1}; stopped before it. "
        f"Documents: {', '.join(run.feed.names(rows[:8]))}{more}. Try a lower --learning-rate, or --precision fp32"
    )
