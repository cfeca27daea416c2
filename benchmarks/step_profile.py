"""Where the time of a step of fine-tuning goes, and what each trick gave: from transformers' way to doctune's.

    python benchmarks/step_profile.py --folder data/ag_news --svg docs/figures/step.svg

Each way is the one before and one trick more; they take turns on the same texts, and their losses must agree. The
parts of a step are by the names of PyTorch's operations in a profile of one more round. Memory is what a step keeps for
its backward pass, per token: the slope between one batch and two. As all ways take the same batches, products of their
shapes are compiled already, which in a training they are not always.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import MethodType
from typing import Any

import measure
import numpy as np
import torch
from finetuning import Texts, count_work, new_classifier, padded, peer_model, read_texts, save_for_peers
from step_picture import PARTS, draw, part_of
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from doctune.devices import Device
from doctune.encoders.dropout import ByteDropout
from doctune.encoders.embedding import RowEmbedding
from doctune.encoders.packed import PackedEncoder, TransformersEncoder, use_plain_layers
from doctune.encoders.resolve import resolve_encoder
from doctune.files import atomic_path
from doctune.settings import LayerwiseSettings, OptimizerSettings, TruncationSettings
from doctune.tensors import Batch
from doctune.text.tokenizer import TextTokenizer
from doctune.training.layerwise import parameter_groups
from doctune.training.optim import clip_gradients, make_optimizer
from doctune.training.rates import default_learning_rate

FP32, BF16 = Device(torch.device("cpu"), "fp32"), Device(torch.device("cpu"), "bf16")
Losses = Callable[[Batch], Tensor]


@dataclass
class Step:
    """One way of taking a step: the mean loss of a batch, and how the gradients are clipped."""

    model: nn.Module
    loss: Losses
    optimizer: torch.optim.Optimizer
    texts: Texts
    device: Device = BF16
    clips_in_adamw: bool = False

    def __call__(self, number: int) -> None:
        """All steps of a round."""
        torch.manual_seed(number)
        for batch in self.texts.batches(number):
            self.backward(batch)
            if self.clips_in_adamw:
                clip_gradients(self.optimizer, 1.0)
            else:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()

    def forward(self, batch: Batch) -> Tensor:
        """The mean loss."""
        with self.device.autocast():
            return self.loss(batch)

    def backward(self, batch: Batch) -> None:
        """Forward and backward."""
        self.forward(batch).backward()

    def kept_per_token(self, batches: list[Batch]) -> float:
        """Bytes that a token of a batch adds to what is kept for the backward pass."""
        kept = [self._kept(batch) for batch in batches]
        tokens = [batch.num_tokens for batch in batches]
        return (kept[1] - kept[0]) / (tokens[1] - tokens[0])

    def _kept(self, batch: Batch) -> int:
        sizes: dict[int, int] = {}

        def note(x: Tensor) -> Tensor:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
            return x

        with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
            loss = self.forward(batch)
        own = {p.untyped_storage().data_ptr() for p in self.model.parameters()}
        del loss
        return sum(size for place, size in sizes.items() if place not in own)


def theirs(peers: Path, texts: Texts, length: int | None, device: Device, **config: Any) -> Step:
    """transformers' classifier on padded batches; `length` None pads to the longest of the batch."""
    model = peer_model(peers, **config).train()

    def loss(batch: Batch) -> Tensor:
        assert batch.labels is not None
        texts = zip(batch.input_ids.split(list(batch.lengths)), batch.labels, strict=True)
        rows = [{"input_ids": ids.tolist(), "labels": int(label)} for ids, label in texts]
        found: Tensor = model(**padded(rows, length or batch.max_seqlen)).loss
        return found

    rate = default_learning_rate(model.config.hidden_size)
    return Step(model, loss, torch.optim.AdamW(model.parameters(), lr=rate, fused=True), texts, device)


def ours(encoder: Path, texts: Texts, tricks: int) -> Step:
    """doctune's classifier with so many of its five tricks: dropout, embeddings, layers, rows, clipping."""
    model, config = new_classifier(encoder, len(texts.dataset.names), texts.seed)
    inner = model.encoder.model
    if tricks < 1:
        _plain_dropout(model)
    if tricks < 2:
        table = inner.get_input_embeddings()
        assert isinstance(table, RowEmbedding)
        plain = nn.Embedding(*table.weight.shape, padding_idx=table.padding_idx, _weight=table.weight.detach())
        inner.set_input_embeddings(plain)
    if tricks < 3:
        use_plain_layers(inner, model.encoder.family)
        model.encoder = PackedEncoder(inner, model.encoder.family, model.encoder.layers, model.encoder.num_layers)
    if tricks < 4:
        model.encoder.read = MethodType(TransformersEncoder.read, model.encoder)
    model.train()

    def loss(batch: Batch) -> Tensor:
        found = model.losses(batch)[0]["label"]
        mean: Tensor = found.sum / found.count
        return mean

    rate = default_learning_rate(config.hidden_size)
    groups, _ = parameter_groups(model, rate, OptimizerSettings().weight_decay, LayerwiseSettings())
    optimizer = make_optimizer(groups, OptimizerSettings(), lambda step: 1.0)
    return Step(model, loss, optimizer, texts, clips_in_adamw=tricks >= 5)


def _plain_dropout(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, ByteDropout):
            setattr(module, name, nn.Dropout(child.p))
        else:
            _plain_dropout(child)


def steps(encoder: Path, peers: Path, texts: Texts) -> dict[str, Step]:
    """Every way, each with one trick more."""
    length, quiet = texts.collator.max_seq_len, {"attention_probs_dropout_prob": 0.0}
    return {
        f"transformers, padded to {length}, fp32": theirs(peers, texts, length, FP32),
        "padded to the longest of the batch": theirs(peers, texts, None, FP32),
        "bf16": theirs(peers, texts, None, BF16),
        "no dropout of attention": theirs(peers, texts, None, BF16, **quiet),
        "packed, attention in buckets": ours(encoder, texts, 0),
        "dropout masks from bytes": ours(encoder, texts, 1),
        "row-wise gradient of the embeddings": ours(encoder, texts, 2),
        "layers written by hand": ours(encoder, texts, 3),
        "highest layer for [CLS] alone": ours(encoder, texts, 4),
        "clipping inside AdamW: doctune": ours(encoder, texts, 5),
    }


def gate(ways: dict[str, Step], batch: Batch) -> None:
    """Without dropout all ways must give the same loss, but for what bf16 rounds."""
    with torch.no_grad():
        found = {}
        for name, step in ways.items():
            step.model.eval()
            found[name] = float(step.forward(batch))
            step.model.train()
    first = next(iter(found.values()))
    for name, loss in found.items():
        if abs(loss - first) > 0.02 * abs(first):
            measure.fail(f"{name}: loss {loss:.5f}, but {first:.5f} in the first way: not the same work")


def parts(step: Step, number: int) -> dict[str, float]:
    """The share of each part of a step's time, by the names of the operations in it."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        step(number)
    spent = dict.fromkeys(PARTS, 0.0)
    for event in found.key_averages():
        spent[part_of(event.key)] += event.self_cpu_time_total
    whole = sum(spent.values())
    return {part: time / whole for part, time in spent.items()}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="ag_news", help="the data set (default: %(default)s)")
    parser.add_argument("--folder", required=True, help="folder of the data set, or its training file")
    parser.add_argument("--encoder", default="minilm", help="name or folder of an encoder (default: %(default)s)")
    parser.add_argument("--max-seq-len", type=int, default=128, help="longest sequence (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="documents in a step (default: %(default)s)")
    parser.add_argument("--steps-per-round", type=int, default=3, help="steps of each way (default: %(default)s)")
    parser.add_argument("--svg", type=Path, help="draw the picture into this file")
    measure.add_common(parser, 5)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="doctune-benchmark-") as made:
        scratch, encoder = Path(made), resolve_encoder(given.encoder)
        tokenizer, rounds = TextTokenizer.load(encoder), given.warmup + given.rounds
        texts = read_texts(given.data, given.folder, tokenizer, given.max_seq_len, given.batch_size,
                           given.steps_per_round, rounds, given.seed, scratch / "shards")  # fmt: skip
        truncation = TruncationSettings(max_seq_len=given.max_seq_len)
        peers = save_for_peers(encoder, texts.dataset.names, tokenizer, truncation, given.seed, scratch / "peers")
        ways = steps(encoder, peers, texts)
        batch = next(texts.batches(0))
        gate(ways, batch)
        rates = measure.Rates()
        rates.measure()
        seconds = measure.interleaved(dict(ways), given.rounds, given.warmup)
        rates.measure()
        doctune = list(ways)[-1]
        facts: dict[str, Any] = {
            "parts": {name: parts(step, given.warmup) for name, step in ways.items()},
            "kept_bytes_per_token": memory(ways, texts),
        }
        work = count_work(texts, measure.Shape.of(ways[doctune].model.encoder.config),
                          range(given.warmup, rounds))  # fmt: skip
        precisions = {name: step.device.precision for name, step in ways.items()}
        measure.report("step_profile", seconds, work, precisions, rates, facts, given.output, reference=doctune)
        if given.svg:
            per_step = {name: 1000 * statistics.median(s) / given.steps_per_round for name, s in seconds.items()}
            with atomic_path(given.svg) as temporary:
                temporary.write_text(draw(per_step, facts["parts"]), encoding="utf-8")


def memory(ways: dict[str, Step], texts: Texts) -> dict[str, float]:
    """Bytes a token for each way, and for the last one with activations computed again."""
    one, two = _sizes(texts)
    names = list(ways)
    found = {name: ways[name].kept_per_token([one, two]) for name in names}
    last = ways[names[-1]]
    last.model.encoder.recompute_activations()
    found["activations computed again"] = last.kept_per_token([one, two])
    return found


def _sizes(texts: Texts) -> tuple[Batch, Batch]:
    """A batch, and one of twice as many documents."""
    places = texts.feed().inner.steps[0][0]
    more = texts.feed().inner.steps[1][0]
    dataset, collator = texts.dataset, texts.collator
    return collator(dataset, places), collator(dataset, np.concatenate([places, more]))


if __name__ == "__main__":
    measure.run(main)
