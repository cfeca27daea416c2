"""What memory a training step needs on one document of 50,000 tokens in windows, beside a batch of ordinary texts.

    python benchmarks/long_document.py                      the figures, and benchmarks/results/long_document.json
    python benchmarks/long_document.py --tokens 8000 --encoder doctune-mini --output smaller.json

Each case runs in a process of its own, which takes a step on one short text first: weights, gradients and moments are
there, and what the step in question adds is its activations. Measured is the most resident memory of the process. The
texts are random words of the vocabulary; mean pooling, two classes, and the step is that of `doctune finetune`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import RESULTS, command, machine

from doctune.batches.collate import Collator, make_collator
from doctune.devices import Device, choose_device
from doctune.encoders.load import load_encoder
from doctune.encoders.resolve import resolve_encoder
from doctune.examples import Example
from doctune.files import write_json
from doctune.models.classifier import WINDOWS_PER_PASS, Classifier, build_classifier
from doctune.settings import EncoderSettings, LayerwiseSettings, OptimizerSettings, TruncationSettings
from doctune.store.build import build_shard
from doctune.store.splits import make_dataset
from doctune.targets import SingleTarget
from doctune.tensors import Batch
from doctune.text.tokenizer import TextTokenizer
from doctune.training.layerwise import parameter_groups
from doctune.training.optim import clip_gradients, make_optimizer

MAX_SEQ_LEN, BATCH_SIZE = 512, 24
WARM_UP = 20  # tokens of the first step's text


@dataclass(frozen=True, slots=True)
class Case:
    """A batch of texts of so many tokens, special ones not counted; `per_pass` windows are encoded at a time."""

    name: str
    texts: int
    tokens: int
    per_pass: int


def cases(tokens: int, unbounded: int) -> list[Case]:
    """The reference first."""
    room = MAX_SEQ_LEN - 2
    every = -(-unbounded // room)
    return [
        Case(f"{BATCH_SIZE} texts of {MAX_SEQ_LEN} tokens", BATCH_SIZE, room, WINDOWS_PER_PASS),
        *(Case(f"{tokens:,} tokens in windows, {n} a pass", 1, tokens, n) for n in (WINDOWS_PER_PASS, 8, 1)),
        Case(f"{unbounded:,} tokens in windows, all at once", 1, unbounded, every),
    ]


def texts_of(tokenizer: TextTokenizer, number: int, tokens: int) -> list[str]:
    """Texts of random words that are one token each."""
    words = [word for word in tokenizer.tokenizer.get_vocab() if word.isascii() and word.isalpha() and len(word) > 2]
    chosen = sorted(word for word, ids in zip(words, tokenizer.encode(words), strict=True) if len(ids) == 1)
    random = np.random.default_rng(0)
    return [" ".join(random.choice(chosen, tokens)) for _ in range(number)]


def batch_of(tokenizer: TextTokenizer, collator: Collator, texts: list[str]) -> Batch:
    """The batch that a run would make of these texts."""
    with tempfile.TemporaryDirectory(prefix="doctune-") as folder:
        examples = [Example(str(i), text, str(i % 2)) for i, text in enumerate(texts)]
        shard = build_shard(examples, tokenizer, Path(folder), "train", show_progress=False).shard
        return collator(make_dataset("train", shard, SingleTarget(("0", "1"))), np.arange(len(texts)))


def step(model: Classifier, optimizer: torch.optim.Optimizer, batch: Batch, device: Device) -> None:
    """As the training loop does it."""
    with device.autocast():
        losses, _ = model.losses(batch.to(device.torch))
    (losses["label"].sum / losses["label"].count).backward()  # type: ignore[no-untyped-call]
    clip_gradients(optimizer, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def measure(case: Case, encoder: str, precision: Any) -> dict[str, Any]:
    """Megabytes of this process before the step and at most, and the step's seconds."""
    torch.manual_seed(0)
    folder = resolve_encoder(encoder, None)
    tokenizer = TextTokenizer.load(folder)
    collator = make_collator(tokenizer, TruncationSettings(truncation="windows", max_seq_len=MAX_SEQ_LEN))
    device = choose_device("cpu", precision)
    loaded = load_encoder(folder, EncoderSettings(encoder=encoder), (-1,))
    model = build_classifier(loaded, "mean", "concat", 2, window_pooling="mean").train()
    model.windows_per_pass = case.per_pass
    optimizer = make_optimizer(
        parameter_groups(model, 1e-5, 0.01, LayerwiseSettings())[0], OptimizerSettings(), lambda step: 1.0
    )
    step(model, optimizer, batch_of(tokenizer, collator, texts_of(tokenizer, 1, WARM_UP)), device)
    batch = batch_of(tokenizer, collator, texts_of(tokenizer, case.texts, case.tokens))
    before, started = _peak(), time.perf_counter()
    step(model, optimizer, batch, device)
    return {
        "megabytes_before": before, "megabytes": _peak(), "seconds": time.perf_counter() - started,
        "windows": batch.num_windows, "tokens": batch.num_tokens, "precision": device.precision,
    }  # fmt: skip


def _peak() -> float:
    """The most resident memory of this process so far, in 10^6 bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--encoder", default="minilm", help="default: %(default)s")
    parser.add_argument("--tokens", type=int, default=50_000, help="of the long document (default: %(default)s)")
    parser.add_argument(
        "--unbounded", type=int, default=50_000, help="of the document that is read at once (default: %(default)s)"
    )
    parser.add_argument("--precision", choices=["auto", "fp32", "bf16"], default="auto", help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS / "long_document.json", help="JSON file for the figures")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    chosen = cases(given.tokens, given.unbounded)
    if given.case is not None:
        print(json.dumps(measure(chosen[given.case], given.encoder, given.precision)))
        return
    found: list[dict[str, Any]] = []
    for number, case in enumerate(chosen):
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--case", str(number)],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        found.append({**asdict(case), **json.loads(done.stdout.splitlines()[-1])})
        here = found[-1]
        here["times_the_reference"] = here["megabytes"] / found[0]["megabytes"]
        print(
            f"{case.name:44} {here['megabytes']:8,.0f} MB at most, {here['megabytes_before']:6,.0f} before; "
            f"{here['times_the_reference']:.2f} times the reference, {here['seconds']:.0f} s",
            flush=True,
        )
    write_json(given.output, {
        "name": "long_document", "command": command(), "machine": machine(), "encoder": given.encoder, "cases": found,
    })  # fmt: skip


if __name__ == "__main__":
    main()
