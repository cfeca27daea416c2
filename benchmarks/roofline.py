"""How much of the processor's bf16 rate a step of fine-tuning gets: doctune's loop at 6 x 384 and 12 x 768.

    python benchmarks/roofline.py --folder data/ag_news

The rate is that of a product of two large square matrices in PyTorch, measured in the same rounds before, between and
after the steps; a share is of the mean of the two measurements around it. The larger encoder is a BERT-base with random
weights, for speed does not depend on them. FLOPs are those of the model on the texts' true lengths, in two counts:
`whole` is all rows in all layers, and `needed` leaves out what a classifier does not read in the highest layer.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

import measure
import torch
from finetuning import DEFAULTS, OurLoop, Texts, count_work, our_way, read_texts
from measure import Rate, Rates, Way, Work

from doctune.encoders.resolve import resolve_encoder
from doctune.text.tokenizer import TextTokenizer

SMALL, BASE = "6x384", "12x768"


def bert_base(tokenizer: TextTokenizer, folder: Path, seed: int) -> Path:
    """BERT-base with random weights: 12 layers of 768, a vocabulary of 30,522."""
    from transformers import BertConfig, BertModel
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(seed)
    BertModel(BertConfig()).save_pretrained(folder)
    tokenizer.save(folder)
    return folder


class Around:
    """A way with the matrix rate measured just before and just after it."""

    def __init__(self, loop: OurLoop, precision: str) -> None:
        self.loop, self.precision = loop, precision
        self.rates: list[Rate] = []

    def __call__(self, number: int) -> float:
        """Train for a round; its seconds without those of the products."""
        before = measure.matmul_rate(self.precision)
        seconds = measure.timed(lambda: self.loop(number))
        after = measure.matmul_rate(self.precision)
        self.rates.append(Rate(max(before.best, after.best), (before.median + after.median) / 2))
        return seconds


def shares(work: Work, seconds: list[float], rates: list[Rate]) -> dict[str, dict[str, float]]:
    """Of the rate around each round: the median over the rounds, the lowest and the highest."""
    found = {}
    for count, flops in (("whole", work.whole), ("needed", work.needed)):
        gflops = [amount / spent / 1e9 for amount, spent in zip(flops, seconds, strict=True)]
        parts = [speed / rate.median for speed, rate in zip(gflops, rates, strict=True)]
        best = max(rate.best for rate in rates)
        found[count] = {
            "share": statistics.median(parts), "lowest": min(parts), "highest": max(parts),
            "share_of_best": statistics.median(gflops) / best,
        }  # fmt: skip
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=DEFAULTS, default="ag_news", help="the data set (default: %(default)s)")
    parser.add_argument("--folder", required=True, help="folder of the data set, or its training file")
    parser.add_argument("--encoder", default="minilm", help="the 6 x 384 encoder (default: %(default)s)")
    parser.add_argument("--max-seq-len", type=int, default=128, help="longest sequence (default: %(default)s)")
    parser.add_argument("--batch-size", type=int, default=32, help="documents in a step (default: %(default)s)")
    parser.add_argument("--steps-per-round", type=int, default=10, help="steps of each size (default: %(default)s)")
    parser.add_argument("--precision", choices=measure.DTYPES, default="bf16", help="(default: %(default)s)")
    measure.add_common(parser, 5)
    return parser.parse_args()


def main() -> None:
    given = arguments()
    with tempfile.TemporaryDirectory(prefix="doctune-benchmark-") as made:
        scratch, small = Path(made), resolve_encoder(given.encoder)
        tokenizer, rounds = TextTokenizer.load(small), given.warmup + given.rounds
        texts = read_texts(given.data, given.folder, tokenizer, given.max_seq_len, given.batch_size,
                           given.steps_per_round, rounds, given.seed, scratch / "shards")  # fmt: skip
        encoders = {SMALL: small, BASE: bert_base(tokenizer, scratch / "base", given.seed)}
        ways = {
            name: Around(our_way(encoder, texts, scratch / name, given.precision), given.precision)
            for name, encoder in encoders.items()
        }
        rates = Rates()
        rates.measure()
        asked: dict[str, Way] = dict(ways)
        seconds = measure.interleaved(asked, given.rounds, given.warmup)
        rates.measure()
        write(given, texts, ways, seconds, rates)


def write(
    given: argparse.Namespace, texts: Texts, ways: dict[str, Around], seconds: dict[str, list[float]], rates: Rates
) -> None:
    """The table of shares, and one report of both sizes."""
    facts: dict[str, Any] = {}
    counted = range(given.warmup, given.warmup + given.rounds)
    works = {
        name: count_work(texts, measure.Shape.of(way.loop.model.encoder.config), counted) for name, way in ways.items()
    }
    for name, way in ways.items():
        facts[f"share of the {given.precision} matrix rate around it, {name}"] = shares(
            works[name], seconds[name], way.rates[given.warmup :]
        )
        facts[f"shares of a step, {name}"] = way.loop.clock.shares(seconds[name])
    names = ("max_seq_len", "batch_size", "steps_per_round", "rounds", "warmup", "seed", "precision")
    facts["settings"] = {name: getattr(given, name) for name in names} | {"encoder": Path(given.encoder).name}
    facts["mean_length"] = sum(works[SMALL].tokens) / sum(works[SMALL].examples)
    measure.report(
        "roofline", seconds, works, dict.fromkeys(ways, given.precision), rates, facts, given.output, reference=SMALL
    )


if __name__ == "__main__":
    measure.run(main)
