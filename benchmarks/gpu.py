"""Training on one GPU: doctune beside transformers' Trainer, what both compute, memory, and where the time goes.

    python benchmarks/gpu.py                                 everything, and benchmarks/results/gpu.json
    python benchmarks/gpu.py --only rate equal               some of it; sections are
    python benchmarks/gpu.py --texts data/ag_news/test.csv   real texts in place of random words of such lengths
    python benchmarks/gpu.py --device cpu --tiny             whether it runs, on a processor

    rate        the card's own: bf16 products, copies
    equal       the gate: hidden states and gradients of several families beside transformers'
    mlm         BERT-base, masked words and next sentence, 128 tokens
    ag_epoch    BERT-base, fine-tuning on news of 53 tokens: seconds of an epoch of 120,000
    small       6 x 384 in batches of 16, and profiles
    long        documents of 8,190 and 50,000 tokens, whole and in windows: seconds and memory
    two         two processes on the one card, beside one
    compiled    mlm again, beside the Trainer with torch_compile

Weights are random: speed does not depend on them. Both ways get the same documents in the same batches; the Trainer's
are padded to the longest and ready before the clock starts, doctune makes its own within its time. Both take bf16,
fused AdamW, clipping and dropout of hidden states; transformers' own dropout of attention stays, as its users have it.
Tokens are real ones, without padding, and FLOPs those that the task needs, with logits of the masked tokens alone.

Each section runs in a process of its own, so that an error on the card does not reach the next. Every measurement is a
line and in the file at once. After --seconds no measurement of a section begins; one that runs on is ended later.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

# Threads of a tokenizer do not live on in a forked process; and asking for a card must not keep others from using it.
os.environ.update(TOKENIZERS_PARALLELISM="false", PYTORCH_NVML_BASED_CUDA_CHECK="1", HF_HUB_OFFLINE="1")

import measure
import torch
from gpu_bench import TINY, Bench, Figures, Sizes
from gpu_equal import equal
from gpu_more import long, two
from gpu_sections import ag_epoch, compiled, mlm, rate, small

from doctune.devices import Device
from doctune.files import write_json

Section = Callable[[Bench], None]
SECTIONS: dict[str, Section] = {
    "rate": rate, "equal": equal, "mlm": mlm, "ag_epoch": ag_epoch, "small": small, "long": long, "two": two,
    "compiled": compiled,
}  # fmt: skip
GRACE = 2  # times its seconds a section may take before it is ended


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, metavar="SECTION",
                        help=f"sections: {', '.join(SECTIONS)} (default: all; on cpu without compiled)")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=60, help="for a section (default: %(default)s)")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu to try the script (default: %(default)s)")
    parser.add_argument("--texts", type=Path, help="a CSV with the label first, or a file with a text a line")
    parser.add_argument("--vocab", type=Path, help="a vocab.txt (default: doctune-mini's)")
    parser.add_argument("--batch-tokens", type=int, nargs="+", help="of mlm (default: 16384 32768 8192)")
    parser.add_argument("--start", choices=("fork", "spawn"), default="fork", help="how a section's process is made: "
                        "spawn imports everything once more, some seconds each (default: %(default)s)")  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="sizes that a processor manages in a minute")
    parser.add_argument("--seed", type=int, default=1, help="seed of everything random (default: %(default)s)")
    parser.add_argument(
        "--output", type=Path, default=measure.RESULTS / "gpu.json", help="default: in benchmarks/results"
    )
    given = parser.parse_args()
    given.only = given.only or [name for name in SECTIONS if given.device != "cpu" or name != "compiled"]
    return given


def sizes_of(given: argparse.Namespace) -> Sizes:
    """The sizes that were asked for."""
    sizes = TINY if given.tiny else Sizes()
    return replace(sizes, batch_tokens=tuple(given.batch_tokens)) if given.batch_tokens else sizes


def work(name: str, given: argparse.Namespace, scratch: Path, found_rate: float | None, out: Connection) -> None:
    """One section, in its own process; what it finds goes into the connection as it is found."""
    profile = given.output.with_name(given.output.stem + "-profile.txt")
    bench = Bench(
        name, Device(torch.device(given.device), "bf16"), sizes_of(given), scratch, lambda *found: out.send(found),
        time.monotonic() + given.seconds, given.seed, given.texts, given.vocab, profile, found_rate,
    )  # fmt: skip
    try:
        SECTIONS[name](bench)
    except BaseException as error:
        out.send(("section", {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}))
        print(f"{name}: FAILED\n{traceback.format_exc()}", flush=True)


def run_section(
    name: str, given: argparse.Namespace, scratch: Path, found_rate: float | None, keep: Callable[[Figures], None]
) -> Figures:
    """Start a section, keep what it tells, and end it if it takes too long."""
    context = multiprocessing.get_context(given.start)
    ours, theirs = context.Pipe(duplex=False)
    started = time.monotonic()
    measured: dict[str, Figures] = {}
    found: Figures = {"result": "running", "measurements": measured}
    process = context.Process(target=work, args=(name, given, scratch, found_rate, theirs))
    process.start()
    theirs.close()
    try:
        while ours.poll(max(started + GRACE * given.seconds - time.monotonic(), 0.0)):
            told, figures = ours.recv()
            measured[told] = figures
            keep(found)
        found["out_of_time"] = True
        process.kill()
    except EOFError:
        pass
    process.join()
    found |= {"result": result_of(found, process.exitcode), "seconds": time.monotonic() - started}
    print(f"{name}: {found['result']}, {found['seconds']:.1f} s", flush=True)
    keep(found)
    return found


def result_of(found: Figures, exit_code: int | None) -> str:
    """failed: something is not equal; error: something did not run; ended: out of time; else ok."""
    measured = found["measurements"].values()
    if any(one.get("failed") for one in measured):
        return "failed"
    if found.get("out_of_time"):
        return "ended"
    if any("error" in one for one in measured):
        return "error"
    return "ok" if exit_code == 0 else f"died ({exit_code})"


def main() -> None:
    given = arguments()
    result: dict[str, Any] = {
        "name": "gpu", "command": measure.command(), "machine": measure.machine(), "device": given.device,
        "tiny": given.tiny, "seed": given.seed, "sections": {},
    }  # fmt: skip
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.with_name(given.output.stem + "-profile.txt").unlink(missing_ok=True)

    def keep(name: str, found: Figures) -> None:
        result["sections"][name] = found
        write_json(given.output, result)

    with tempfile.TemporaryDirectory(prefix="doctune-benchmark-") as made:
        found_rate = None
        for name in given.only:
            found = run_section(name, given, Path(made), found_rate, partial(keep, name))
            found_rate = found["measurements"].get("bf16 product", {}).get("flops_per_second", found_rate)
    results = {name: found["result"] for name, found in result["sections"].items()}
    print(f"written to {given.output.name}: {', '.join(f'{name} {how}' for name, how in results.items())}", flush=True)
    if "failed" in results.values():
        measure.fail("doctune does not compute what the reference computes; see above")


if __name__ == "__main__":
    measure.run(main)
