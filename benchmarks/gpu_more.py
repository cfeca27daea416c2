"""What `gpu.py` measures besides speed: time and memory of long documents, and two processes on one card."""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from finetuning import peer_model
from gpu_bench import TOLD, Bench, Figures, collator_of, random_texts
from gpu_ways import classifier_inputs
from long_document import WARM_UP, batch_of, step, texts_of
from pretraining_step import RATE
from safetensors.torch import load_file

import doctune
from doctune.encoders.load import load_encoder
from doctune.models.classifier import build_classifier
from doctune.settings import EncoderSettings, LayerwiseSettings, OptimizerSettings
from doctune.tensors import Batch
from doctune.training.layerwise import parameter_groups
from doctune.training.optim import make_optimizer

TIMES = 3
TOLERANCE = 1e-4


def long(bench: Bench) -> None:
    """A step on a long document: whole where the encoder reads so much, and in windows."""
    sizes = bench.sizes

    def modern() -> Path:
        hidden = sizes.modern[1]
        return bench.other(
            "modernbert", vocab_size=sizes.vocab_size, num_hidden_layers=sizes.modern[0], hidden_size=hidden,
            intermediate_size=3 * hidden // 2, num_attention_heads=max(hidden // sizes.head_size, 1),
            max_position_embeddings=sizes.long + 2, local_attention=128, global_attn_every_n_layers=3, pad_token_id=0,
            bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
        )  # fmt: skip

    def base() -> Path:
        return bench.bert(sizes.base)

    room = sizes.window - 2
    cases: dict[str, tuple[Callable[[], Path], int, int, int, str]] = {
        f"ModernBERT, {sizes.long:,} tokens as one sequence": (modern, 1, sizes.long, sizes.long + 2, "head-only"),
        f"ModernBERT, {sizes.long:,} tokens in windows of {sizes.window}":
            (modern, 1, sizes.long, sizes.window, "windows"),
        f"BERT, {sizes.texts} texts of {sizes.window}": (base, sizes.texts, room, sizes.window, "windows"),
        f"BERT, {sizes.longest:,} tokens in windows of {sizes.window}":
            (base, 1, sizes.longest, sizes.window, "windows"),
    }  # fmt: skip
    for name, (folder, texts, tokens, seq_len, truncation) in cases.items():
        bench.measure(name, partial(steps, bench, folder, texts, tokens, seq_len, truncation))
    name = f"ModernBERT, {sizes.long:,} tokens as one sequence, transformers"
    bench.measure(name, lambda: peer_steps(bench, modern(), sizes.long))


def steps(
    bench: Bench, make: Callable[[], Path], texts: int, tokens: int, seq_len: int, truncation: str
) -> tuple[Figures, str]:
    """Training steps on some texts, after one on a short text: weights, gradients and moments are there."""
    folder, tokenizer, where = make(), bench.tokenizer(), bench.device.torch
    collator = collator_of(bench, seq_len, truncation)
    torch.manual_seed(bench.seed)
    loaded = load_encoder(folder, EncoderSettings(encoder=str(folder)), (-1,))
    model = build_classifier(loaded, "mean", "concat", 2, window_pooling="mean").to(where).train()
    model.windows_per_pass = bench.sizes.texts
    groups, _ = parameter_groups(model, RATE, 0.01, LayerwiseSettings())
    optimizer = make_optimizer(groups, OptimizerSettings(), lambda step: 1.0)
    step(model, optimizer, batch_of(tokenizer, collator, texts_of(tokenizer, 1, min(WARM_UP, tokens))), bench.device)
    batch = batch_of(tokenizer, collator, texts_of(tokenizer, texts, tokens))
    return repeated(bench, lambda: step(model, optimizer, batch, bench.device), batch)


def peer_steps(bench: Bench, folder: Path, tokens: int) -> tuple[Figures, str]:
    """The same step in transformers, in bf16 with its own attention."""
    tokenizer, where = bench.tokenizer(), bench.device.torch
    batch = batch_of(tokenizer, collator_of(bench, tokens + 2), texts_of(tokenizer, 1, tokens))
    model = peer_model(folder, num_labels=2, attn_implementation="sdpa").to(where).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, fused=True)
    inputs = {name: x.to(where) for name, x in classifier_inputs(batch).items()}

    def one() -> None:
        with bench.device.autocast():
            loss = model(**inputs).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return repeated(bench, one, batch)


def repeated(bench: Bench, one: Callable[[], Any], batch: Batch) -> tuple[Figures, str]:
    """Seconds of a step and its most memory, once it was done before."""
    one()
    bench.synchronize()
    before = bench.megabytes(most=False)
    bench.forget_peak()
    seconds = []
    for _ in range(TIMES):
        started = time.perf_counter()
        one()
        bench.synchronize()
        seconds.append(time.perf_counter() - started)
    figures = {
        "seconds": statistics.median(seconds), "all_seconds": seconds, "tokens": batch.num_tokens,
        "windows": batch.num_windows, "megabytes_before": before, "megabytes": bench.megabytes(),
        "tokens_per_second": batch.num_tokens / statistics.median(seconds),
    }  # fmt: skip
    line = (
        f"{figures['seconds']:.3f} s, {figures['megabytes']:,.0f} MB at most, {before:,.0f} before it; "
        f"{batch.num_windows} sequences, {batch.num_tokens:,} tokens, {figures['tokens_per_second']:,.0f} tokens/s"
    )
    return figures, line


def two(bench: Bench) -> None:
    """Two processes on one card must end with the weights of one."""
    bench.measure("two processes, one card", lambda: two_processes(bench))


def two_processes(bench: Bench) -> tuple[Figures, str]:
    """Both runs at the same time, for they need little of the card; what they print is kept if one fails."""
    folder = bench.scratch / "two"
    folder.mkdir()
    texts = random_texts(bench.tokenizer(), 48, 20, 30, bench.seed)
    lines = [f"{text},{'ab'[place % 2]}" for place, text in enumerate(texts)]
    (folder / "train.csv").write_text("\n".join(["text,label", *lines, ""]), encoding="utf-8")
    device = "cuda:0" if bench.on_gpu else "cpu"
    arguments = [
        "doctune", "finetune", "--train", str(folder / "train.csv"), "--encoder", str(bench.bert((2, 64))),
        "--max-seq-len", "32", "--epochs", "2", "--batch-size", "8", "--learning-rate", "1e-3", "--dropout", "0",
        "--precision", "fp32", "--device", device, "--output",
    ]  # fmt: skip
    several = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    running = {
        "one": launch(bench, [*arguments, str(folder / "one")]),
        "two": launch(bench, [*several, *arguments, str(folder / "two")]),
    }
    figures: Figures = {"device": device}
    for name, process in running.items():
        said, in_time = said_by(process, bench.ends - time.monotonic())
        figures[name] = {"exit": process.returncode, "in_time": in_time, "output": said[-4000:]}
    bad = [name for name in running if figures[name]["exit"] != 0]
    if bad:
        told = "\n".join(f"{name}: exit {figures[name]['exit']}\n{figures[name]['output'][-TOLD:]}" for name in bad)
        return {**figures, "failed": True}, f"FAILED ({device})\n{told}"
    one, other = (load_file(folder / name / "model" / "model.safetensors") for name in running)
    off = max(float((one[name].float() - other[name].float()).abs().max()) for name in one)
    figures |= {"largest_difference": off, "failed": not off <= TOLERANCE}
    return figures, f"{'equal' if off <= TOLERANCE else 'FAILED'} ({device}): weights differ by {off:.1e} at most"


def launch(bench: Bench, arguments: list[str]) -> subprocess.Popen[str]:
    """A module in a process of its own, with this source; its group can be ended as one."""
    path = os.pathsep.join([str(Path(doctune.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env=environment, start_new_session=True,
    )  # fmt: skip


def said_by(process: subprocess.Popen[str], seconds: float) -> tuple[str, bool]:
    """What it printed, and whether it was in time; if not, it is ended with all that it started."""
    try:
        return process.communicate(timeout=max(seconds, 1.0))[0], True
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return process.communicate()[0], False
