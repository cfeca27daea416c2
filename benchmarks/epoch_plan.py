"""How long the plan of an epoch of ten million documents takes, and whether neighbouring steps are alike in length.

    python benchmarks/epoch_plan.py                          the figures, and benchmarks/results/epoch_plan.json
    python benchmarks/epoch_plan.py --documents 1000000 --output smaller.json

One core. The documents come sorted by length, which would be the worst order to train in. Each way is timed in turn,
several times over, beside the plan as Python loops; first of all both must give the same batches.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1")

import numpy as np
import numpy.typing as npt

from doctune import seeding
from doctune.batches.plan import Places, Plan, epoch_plan
from doctune.files import write_json

RESULTS = Path(__file__).parent / "results"
MEAN, SPREAD, SHORTEST, LONGEST = 53, 0.6, 3, 512  # tokens; the spread is that of the logarithm
SEED, EPOCH = 42, 0

Lengths = npt.NDArray[np.int64]


def make_lengths(number: int) -> Lengths:
    """Log-normal lengths with a mean of about 53, shortest documents first."""
    drawn = np.random.default_rng(0).lognormal(np.log(MEAN) - SPREAD**2 / 2, SPREAD, number)
    return np.sort(np.clip(drawn, SHORTEST, LONGEST).astype(np.int64))


def loops(lengths: Lengths, batch_size: int, budget: int | None) -> list[Places]:
    """The plan as a list, made batch by batch."""
    order = seeding.generator(SEED, "order", EPOCH).permutation(len(lengths))
    if budget is None:
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    ends = np.cumsum(lengths[order])
    batches, start, done = [], 0, 0
    while start < len(order):
        stop = max(int(np.searchsorted(ends, done + budget, side="right")), start + 1)
        batches.append(order[start:stop])
        done, start = int(ends[stop - 1]), stop
    return batches


def neighbours(lengths: Lengths, bounds: Places) -> float:
    """Correlation of the mean lengths of each batch and the next; without the last one, which may be short."""
    sums = np.add.reduceat(lengths, bounds[:-1])
    means = (sums / np.diff(bounds))[:-1]
    return float(np.corrcoef(means[:-1], means[1:])[0, 1])


def measure(lengths: Lengths, batch_size: int, budget: int | None, runs: int) -> dict[str, Any]:
    """Seconds of every run by the clock and of the processor, which others' work lengthens less; the correlation."""
    plan = epoch_plan(lengths, SEED, EPOCH, batch_size, budget)
    reference = loops(lengths, batch_size, budget)
    if not (len(plan) == len(reference) and all(map(np.array_equal, plan, reference))):
        sys.exit("the plan has other batches than the loops: nothing is timed")
    del reference
    ways: dict[str, Callable[[], object]] = {
        "plan": lambda: epoch_plan(lengths, SEED, EPOCH, batch_size, budget),
        "of it the permutation": lambda: seeding.generator(SEED, "order", EPOCH).permutation(len(lengths)),
        "as loops": lambda: loops(lengths, batch_size, budget),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            start, used = time.perf_counter(), time.process_time()
            way()
            seconds[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - used)
    medians = {name: statistics.median(spent) for name, spent in seconds.items()}
    used_medians = {name: statistics.median(spent) for name, spent in processor.items()}
    faster = [loop / ours for loop, ours in zip(seconds["as loops"], seconds["plan"], strict=True)]
    return {
        "batches": len(plan), "bytes": plan.order.nbytes + plan.bounds.nbytes, "seconds": seconds, "median": medians,
        "processor_seconds": processor, "processor_median": used_medians,
        "times_faster_than_loops": statistics.median(faster), **_correlations(lengths, plan),
    }  # fmt: skip


def _correlations(lengths: Lengths, plan: Plan) -> dict[str, float]:
    return {
        "correlation_of_neighbours": neighbours(lengths[plan.order], plan.bounds),
        "correlation_as_they_come": neighbours(lengths, plan.bounds),
        "correlation_by_chance": len(plan) ** -0.5,  # its standard deviation if all batches are independent
    }


def machine() -> dict[str, Any]:
    """What figures depend on besides the code."""
    known = Path("/proc/cpuinfo")
    lines = known.read_text(encoding="utf-8").splitlines() if known.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(), "cores": os.cpu_count(),
        "load_average": [round(load, 2) for load in os.getloadavg()] if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
        "packages": {name: version(name) for name in ("doctune", "numpy", "tokenizers", "torch")},
        "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=10_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=24, help="documents in a batch (default: %(default)s)")
    parser.add_argument("--tokens-per-batch", type=int, help="budget (default: batch size times the mean length)")
    parser.add_argument("--runs", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--output", type=Path, default=RESULTS / "epoch_plan.json", help="a JSON file for the figures")
    given = parser.parse_args()
    lengths = make_lengths(given.documents)
    budget = given.tokens_per_batch or MEAN * given.batch_size
    result: dict[str, Any] = {
        "documents": len(lengths), "mean_length": float(lengths.mean()), "batch_size": given.batch_size,
        "tokens_per_batch": budget, "machine": machine(),
    }  # fmt: skip
    for name, tokens in (("by count", None), ("by tokens", budget)):
        found = result[name] = measure(lengths, given.batch_size, tokens, given.runs)
        print(f"{name}: {found['batches']:,} batches, {found['bytes'] / 1e6:.0f} MB")
        for way, spent in found["seconds"].items():
            runs, processor = ", ".join(f"{one:.3f}" for one in spent), found["processor_median"][way]
            print(f"  {way:24s} {found['median'][way]:6.3f} s   ({runs}), of the processor {processor:.3f} s")
        print(f"  {found['times_faster_than_loops']:.2f} times as fast as loops")
        print(
            f"  mean lengths of neighbouring batches: correlation {found['correlation_of_neighbours']:+.4f}, "
            f"by chance {found['correlation_by_chance']:.4f}, unshuffled {found['correlation_as_they_come']:+.4f}"
        )
    write_json(given.output, result)


if __name__ == "__main__":
    main()
