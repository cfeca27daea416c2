"""What the benchmarks share: ways timed in turn, FLOPs of a BERT, the machine's own rate of products, the report.

Every figure is a ratio of times taken in turn, in one run, on the same texts; absolute times are there to be looked at.
"""

from __future__ import annotations

import gc
import importlib
import math
import os
import platform
import re
import shlex
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import torch

import doctune
from doctune.errors import UserError
from doctune.files import write_json

RESULTS = Path(__file__).parent / "results"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PACKAGES = ("torch", "transformers", "tokenizers", "numpy", "accelerate", "onnx", "onnxruntime")
# Forward, and twice as much backward: the gradients by the inputs and by the weights.
FORWARD_AND_BACKWARD = 3
TOLERANCE = 1e-4
EXTENSIONS = {"avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8"}
BUSY = 0.1  # cores that others may use before it is told
_PATH = re.compile(r"(^|[:=])((?:/|~|\.\.)[^:]*)")

Way = Callable[[int], float | None]
"""Does the work of one round, by its number; may give its own seconds where a part of the call is not to count."""


def interleaved(ways: dict[str, Way], rounds: int, warmup: int = 1) -> dict[str, list[float]]:
    """Time every way in turn, round after round: the seconds of each in the rounds behind the `warmup`.

    In a round every way is called once with the number of the round, which says what texts to take. The first one to
    be called changes from round to round, so that what depends on the order falls on all.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    names = list(ways)
    for number in range(warmup + rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            gc.collect()
            started, others = time.perf_counter(), _others()
            own = ways[name](number)
            wall, others = time.perf_counter() - started, _others() - others
            spent = wall if own is None else own
            if number >= warmup:
                seconds[name].append(spent)
            mark = "" if number >= warmup else " (warm-up)"
            mark += f", others meanwhile {others / wall:.1f} cores" if others > BUSY * wall else ""
            print(f"round {number + 1}/{warmup + rounds}: {name} {spent:.3f} s{mark}", file=sys.stderr, flush=True)
    return seconds


def _others() -> float:
    """Seconds of processor time that everything else on this machine has had, where Linux says so."""
    path = Path("/proc/stat")
    if not path.is_file():
        return 0.0
    user, nice, system, _, _, *interrupts = map(int, path.read_text(encoding="utf-8").split("\n")[0].split()[1:9])
    mine = os.times()
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK") - mine.user - mine.system


def timed(work: Callable[[], Any]) -> float:
    """The seconds that it takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


@dataclass(frozen=True, slots=True)
class Rate:
    """GFLOP/s of a product of two square matrices: the best of some, and their median."""

    best: float
    median: float


def matmul_rate(precision: str, size: int = 2048, times: int = 9) -> Rate:
    """Multiply two matrices [size, size] some times over; `precision` is fp32 or bf16."""
    random = torch.Generator().manual_seed(0)
    left, right = (torch.randn(size, size, generator=random).to(DTYPES[precision]) for _ in range(2))
    out = torch.empty_like(left)
    rates = []
    for _ in range(times + 1):
        rates.append(2 * size**3 / timed(lambda: torch.mm(left, right, out=out)) / 1e9)
    return Rate(max(rates[1:]), statistics.median(rates[1:]))


@dataclass(slots=True)
class Rates:
    """The rates of products through a run, by precision; `measure` is called before the steps, and after them."""

    measured: dict[str, list[Rate]] = field(default_factory=lambda: {name: [] for name in DTYPES})

    def measure(self) -> None:
        """Measure both precisions once more."""
        for precision, found in self.measured.items():
            found.append(matmul_rate(precision))

    def of(self, precision: str) -> Rate:
        """The best rate of all, and the median of the medians."""
        found = self.measured[precision]
        return Rate(max(rate.best for rate in found), statistics.median(rate.median for rate in found))


@dataclass(frozen=True, slots=True)
class Shape:
    """What the FLOPs of a BERT depend on."""

    hidden: int
    intermediate: int
    layers: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> Shape:
        """From a config of transformers."""
        return cls(config.hidden_size, config.intermediate_size, config.num_hidden_layers, config.vocab_size)


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard of a corpus that was never written: what `SequenceFeed` reads of one."""

    input_ids: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    word_starts: None = None

    def __len__(self) -> int:
        return len(self.documents) - 1


def encoder_flops(
    shape: Shape, lengths: Sequence[int], read: Sequence[int] | None = None, passes: int = FORWARD_AND_BACKWARD
) -> float:
    """Model FLOPs of an encoder on sequences of these true lengths: products of matrices only, and no padding.

    A layer costs 2 * T * (4 H^2 + 2 H I) for its products and 4 * H * n^2 for the attention of a sequence of n tokens.
    Without `read` this is the whole model: all rows in all layers. `read` says how many rows of each sequence are used
    behind the highest layer: there only keys and values are needed of all rows, and everything else of those.
    `passes` is 1 for a forward pass alone.
    """
    H, inner = shape.hidden, shape.intermediate
    tokens, squares = sum(lengths), sum(n * n for n in lengths)
    layer = 2 * tokens * (4 * H * H + 2 * H * inner) + 4 * H * squares
    if read is None:
        return float(passes * shape.layers * layer)
    rows = sum(read)
    pairs = sum(r * n for r, n in zip(read, lengths, strict=True))
    highest = 2 * tokens * 2 * H * H + 2 * rows * (2 * H * H + 2 * H * inner) + 4 * H * pairs
    return float(passes * ((shape.layers - 1) * layer + highest))


def words_flops(shape: Shape, rows: int) -> float:
    """Model FLOPs, forward and backward, of BERT's head for masked words on so many rows."""
    return float(FORWARD_AND_BACKWARD * 2 * rows * (shape.hidden**2 + shape.hidden * shape.vocabulary))


@dataclass(slots=True)
class Work:
    """What is done in each round, the same in every way: `whole` and `needed` are FLOPs, `unit` is what is timed."""

    unit: str
    units: int
    examples: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    needed: list[float] = field(default_factory=list)

    def add(self, lengths: Sequence[int], whole: float, needed: float) -> None:
        """One more round, with sequences of these lengths."""
        self.examples.append(len(lengths))
        self.tokens.append(sum(lengths))
        self.whole.append(whole)
        self.needed.append(needed)


class RoundFeed:
    """Gives the loop the batches of one round after another from a feed, and keeps the time of making them.

    Only what the loop asks of every feed is here: if it comes to ask for more, this must fail and not go round it.
    """

    def __init__(self, inner: Any, steps: int) -> None:
        self.inner, self.steps, self.round = inner, steps, 0
        self.steps_per_epoch: float = inner.steps_per_epoch
        self.seconds = 0.0
        self._made: list[Any] = []

    def window(self, step: int, progress: float) -> Any:
        """The batches of a step of this round."""
        number = self.round * self.steps + step
        while len(self._made) <= number:
            self.seconds += timed(lambda: self._made.append(self.inner.window(len(self._made), progress)))
        return self._made[number]

    def position(self) -> dict[str, int]:
        """Nothing: no checkpoint is written."""
        return {}

    def seek(self, position: dict[str, int]) -> None:
        """Nothing to do."""

    def names(self, rows: Sequence[int]) -> list[str]:
        """The documents of a batch's rows, for messages."""
        return list(self.inner.names(rows))


@dataclass(slots=True)
class Clock:
    """Seconds spent in the parts of a way, round by round."""

    rounds: list[dict[str, float]] = field(default_factory=list)

    def begin(self) -> None:
        """A new round."""
        self.rounds.append({})

    def add(self, part: str, seconds: float) -> None:
        """Count seconds to a part of this round."""
        self.rounds[-1][part] = self.rounds[-1].get(part, 0.0) + seconds

    def shares(self, seconds: Sequence[float]) -> dict[str, float]:
        """The median share of each part in the last rounds, which took so many seconds."""
        rounds = self.rounds[-len(seconds) :]
        parts = sorted({part for spent in rounds for part in spent})
        pairs = list(zip(rounds, seconds, strict=True))
        return {part: statistics.median(spent.get(part, 0.0) / whole for spent, whole in pairs) for part in parts}


def ratios(seconds: Sequence[float], reference: Sequence[float]) -> dict[str, float]:
    """How many times the reference's seconds: the median over the rounds, the lowest and the highest."""
    found = [one / other for one, other in zip(seconds, reference, strict=True)]
    return {"median": statistics.median(found), "lowest": min(found), "highest": max(found)}


def report(
    name: str, seconds: dict[str, list[float]], work: Work | dict[str, Work], precisions: dict[str, str], rates: Rates,
    facts: dict[str, Any], output: Path | None = None, reference: str = "doctune",
) -> dict[str, Any]:  # fmt: skip
    """Print the table and write results/NAME.json (or `output`), atomically; gives what was written.

    `work` is the same for all ways, or each has its own; `precisions`: that of each way, for its share of the matrix
    rate; `facts`: settings and whatever else was found.
    """
    works = work if isinstance(work, dict) else dict.fromkeys(seconds, work)
    ways = {
        way: _figures(spent, seconds[reference], works[way], precisions[way], rates) for way, spent in seconds.items()
    }
    rate = {precision: asdict(rates.of(precision)) for precision in DTYPES}
    result = {
        "name": name, "command": command(), "machine": machine(), "facts": facts, "reference": reference,
        "ways": ways, "matmul_gflops": rate, "seconds": seconds,
        "work": asdict(work) if isinstance(work, Work) else {way: asdict(one) for way, one in work.items()},
        "matmul_gflops_measured": {key: [asdict(one) for one in found] for key, found in rates.measured.items()},
    }  # fmt: skip
    print(_table(result, works[reference].unit))
    path = output or RESULTS / f"{name}.json"
    write_json(path, result)
    print(f"written to {path.name}", file=sys.stderr)
    return result


def _figures(
    spent: Sequence[float], reference: Sequence[float], work: Work, precision: str, rates: Rates
) -> dict[str, Any]:
    """The figures of one way."""
    rate = rates.of(precision)
    figures: dict[str, Any] = {
        "precision": precision,
        f"seconds_per_{work.unit}": statistics.median(spent) / work.units,
        "examples_per_second": _per_second(work.examples, spent),
        "tokens_per_second": _per_second(work.tokens, spent),
        "times_as_long_as_reference": ratios(spent, reference),
    }
    for form, flops in (("whole", work.whole), ("needed", work.needed)):
        gflops = _per_second(flops, spent) / 1e9
        share = {"of_median": gflops / rate.median, "of_best": gflops / rate.best}
        figures[form] = {"gflops_per_second": gflops, "share_of_matmul": share}
    return figures


def _per_second(amounts: Sequence[float], seconds: Sequence[float]) -> float:
    return statistics.median(amount / spent for amount, spent in zip(amounts, seconds, strict=True))


def _table(result: dict[str, Any], unit: str) -> str:
    """The figures as lines of text."""
    head = f"{'way':34} {'s/' + unit:>9} {'examples/s':>10} {'times ' + result['reference'] + ' (spread)':>25}"
    lines = ["", f"{head}   share of the matrix rate: whole, needed"]
    for way, figures in result["ways"].items():
        ratio = figures["times_as_long_as_reference"]
        spread = f"{ratio['median']:.2f} ({ratio['lowest']:.2f} to {ratio['highest']:.2f})"
        shares = [100 * figures[form]["share_of_matmul"]["of_median"] for form in ("whole", "needed")]
        lines.append(
            f"{way:34} {figures[f'seconds_per_{unit}']:9.3f} {figures['examples_per_second']:10.1f} {spread:>25}   "
            f"{shares[0]:.0f} %, {shares[1]:.0f} % of {figures['precision']}"
        )
    rates = [f"{key} {rate['median']:.0f} (best {rate['best']:.0f})" for key, rate in result["matmul_gflops"].items()]
    known = result["machine"]
    lines += ["", f"matrix products, GFLOP/s: {', '.join(rates)}"]
    lines += [f"{key}: {_short(value)}" for key, value in result["facts"].items()]
    lines += [f"{known['processor']}, {known['threads']} threads, torch {known['packages']['torch']}, {known['date']}"]
    return "\n".join([*lines, result["command"], ""])


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(one)}" for key, one in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_short, value))
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    return {
        "processor": _processor(), "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "python": platform.python_version(), "system": platform.system(), "doctune": doctune.__version__,
        "packages": {name: version(name) for name in PACKAGES if find_spec(name)}, "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


def _processor() -> str:
    """The processor's name, with what decides the rate of bf16 products."""
    path = Path("/proc/cpuinfo")
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    name, flags = (re.search(rf"^{key}\s*: (.+)$", text, re.MULTILINE) for key in ("model name", "flags"))
    known = sorted(set(flags[1].split()) & EXTENSIONS) if flags else []
    return " ".join([name[1] if name else platform.processor() or platform.machine(), *known])


def command() -> str:
    """The command that runs this; of paths only the last part, for what is above it is this machine's."""
    words = [_PATH.sub(lambda found: found[1] + Path(found[2]).name, word) for word in sys.argv[1:]]
    return shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def add_common(parser: ArgumentParser, rounds: int) -> None:
    """The flags of every benchmark."""
    parser.add_argument("--rounds", type=int, default=rounds, help="rounds that count (default: %(default)s)")
    parser.add_argument("--warmup", type=int, default=1, help="rounds before them (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="seed of everything random (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="JSON file for the figures (default: in benchmarks/results)")


def need(module: str) -> ModuleType:
    """Import what only a peer needs, or end with a line that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        return fail(f"{error.name or module} is missing; it comes with the extra: pip install 'doctune[benchmarks]'")


def fail(message: str) -> NoReturn:
    """End with one line."""
    raise SystemExit(f"{Path(sys.argv[0]).name}: {message}")


def run(main: Callable[[], None]) -> None:
    """Run a benchmark; what its user can mend is one line."""
    try:
        main()
    except UserError as error:
        fail(str(error))


def check_equal(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, dict[str, float]]:
    """The gate: without dropout and in fp32 both must compute the same; ends the program if they do not."""
    for what, value in ours.items():
        off = abs(value - theirs[what]) / max(abs(theirs[what]), 1e-12)
        if not math.isfinite(off) or off > TOLERANCE:
            fail(f"{what}: doctune {value:.7g}, the peer {theirs[what]:.7g}: not the same work, so nothing is timed")
        print(f"gate: {what} {value:.6f}, the peer's {theirs[what]:.6f}, off by {off:.1e}", file=sys.stderr)
    return {"doctune": ours, "peer": theirs}


def gradient_norm(parameters: Iterable[torch.nn.Parameter]) -> float:
    """The norm of all gradients together."""
    return float(torch.nn.utils.clip_grad_norm_(list(parameters), math.inf))
