"""A step of fine-tuning on real texts: doctune's own loop beside the Hugging Face Trainer and the original's way.

    python benchmarks/finetuning.py --data ag_news --folder data/ag_news      128 tokens, 32 documents a step
    python benchmarks/finetuning.py --data imdb --folder data/imdb            512 tokens, 16 documents a step

--folder may also name the file of the training texts, where it is not called as the data set's own.

Every way begins with the same weights, pooled [CLS] and linear head included, and gets the same token ids of the same
documents in the same order. First of all doctune must give the same loss and gradient as transformers, without dropout
and in fp32. The ways (`--ways`), each with its own batches made as it makes them:

    doctune                 the loop of `doctune finetune` with its defaults: packed, AdamW, clipping, dropout of hidden
                            states as the config has it and none of attention, bf16 where the processor has it
    doctune-no-dropout      the same without any dropout: the difference is what dropout costs
    doctune-fp32            the same in fp32
    trainer                 transformers' Trainer with its defaults: padded to the batch's longest, fp32, AdamW,
                            clipping, dropout as the config has it; its start-up is not timed
    trainer-bf16            the same with bf16=True
    trainer-hidden-dropout  the same in fp32, but without dropout of attention, as in doctune
    original                a plain PyTorch loop, every text padded to --max-seq-len, fp32, AdamW, clipping
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import measure
import torch
from measure import Clock, RoundFeed, Way, Work

import doctune
from doctune import seeding
from doctune.batches.collate import Collator, make_collator
from doctune.batches.feed import DocumentFeed
from doctune.classifier.folder import Description, save_model
from doctune.devices import choose_device
from doctune.encoders.load import load_encoder
from doctune.encoders.resolve import resolve_encoder
from doctune.models.classifier import build_classifier
from doctune.readers import sources
from doctune.settings import (
    DataSettings,
    EncoderSettings,
    LayerwiseSettings,
    OptimizerSettings,
    ScheduleSettings,
    TrainingSettings,
    TruncationSettings,
)
from doctune.store.build import build_shard
from doctune.store.splits import Dataset, make_dataset
from doctune.targets import TargetSettings
from doctune.tensors import Batch
from doctune.text.tokenizer import TextTokenizer
from doctune.training.budget import Budget
from doctune.training.layerwise import parameter_groups
from doctune.training.log import MetricsLog
from doctune.training.loop import TrainingSetup, train
from doctune.training.optim import make_optimizer
from doctune.training.rates import default_learning_rate
from doctune.training.schedule import make_schedule

# Longest sequence, documents in a batch, steps in a round.
DEFAULTS = {"ag_news": (128, 32, 6), "imdb": (512, 16, 2), "trec": (64, 32, 10)}
WAYS = ("doctune", "trainer", "original", "doctune-no-dropout")
MORE_WAYS = ("doctune-fp32", "trainer-bf16", "trainer-hidden-dropout")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Texts:
    """Documents in the order in which every way gets them: `steps` batches of `batch_size` in a round."""

    dataset: Dataset
    collator: Collator
    batch_size: int
    steps: int
    rounds: int
    seed: int

    def feed(self, steps: int | None = None) -> RoundFeed:
        """doctune's own feed, which makes the batches when they are asked for."""
        # One step more than is used, for a loop that makes batches ahead.
        epochs = math.ceil((self.rounds * self.steps + 1) / max(len(self.dataset) // self.batch_size, 1))
        settings = TrainingSettings(epochs=epochs, batch_size=self.batch_size)
        return RoundFeed(DocumentFeed(self.dataset, self.collator, settings, self.seed), steps or self.steps)

    def batches(self, number: int) -> Iterator[Batch]:
        """The batches of a round, for the peers and for counting."""
        feed = self.feed()
        return (batch for step in range(self.steps) for batch in feed.inner.window(number * self.steps + step, 0.0))

    def rows(self, number: int) -> Rows:
        """The same as a Hugging Face data set: token ids and labels of one document after another."""
        rows = []
        for batch in self.batches(number):
            assert batch.labels is not None
            parts = batch.input_ids.split(list(batch.lengths))
            rows += [{"input_ids": ids.tolist(), "labels": int(y)} for ids, y in zip(parts, batch.labels, strict=True)]
        return rows


def read_texts(
    data: str, folder: str, tokenizer: TextTokenizer, max_seq_len: int, batch_size: int, steps: int, rounds: int,
    seed: int, shards: Path,
) -> Texts:  # fmt: skip
    """Documents of a data set at random, as many as are needed or as there are, tokenised as doctune does."""
    where = {"train" if Path(folder).is_file() else "data": folder}
    source = sources(DataSettings(dataset=data, **where))["train"]
    examples = list(source.read())
    chosen = seeding.generator(seed, "benchmark").permutation(len(examples))[: (rounds * steps + 1) * batch_size]
    shard = build_shard([examples[place] for place in chosen], tokenizer, shards, data, show_progress=False).shard
    dataset = make_dataset(data, shard, TargetSettings().bind(shard.column("label"), source.labels))
    collator = make_collator(tokenizer, TruncationSettings(max_seq_len=max_seq_len))
    return Texts(dataset, collator, batch_size, steps, rounds, seed)


def new_classifier(encoder: Path, num_labels: int, seed: int, dropout: float | None = None) -> tuple[Any, Any]:
    """An encoder with the pooler and a new linear head, the same for the same seed; and its config."""
    torch.manual_seed(seeding.derive(seed, "new layers"))
    loaded = load_encoder(encoder, EncoderSettings(encoder=str(encoder), dropout=dropout), (-1,))
    return build_classifier(loaded, "pooler", "concat", num_labels, dropout=dropout), loaded.config


def save_for_peers(
    encoder: Path, names: tuple[str, ...], tokenizer: TextTokenizer, truncation: TruncationSettings, seed: int,
    folder: Path,
) -> Path:  # fmt: skip
    """The same new classifier as a folder, which transformers loads as its own."""
    model, config = new_classifier(encoder, len(names), seed)
    description = Description(
        doctune=doctune.__version__, labels=names, truncation=truncation, layers=model.encoder.layers,
        num_layers=model.encoder.num_layers, layer_pooling="concat", token_pooling="pooler",
        packing=model.encoder.packing,
    )  # fmt: skip
    save_model(model, config, description, tokenizer, folder)
    return folder


class OurLoop:
    """doctune's training loop, called once a round; model, optimiser and feed go on from round to round."""

    def __init__(
        self, model: Any, groups: Any, feed: RoundFeed, folder: Path, precision: str, seed: int,
        clips_per_tensor: bool = True,
    ) -> None:  # fmt: skip
        self.model, self.feed, self.folder, self.seed = model, feed, folder, seed
        self.device = choose_device("cpu", precision)  # type: ignore[arg-type]
        self.clock = Clock()
        settings = OptimizerSettings()
        factor = make_schedule(ScheduleSettings(), feed.steps)
        self.max_grad_norm = settings.max_grad_norm
        self.optimizer = make_optimizer(groups, settings, factor, clips_per_tensor)
        self._step, self._behind = self.optimizer.step, math.nan
        self.optimizer.step = self._timed_step  # type: ignore[method-assign]

    def __call__(self, number: int) -> None:
        """Train for one round."""
        self.feed.round = number
        self.clock.begin()
        before, backward = self.feed.seconds, torch.autograd.backward

        def noted(*given: Any, **named: Any) -> None:
            backward(*given, **named)
            self._behind = time.perf_counter()

        run = TrainingSetup(
            model=self.model, feed=self.feed, budget=Budget("step", self.feed.steps), evaluate_after=(),
            bar=("step", self.feed.steps), optimizer=self.optimizer,
            max_grad_norm=self.max_grad_norm, device=self.device, seed=self.seed,
        )  # fmt: skip
        torch.autograd.backward = noted
        try:
            train(run, None, MetricsLog(self.folder / "metrics.jsonl"))
        finally:
            torch.autograd.backward = backward
        self.clock.add("making the batches", self.feed.seconds - before)

    def _timed_step(self, *given: Any, **named: Any) -> Any:
        """The optimiser's step; what the loop does between the backward pass and it is clipping."""
        self.clock.add("clipping", time.perf_counter() - self._behind)
        started, result = time.perf_counter(), self._step(*given, **named)
        self.clock.add("optimiser", time.perf_counter() - started)
        return result

    def first_step(self) -> dict[str, float]:
        """What the loop writes about its first step: the losses, and the norm of the gradient before clipping."""
        self(0)
        with (self.folder / "metrics.jsonl").open(encoding="utf-8") as lines:
            record: dict[str, float] = json.loads(next(lines))
        return record


def our_way(
    encoder: Path, texts: Texts, folder: Path, precision: str = "auto", dropout: float | None = None,
    steps: int | None = None,
) -> OurLoop:  # fmt: skip
    """The loop of `doctune finetune` with its defaults."""
    model, config = new_classifier(encoder, len(texts.dataset.names), texts.seed, dropout)
    rate = default_learning_rate(config.hidden_size)
    groups, _ = parameter_groups(model, rate, OptimizerSettings().weight_decay, LayerwiseSettings())
    return OurLoop(model, groups, texts.feed(steps), folder, precision, texts.seed)


def peer_model(folder: Path, **config: Any) -> Any:
    """transformers' own classifier with the same weights."""
    from transformers import AutoModelForSequenceClassification
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32, **config)


def trainer_way(folder: Path, texts: Texts, scratch: Path, bf16: bool = False, **config: Any) -> Way:
    """transformers' Trainer; the seconds are those between the beginning of an epoch and the end of its last step."""
    measure.need("accelerate")
    from transformers import (
        AutoTokenizer,
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    class StepClock(TrainerCallback):
        started = ended = 0.0

        def on_epoch_begin(self, *given: Any, **named: Any) -> None:
            self.started = time.perf_counter()

        def on_step_end(self, *given: Any, **named: Any) -> None:
            self.ended = time.perf_counter()

    clock, model = StepClock(), peer_model(folder, **config)
    arguments = TrainingArguments(
        output_dir=str(scratch), per_device_train_batch_size=texts.batch_size, max_steps=texts.steps,
        learning_rate=default_learning_rate(model.config.hidden_size), bf16=bf16, use_cpu=True, seed=texts.seed,
        train_sampling_strategy="sequential", logging_strategy="no", save_strategy="no", eval_strategy="no",
        report_to="none", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    collate = DataCollatorWithPadding(AutoTokenizer.from_pretrained(folder))
    rows = [texts.rows(number) for number in range(texts.rounds)]
    trainer = Trainer(model=model, args=arguments, train_dataset=rows[0], data_collator=collate, callbacks=[clock])
    trainer.remove_callback(PrinterCallback)

    def way(number: int) -> float:
        trainer.train_dataset = rows[number]
        trainer.train()
        assert trainer.state.global_step == texts.steps
        return clock.ended - clock.started

    return way


def original_way(folder: Path, texts: Texts) -> Way:
    """A plain loop over texts that are all padded to the longest length there is."""
    model = peer_model(folder).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=default_learning_rate(model.config.hidden_size))
    rows = [texts.rows(number) for number in range(texts.rounds)]

    def way(number: int) -> None:
        torch.manual_seed(number)
        for start in range(0, len(rows[number]), texts.batch_size):
            part = rows[number][start : start + texts.batch_size]
            model(**padded(part, texts.collator.max_seq_len)).loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    return way


def padded(rows: Rows, length: int) -> dict[str, torch.Tensor]:
    """Rows as the input of transformers' classifier."""
    ids = torch.zeros(len(rows), length, dtype=torch.int64)
    mask = torch.zeros_like(ids)
    for place, row in enumerate(rows):
        ids[place, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        mask[place, : len(row["input_ids"])] = 1
    return {"input_ids": ids, "attention_mask": mask, "labels": torch.tensor([row["labels"] for row in rows])}


def gate(encoder: Path, peers: Path, texts: Texts, scratch: Path) -> dict[str, dict[str, float]]:
    """Loss and gradient of the first batch in doctune's loop and in transformers' classifier, without dropout."""
    ours = our_way(encoder, texts, scratch, "fp32", 0.0, 1).first_step()
    rows = texts.rows(0)[: texts.batch_size]
    model = peer_model(peers).eval()  # in evaluation mode there is no dropout, and the gradients are the same
    loss = model(**padded(rows, max(len(row["input_ids"]) for row in rows))).loss
    loss.backward()
    theirs = {"loss": loss.item(), "gradient_norm": measure.gradient_norm(model.parameters())}
    return measure.check_equal({name: ours[name] for name in theirs}, theirs)


def count_work(texts: Texts, shape: measure.Shape, rounds: range) -> Work:
    """Documents, tokens and FLOPs of the rounds that count."""
    work = Work("step", texts.steps)
    for number in rounds:
        batches = list(texts.batches(number))
        lengths = [length for batch in batches for length in batch.lengths]
        whole = measure.encoder_flops(shape, lengths)
        work.add(lengths, whole, measure.encoder_flops(shape, lengths, [1] * len(lengths)))
    return work


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DEFAULTS, default="ag_news", help="the data set (default: %(default)s)")
    parser.add_argument("--folder", required=True, help="folder of the data set, or its training file")
    parser.add_argument("--encoder", default="minilm", help="name or folder of an encoder (default: %(default)s)")
    parser.add_argument("--max-seq-len", type=int, help="longest sequence (default: 128; imdb 512, trec 64)")
    parser.add_argument("--batch-size", type=int, help="documents in a step (default: 32; imdb 16)")
    parser.add_argument("--steps-per-round", type=int, help="steps of each way in a round (default: 6; imdb 2)")
    parser.add_argument("--ways", nargs="+", choices=(*WAYS, *MORE_WAYS), default=WAYS, metavar="WAY",
                        help=f"what to time: {', '.join((*WAYS, *MORE_WAYS))} (default: the first four)")  # fmt: skip
    measure.add_common(parser, 5)
    given = parser.parse_args()
    for name, value in zip(("max_seq_len", "batch_size", "steps_per_round"), DEFAULTS[given.data], strict=True):
        if getattr(given, name) is None:
            setattr(given, name, value)
    if "doctune" not in given.ways:
        given.ways = ["doctune", *given.ways]
    return given


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="doctune-benchmark-") as made:
        scratch, encoder = Path(made), resolve_encoder(given.encoder)
        tokenizer, rounds = TextTokenizer.load(encoder), given.warmup + given.rounds
        texts = read_texts(given.data, given.folder, tokenizer, given.max_seq_len, given.batch_size,
                           given.steps_per_round, rounds, given.seed, scratch / "shards")  # fmt: skip
        truncation = TruncationSettings(max_seq_len=given.max_seq_len)
        peers = save_for_peers(encoder, texts.dataset.names, tokenizer, truncation, given.seed, scratch / "peers")
        equal = gate(encoder, peers, texts, scratch / "gate")
        makers: dict[str, Callable[[Path], Way]] = {
            "doctune": lambda place: our_way(encoder, texts, place),
            "doctune-no-dropout": lambda place: our_way(encoder, texts, place, dropout=0.0),
            "doctune-fp32": lambda place: our_way(encoder, texts, place, "fp32"),
            "trainer": lambda place: trainer_way(peers, texts, place),
            "trainer-bf16": lambda place: trainer_way(peers, texts, place, bf16=True),
            "trainer-hidden-dropout": lambda p: trainer_way(peers, texts, p, attention_probs_dropout_prob=0.0),
            "original": lambda place: original_way(peers, texts),
        }
        ways = {name: makers[name](scratch / name) for name in given.ways}
        rates = measure.Rates()
        rates.measure()
        seconds = measure.interleaved(ways, given.rounds, given.warmup)
        rates.measure()
        ours = ways["doctune"]
        assert isinstance(ours, OurLoop)
        precisions = {name: "bf16" if name.endswith("bf16") else "fp32" for name in ways}
        precisions |= {name: ours.device.precision for name in ("doctune", "doctune-no-dropout")}
        shape = measure.Shape.of(ours.model.encoder.config)
        work = count_work(texts, shape, range(given.warmup, rounds))
        facts = {"gate": equal, "shares of a step": shares(ours, seconds), **settings_of(given, work)}
        measure.report(f"finetuning_{given.data}", seconds, work, precisions, rates, facts, given.output)


def shares(ours: OurLoop, seconds: dict[str, list[float]]) -> dict[str, float]:
    """What parts of doctune's steps go to what is not the model."""
    found = ours.clock.shares(seconds["doctune"])
    if "doctune-no-dropout" in seconds:
        found["dropout"] = 1 - measure.ratios(seconds["doctune-no-dropout"], seconds["doctune"])["median"]
    return found


def settings_of(given: argparse.Namespace, work: Work) -> dict[str, Any]:
    """What was asked for, and how long the texts are."""
    names = ("max_seq_len", "batch_size", "steps_per_round", "rounds", "warmup", "seed")
    return {
        "settings": {name: getattr(given, name) for name in names} | {"encoder": Path(given.encoder).name},
        "mean_length": sum(work.tokens) / sum(work.examples),
    }


if __name__ == "__main__":
    measure.run(main)
