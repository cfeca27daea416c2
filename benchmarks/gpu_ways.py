"""Ways of training that `gpu.py` times on a card: doctune's own loop, and transformers' Trainer on the same batches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import measure
import numpy as np
import torch
from finetuning import new_classifier, padded
from gpu_bench import Bench, Blocks, Figures, corpus
from pretraining_step import RATE, WEIGHT_DECAY, load, rows_read

from doctune.batches.feed import DocumentFeed, Feed
from doctune.batches.sequences import Choice, Recipe, SequenceFeed
from doctune.settings import (
    LayerwiseSettings,
    MaskingSettings,
    OptimizerSettings,
    PairSettings,
    ScheduleSettings,
    TrainingSettings,
)
from doctune.store.splits import Dataset
from doctune.tensors import Batch, MaskedBatch
from doctune.training.budget import Budget
from doctune.training.layerwise import parameter_groups
from doctune.training.log import MetricsLog
from doctune.training.loop import TrainingSetup, train
from doctune.training.optim import make_optimizer
from doctune.training.rates import default_learning_rate
from doctune.training.schedule import make_schedule


@dataclass
class Stopwatch:
    """Seconds of each block of steps; the card is waited for at the bounds of blocks and nowhere else."""

    bench: Bench
    blocks: Blocks
    times: list[float] = field(default_factory=list)

    def reached(self, step: int) -> None:
        """So many steps are behind."""
        if step in self.blocks.bounds:
            self.bench.synchronize()
            self.times.append(time.perf_counter())

    @property
    def seconds(self) -> list[float]:
        """Of each block."""
        return np.diff(self.times).tolist()


class BlockFeed:
    """Another feed, with a stopwatch; keeps its batches, and the seconds of making those that count."""

    def __init__(self, inner: Feed, watch: Stopwatch) -> None:
        self.inner, self.watch = inner, watch
        self.steps_per_epoch = inner.steps_per_epoch
        self.batches: list[Batch] = []
        self.making = 0.0

    def window(self, step: int, progress: float) -> Sequence[Batch]:
        """The one batch of a step."""
        self.watch.reached(step)
        started = time.perf_counter()
        made = self.inner.window(step, progress)
        if step >= self.watch.blocks.warmup:
            self.making += time.perf_counter() - started
        self.batches += made
        return made

    def position(self) -> dict[str, int]:
        """Nothing: no checkpoint is written."""
        return {}

    def seek(self, position: dict[str, int]) -> None:
        """Nothing to do."""

    def names(self, rows: Sequence[int]) -> list[str]:
        """Their numbers are enough for a message."""
        return list(map(str, rows))


class ReadyFeed(BlockFeed):
    """Batches that were made before, so that a step has none of the time of making them."""

    def __init__(self, batches: Sequence[Batch], watch: Stopwatch) -> None:
        self.watch, self.steps_per_epoch, self.making = watch, float(len(batches)), 0.0
        self.batches = list(batches)

    def window(self, step: int, progress: float) -> Sequence[Batch]:
        """The one batch of a step."""
        self.watch.reached(step)
        return [self.batches[step]]


@dataclass(frozen=True, slots=True)
class Case:
    """A model that doctune's loop trains, and what on."""

    model: Any
    groups: Any
    feed: Feed
    shape: measure.Shape
    clips_per_tensor: bool


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds of each block, those of making batches in all of them, and the most memory in 10^6 bytes."""

    seconds: list[float]
    batches: list[Batch]
    making: float
    megabytes: float


def pretraining_case(bench: Bench, batch_tokens: int) -> Case:
    """BERT-base's masked words and next sentences, as many sequences in a batch as have about so many tokens."""
    sizes, tokenizer = bench.sizes, bench.tokenizer()
    recipe = Recipe(
        PairSettings(sequence_len=sizes.sequence_len), MaskingSettings(), tokenizer.template, tokenizer.mask_id,
        tokenizer.size,
    )  # fmt: skip
    shard: Any = corpus(bench)
    chosen = Choice((np.ones(len(shard)),))
    sample = SequenceFeed([shard], chosen, recipe, bench.seed, 32).window(0, 0.0)[0]
    batch_size = max(round(batch_tokens * sample.num_documents / sample.num_tokens), 1)
    feed = SequenceFeed([shard], chosen, recipe, bench.seed, batch_size)
    model = load(bench.bert(sizes.base), bench.seed).model.to(bench.device.torch)
    groups, _ = parameter_groups(model, RATE, WEIGHT_DECAY, LayerwiseSettings(layerwise="none"))
    return Case(model, groups, feed, measure.Shape.of(model.encoder.config), False)


def classifier_case(
    bench: Bench, size: tuple[int, int], dataset: Dataset, collator: Any, batch_size: int, steps: int
) -> Case:
    """Fine-tuning of a BERT of this size, with the pooler and a linear head."""
    model, config = new_classifier(bench.bert(size), len(dataset.names), bench.seed)
    model = model.to(bench.device.torch)
    rate = default_learning_rate(config.hidden_size)
    groups, _ = parameter_groups(model, rate, OptimizerSettings().weight_decay, LayerwiseSettings())
    epochs = steps * batch_size / len(dataset) + 1
    feed = DocumentFeed(dataset, collator, TrainingSettings(epochs=epochs, batch_size=batch_size), bench.seed)
    return Case(model, groups, feed, measure.Shape.of(model.encoder.config), True)


def doctune_loop(bench: Bench, case: Case, blocks: Blocks, ready: Sequence[Batch] | None = None) -> Timed:
    """doctune's training loop, which makes its batches as it goes unless they are `ready`."""
    watch = Stopwatch(bench, blocks)
    feed = BlockFeed(case.feed, watch) if ready is None else ReadyFeed(ready, watch)
    settings, factor = OptimizerSettings(), make_schedule(ScheduleSettings(), blocks.total)
    run = TrainingSetup(
        model=case.model, feed=feed, budget=Budget("step", blocks.total), evaluate_after=(),
        bar=("step", blocks.total), optimizer=make_optimizer(case.groups, settings, factor, case.clips_per_tensor),
        max_grad_norm=settings.max_grad_norm, device=bench.device, seed=bench.seed,
    )  # fmt: skip
    bench.forget_peak()
    train(run, None, MetricsLog(bench.scratch / "logs" / "metrics.jsonl"))
    watch.reached(blocks.total)
    return Timed(watch.seconds, feed.batches[: blocks.total], feed.making, bench.megabytes())


def trainer(
    bench: Bench, model: Any, inputs: list[dict[str, torch.Tensor]], blocks: Blocks, compiles: bool = False
) -> Timed:
    """transformers' Trainer with its defaults and bf16, on batches that are padded and ready."""
    measure.need("accelerate")
    from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

    watch = Stopwatch(bench, blocks)

    class Watching(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == blocks.warmup:
                watch.reached(state.global_step)

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step > blocks.warmup:
                watch.reached(state.global_step)

    # Each example of the data set is a whole batch: no time goes to the collator.
    arguments = TrainingArguments(
        output_dir=str(bench.scratch / "trainer"), per_device_train_batch_size=1, max_steps=blocks.total,
        learning_rate=RATE, bf16=bench.device.precision == "bf16", use_cpu=not bench.on_gpu, seed=bench.seed,
        train_sampling_strategy="sequential", optim="adamw_torch_fused", torch_compile=compiles,
        remove_unused_columns=False, logging_strategy="no", save_strategy="no", eval_strategy="no", report_to="none",
        disable_tqdm=True, dataloader_pin_memory=bench.on_gpu,
    )  # fmt: skip
    made = Trainer(
        model=model, args=arguments, train_dataset=inputs, data_collator=lambda rows: rows[0], callbacks=[Watching()]
    )
    made.remove_callback(PrinterCallback)
    bench.forget_peak()
    made.train()
    return Timed(watch.seconds, [], 0.0, bench.megabytes())


def classifier_inputs(batch: Batch) -> dict[str, torch.Tensor]:
    """A packed batch as the input of transformers' classifier, padded to its longest."""
    assert batch.labels is not None
    texts = zip(batch.input_ids.split(list(batch.lengths)), batch.labels, strict=True)
    return padded([{"input_ids": ids.tolist(), "labels": int(label)} for ids, label in texts], batch.max_seqlen)


def figures_of(bench: Bench, timed: Timed, batches: Sequence[Batch], blocks: Blocks, shape: measure.Shape) -> Figures:
    """Tokens a second and shares of the card's rate: the medians over the blocks, on the batches that they all got."""
    parts = [batches[first : first + blocks.steps] for first in blocks.bounds[:-1]]
    tokens = [sum(batch.num_tokens for batch in part) for part in parts]
    works = [[sum(pair) for pair in zip(*(_flops(batch, shape) for batch in part), strict=True)] for part in parts]
    rate = bench.rate or product_rate(bench)
    bench.rate = rate
    counted = batches[blocks.warmup : blocks.total]
    places = sum(len(batch.lengths) * batch.max_seqlen for batch in counted)
    return {
        "tokens_per_second": _median(tokens, timed.seconds),
        "milliseconds_per_step": 1000 * statistics.median(timed.seconds) / blocks.steps,
        "lowest_and_highest": [1000 * second / blocks.steps for second in (min(timed.seconds), max(timed.seconds))],
        "documents_per_step": sum(batch.num_documents for batch in counted) / len(counted),
        "tokens_per_step": sum(tokens) / len(counted),
        "padding_in_peers": 1 - sum(tokens) / places,
        "mfu": _median([needed for needed, _ in works], timed.seconds) / rate,
        "mfu_of_all_rows": _median([whole for _, whole in works], timed.seconds) / rate,
        "share_making_batches": timed.making / sum(timed.seconds),
        "megabytes": timed.megabytes,
        "seconds": timed.seconds,
    }


def _median(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    return statistics.median(amount / spent for amount, spent in zip(amounts, seconds, strict=True))


def _flops(batch: Batch, shape: measure.Shape) -> tuple[float, float]:
    """FLOPs of a step with the rows of the highest layer that are read, and with all rows; logits of masked tokens."""
    read, words = [1] * len(batch.lengths), 0.0
    if isinstance(batch, MaskedBatch):
        read, words = rows_read(batch), measure.words_flops(shape, len(batch.masked_positions))
    encoder = measure.encoder_flops
    return encoder(shape, batch.lengths, read) + words, encoder(shape, batch.lengths) + words


def line_of(figures: Figures) -> str:
    """The figures that are looked at first."""
    low, high = figures["lowest_and_highest"]
    return (
        f"{figures['tokens_per_second']:,.0f} tokens/s, {figures['milliseconds_per_step']:.2f} ms/step ({low:.2f} to "
        f"{high:.2f}), MFU {100 * figures['mfu']:.1f} % ({100 * figures['mfu_of_all_rows']:.1f} % of all rows), making "
        f"batches {100 * figures['share_making_batches']:.1f} %, {figures['megabytes']:,.0f} MB"
    )


def product_rate(bench: Bench, times: int = 9) -> float:
    """FLOP/s of a product of two large bf16 matrices of random numbers: the median of several."""
    size, device = bench.sizes.product, bench.device.torch
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    out = torch.empty_like(left)
    seconds = card_seconds(bench, lambda: torch.mm(left, right, out=out), times)
    return 2 * size**3 / statistics.median(seconds)


def card_seconds(bench: Bench, work: Any, times: int) -> list[float]:
    """Seconds of each of some calls, by the card's own events where there is a card."""
    for _ in range(3):
        work()
    if not bench.on_gpu:
        return [measure.timed(work) for _ in range(times)]
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(times)]
    for start, end in events:
        start.record()
        work()
        end.record()
    bench.synchronize()
    return [start.elapsed_time(end) / 1000 for start, end in events]
