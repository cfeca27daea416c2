"""One text after another, as a server has them: this doctune beside another checkout of it.

    python benchmarks/one_text.py --model runs/trec --other ../older/src
    python benchmarks/one_text.py --model runs/trec --other ../older/src --precision fp32 --clock cpu

Each checkout answers in a process of its own, one call of `predict_proba` a text; the two take turns, a round of calls
each, and the ratio is that of their medians in a round. Both must give the same probabilities first. A model folder of
the older one may be given where it cannot read a newer one's. `--clock cpu` counts the seconds of the processor, which
a busy machine disturbs less; with several threads it counts those that wait, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

TEXTS = ["How far is it from Denver to Aspen ?", "What is an atom ?", "Who was the first man on the moon , and when ?"]
# In bf16 a row's rounding depends on how a product is cut among threads.
AGREE = {"fp32": 1e-6, "bf16": 1e-3, "auto": 1e-3}
WORKER = """
import json, statistics, sys, time
import doctune

model, precision, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
clock = time.process_time if sys.argv[4] == "cpu" else time.perf_counter
predictor = doctune.load(model, "cpu", precision)
print(json.dumps([predictor.predict_proba([text]).tolist()[0] for text in texts]), flush=True)
for line in sys.stdin:
    seconds = []
    for call in range(int(line)):
        started = clock()
        predictor.predict_proba([texts[call % len(texts)]])
        seconds.append(clock() - started)
    print(json.dumps(statistics.median(seconds)), flush=True)
"""


class Worker:
    """A process that answers with one checkout."""

    def __init__(self, source: Path, model: str, precision: str, clock: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, model, precision, json.dumps(TEXTS), clock],
            text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(source.resolve())},
        )  # fmt: skip
        self.probabilities = self._read()

    def _read(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a checkout ended before it answered; its error stands above")
        return json.loads(line)

    def median(self, calls: int) -> float:
        """The median seconds of so many calls."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        return float(self._read())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="a run of doctune finetune, or its model folder")
    parser.add_argument("--other", required=True, type=Path, metavar="SRC", help="src folder of the other checkout")
    parser.add_argument("--other-model", help="the other checkout's model (default: the same)")
    parser.add_argument("--precision", default="auto", choices=["auto", "fp32", "bf16"])
    parser.add_argument("--clock", default="wall", choices=["wall", "cpu"])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=20, help="calls in a round (default: %(default)s)")
    given = parser.parse_args()
    ours = Worker(Path(__file__).parents[1] / "src", given.model, given.precision, given.clock)
    other = Worker(given.other, given.other_model or given.model, given.precision, given.clock)
    pairs = [
        pair for rows in zip(ours.probabilities, other.probabilities, strict=True) for pair in zip(*rows, strict=True)
    ]
    furthest = max(abs(a - b) for a, b in pairs)
    if furthest > AGREE[given.precision]:
        sys.exit(f"the probabilities differ by {furthest:g}, so nothing is timed")
    rounds = [(ours.median(given.calls), other.median(given.calls)) for _ in range(given.rounds + 1)][1:]
    ratios = sorted(a / b for a, b in rounds)
    print(
        f"one text: {1e3 * statistics.median(a for a, _ in rounds):.2f} ms here, "
        f"{1e3 * statistics.median(b for _, b in rounds):.2f} ms there; ratio {statistics.median(ratios):.3f} "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f}), probabilities differ by {furthest:g}"
    )


if __name__ == "__main__":
    main()
