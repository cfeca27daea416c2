"""What `gpu.py` measures of training: the card's rates, masked words, fine-tuning, and where a step's time goes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from finetuning import peer_model as peer_classifier
from gpu_bench import LABELS, Bench, Blocks, Figures, collator_of, labelled
from gpu_ways import (
    Case,
    Timed,
    card_seconds,
    classifier_case,
    classifier_inputs,
    doctune_loop,
    figures_of,
    line_of,
    pretraining_case,
    product_rate,
    trainer,
)
from measure import Shape
from pretraining_step import padded as pretraining_inputs
from pretraining_step import peer_model as peer_pretraining
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from doctune.tensors import Batch

AG_MEAN, AG_LONGEST = 53, 128
SMALL_MEAN, SMALL_LONGEST = 90, 128
HOTTEST, PRINTED = 15, 8


def rate(bench: Bench) -> None:
    """The ceilings that everything else is beside."""
    bench.measure("card", lambda: card(bench))
    bench.measure("bf16 product", lambda: product(bench))
    bench.measure("copy", lambda: copy(bench))


def card(bench: Bench) -> tuple[Figures, str]:
    """What the figures depend on besides the code."""
    figures: Figures = {"torch": torch.__version__, "cuda": torch.version.cuda, "name": "processor"}
    if bench.on_gpu:
        known = torch.cuda.get_device_properties(bench.device.torch)
        figures |= {
            "name": known.name, "megabytes": known.total_memory / 1e6, "multiprocessors": known.multi_processor_count,
            "capability": f"{known.major}.{known.minor}",
        }  # fmt: skip
    return figures, ", ".join(f"{key} {value}" for key, value in figures.items())


def product(bench: Bench) -> tuple[Figures, str]:
    """The rate of a large product, of which everything else is a share."""
    bench.rate = product_rate(bench)
    return {"flops_per_second": bench.rate, "size": bench.sizes.product}, f"{bench.rate / 1e12:,.2f} TFLOP/s"


def copy(bench: Bench) -> tuple[Figures, str]:
    """Bytes a second that a copy reads and writes."""
    source = torch.ones(bench.sizes.copied, dtype=torch.uint8, device=bench.device.torch)
    into = torch.empty_like(source)
    seconds = statistics.median(card_seconds(bench, lambda: into.copy_(source), 9))
    found = 2 * bench.sizes.copied / seconds
    return {"bytes_per_second": found}, f"{found / 1e9:,.0f} GB/s read and written"


def mlm(bench: Bench) -> None:
    """Masked words and next sentences at several sizes of batches."""
    for number, tokens in enumerate(bench.sizes.batch_tokens):
        batches = pretraining(bench, tokens)
        if batches is None:
            continue
        pretraining_peer(bench, f"{tokens:,} tokens, Trainer", batches, {})
        ratio(bench, f"{tokens:,} tokens")
        if number == 0:
            quiet = {"attention_probs_dropout_prob": 0.0}
            pretraining_peer(bench, f"{tokens:,} tokens, Trainer without dropout of attention", batches, quiet)


def compiled(bench: Bench) -> None:
    """The same at the first size beside the Trainer with `torch_compile`, which takes its time to begin."""
    tokens = bench.sizes.batch_tokens[0]
    batches = pretraining(bench, tokens)
    if batches is not None:
        pretraining_peer(bench, f"{tokens:,} tokens, Trainer compiled", batches, {}, compiles=True)
        ratio(bench, f"{tokens:,} tokens", " compiled")


def pretraining(bench: Bench, tokens: int) -> list[Batch] | None:
    """doctune's loop as it is, and once more on batches that are ready; gives the batches."""
    made: list[Batch] = []
    held: list[Case] = []

    def live() -> tuple[Figures, str]:
        held.append(pretraining_case(bench, tokens))
        timed = doctune_loop(bench, held[0], bench.sizes.pretraining)
        made.extend(timed.batches)
        return told(bench, timed, made, bench.sizes.pretraining, held[0])

    def ready() -> tuple[Figures, str]:
        blocks = bench.sizes.pretraining_ready
        return told(bench, doctune_loop(bench, held[0], blocks, made), made, blocks, held[0])

    if bench.measure(f"{tokens:,} tokens, doctune", live) is None:
        return None
    bench.measure(f"{tokens:,} tokens, doctune, batches ready", ready)
    return made


def told(bench: Bench, timed: Timed, batches: Sequence[Batch], blocks: Blocks, case: Case) -> tuple[Figures, str]:
    """Figures and line of one way."""
    figures = figures_of(bench, timed, batches, blocks, case.shape)
    return figures, line_of(figures)


def pretraining_peer(
    bench: Bench, name: str, batches: Sequence[Any], config: dict[str, float], compiles: bool = False
) -> None:
    """BertForPreTraining in the Trainer, on the same batches."""

    def work() -> tuple[Figures, str]:
        model = peer_pretraining(bench.bert(bench.sizes.base), attn_implementation="sdpa", **config)
        blocks = bench.sizes.pretraining_ready
        inputs = [pretraining_inputs(batch) for batch in batches[: blocks.total]]
        figures = peer_figures(bench, model, inputs, batches, blocks, compiles)
        return figures, line_of(figures)

    bench.measure(name, work)


def peer_figures(
    bench: Bench, model: Any, inputs: list[dict[str, Any]], batches: Sequence[Batch], blocks: Blocks,
    compiles: bool = False,
) -> Figures:  # fmt: skip
    """The Trainer's figures; FLOPs are those that are useful, as doctune's are counted."""
    timed = trainer(bench, model, inputs, blocks, compiles)
    return figures_of(bench, timed, batches, blocks, Shape.of(model.config))


def ratio(bench: Bench, name: str, peer: str = "") -> None:
    """How many times as fast as the Trainer doctune is, if both were measured."""
    ours, theirs = (bench.found.get(f"{name}, {way}", {}) for way in ("doctune", f"Trainer{peer}"))
    if "tokens_per_second" in ours and "tokens_per_second" in theirs:
        found = ours["tokens_per_second"] / theirs["tokens_per_second"]
        bench.note(f"{name}, times as fast as Trainer{peer}", {"times": found}, f"{found:.2f}")


def ag_epoch(bench: Bench) -> None:
    """Fine-tuning on news of 53 tokens: seconds of an epoch of as many texts as AG's News has."""
    sizes, blocks = bench.sizes, bench.sizes.finetuning
    number = min(blocks.total * max(sizes.batch_sizes), sizes.epoch)
    dataset = labelled(bench, number, AG_MEAN, AG_LONGEST)
    for batch_size in sizes.batch_sizes:
        finetuning(bench, f"batches of {batch_size}", sizes.base, dataset, batch_size, AG_LONGEST, blocks,
                   peer=batch_size in sizes.peer_batch_sizes, epoch=sizes.epoch)  # fmt: skip


def finetuning(
    bench: Bench, name: str, size: tuple[int, int], dataset: Any, batch_size: int, longest: int, blocks: Blocks,
    peer: bool, epoch: int | None = None,
) -> None:  # fmt: skip
    """doctune's loop and, if asked for, the Trainer on the same batches."""
    made: list[Batch] = []

    def with_epoch(figures: Figures) -> tuple[Figures, str]:
        line = line_of(figures)
        if epoch is not None:
            seconds = figures["milliseconds_per_step"] / 1000 * math.ceil(epoch / batch_size)
            figures["seconds_per_epoch"] = seconds
            line += f"; an epoch of {epoch:,} texts {seconds:.1f} s"
        return figures, line

    def ours() -> tuple[Figures, str]:
        collator = collator_of(bench, longest)
        case = classifier_case(bench, size, dataset, collator, batch_size, blocks.total)
        timed = doctune_loop(bench, case, blocks)
        made.extend(timed.batches)
        return with_epoch(told(bench, timed, made, blocks, case)[0])

    def theirs() -> tuple[Figures, str]:
        model = peer_classifier(bench.bert(size), num_labels=len(LABELS), attn_implementation="sdpa")
        inputs = [classifier_inputs(batch) for batch in made]
        return with_epoch(peer_figures(bench, model, inputs, made, blocks))

    bench.measure(f"{name}, doctune", ours)
    if peer and made:
        bench.measure(f"{name}, Trainer", theirs)
        ratio(bench, name)


def small(bench: Bench) -> None:
    """A small encoder on small batches, where launching counts; and profiles of it and of the larger one."""
    sizes, blocks = bench.sizes, bench.sizes.finetuning
    dataset = labelled(bench, blocks.total * sizes.small_batch, SMALL_MEAN, SMALL_LONGEST)
    finetuning(bench, f"batches of {sizes.small_batch}", sizes.small, dataset, sizes.small_batch, SMALL_LONGEST, blocks,
               peer=True)  # fmt: skip
    cases: dict[str, Callable[[], Case]] = {
        "profile of the small encoder": lambda: classifier_case(
            bench, sizes.small, dataset, collator_of(bench, SMALL_LONGEST), sizes.small_batch, blocks.total
        ),
        "profile of masked words": lambda: pretraining_case(bench, sizes.batch_tokens[0]),
    }
    for name, make in cases.items():
        bench.measure(name, partial(profiled, bench, name, make))


def profiled(bench: Bench, name: str, make: Callable[[], Case]) -> tuple[Figures, str]:
    """The hottest operations of some steps, on the card and on the processor; the table is added to a file."""
    case, steps = make(), bench.sizes.profiled
    batches = doctune_loop(bench, case, Blocks(steps - 1, 1, 1)).batches
    quiet = sum(doctune_loop(bench, case, Blocks(0, 1, steps), batches).seconds)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if bench.on_gpu else [])]
    with profile(activities=activities) as found:
        doctune_loop(bench, case, Blocks(0, 1, steps), batches)
    events = found.key_averages()
    keys = ["self_cpu_time_total", *(["self_device_time_total"] if bench.on_gpu else [])]
    tables = [events.table(sort_by=key, row_limit=HOTTEST, max_name_column_width=70) for key in keys[::-1]]
    if bench.profile is not None:
        with bench.profile.open("a", encoding="utf-8") as file:
            file.write("\n".join([f"{name}, {steps} steps", *tables, ""]))
    # A range that the optimiser marks on the card holds kernels that are counted by themselves.
    kernels = [
        e for e in events if e.device_type == DeviceType.CUDA and not e.key.startswith(("Optimizer.", "Profiler"))
    ]
    on_card = sum(e.self_device_time_total for e in kernels) / 1e6
    figures = {
        "milliseconds_per_step": 1000 * quiet / steps,
        "card_milliseconds_per_step": 1000 * on_card / steps,
        "share_of_time_the_card_works": on_card / quiet,
        "kernels_per_step": sum(e.count for e in kernels) / steps,
        "operators_per_step": sum(e.count for e in events if e.device_type == DeviceType.CPU) / steps,
        "hottest": {
            e.key[:120]: {"milliseconds_per_step": e.self_device_time_total / 1000 / steps, "calls": e.count / steps}
            for e in sorted(kernels, key=lambda e: -e.self_device_time_total)[:HOTTEST]
        },
    }  # fmt: skip
    line = (
        f"{figures['milliseconds_per_step']:.2f} ms/step, the card works {figures['card_milliseconds_per_step']:.2f} "
        f"of them in {figures['kernels_per_step']:.0f} kernels; {figures['operators_per_step']:.0f} operators"
    )
    hottest = [f"\n  {one['milliseconds_per_step']:.3f} ms in {one['calls']:.0f} calls of {key[:80]}"
               for key, one in list(figures["hottest"].items())[:PRINTED]]  # fmt: skip
    return figures, "".join([line, *hottest])
