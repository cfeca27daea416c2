"""From text to training batches with pairs and masks, per core, beside `tokenizers` alone on the same sentences.

    python benchmarks/text_to_batches.py test.csv                       a CSV of label, title, description (AG's News)
    python benchmarks/text_to_batches.py test.csv train.csv.xz --runs 7 several, each by itself, also compressed

One thread. `tokenizers` makes ids of the sentences and stops there. doctune goes all the way: ids, pairs, masks, and
packed batches of tensors, one pass over the texts, as `SequenceFeed` hands them to training; once with a cache of words
that begins empty, and once with one that has seen the texts, as the later shards of a large corpus find it. Sentences
are split beforehand for both. First of all both must have the same ids for all the texts. The figures go to
benchmarks/results/text_to_batches.json; `benchmarks/pretraining_data.py` has the comparison with the original.
"""

from __future__ import annotations

import argparse
import csv
import gc
import math
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")

import numpy as np
import torch
from epoch_plan import RESULTS, machine
from measure import Shard
from pretraining_data import BATCH, MASKS, PAIRS, PREDICTIONS, SENTENCE_END, SEQUENCE_LEN, Documents
from tokenizers import Tokenizer

from doctune.batches.sequences import Choice, Recipe, SequenceFeed
from doctune.encoders.resolve import resolve_encoder
from doctune.files import open_text, write_json
from doctune.store.corpus import CorpusShard
from doctune.tensors import MaskedBatch
from doctune.text.tokenizer import TextTokenizer
from doctune.text.word_cache import WordCache

SENTENCES_PER_CALL = 64  # of `tokenizers`: its fastest, of 16 to all at once
THEIRS, COLD, WARM = "tokenizers alone", "doctune, empty cache", "doctune, warm cache"


def read(path: Path) -> Documents:
    """Documents as sentences, as `pretraining_data.read` splits them; `.gz` and `.xz` too."""
    with open_text(path, newline="") as lines:
        rows = [row[1:3] for row in csv.reader(lines)]
    split = ([title.strip(), *SENTENCE_END.split(text.replace("\\", " ").strip())] for title, text in rows)
    return [[sentence for sentence in document if sentence] for document in split]


class Ways:
    """The ways over one list of documents."""

    def __init__(self, documents: Documents, tokenizer: TextTokenizer) -> None:
        self.sentences = [sentence for document in documents for sentence in document]
        self.bounds = np.cumsum([0, *map(len, documents)])
        self.tokenizer = tokenizer
        self.plain = Tokenizer.from_str(tokenizer.tokenizer.to_str())
        self.plain.encode_special_tokens = True
        self.warm = WordCache(tokenizer)
        self.recipe = Recipe(
            PAIRS, MASKS.model_copy(update={"max_predictions_per_seq": PREDICTIONS}), tokenizer.template,
            tokenizer.mask_id, tokenizer.size,
        )  # fmt: skip

    def theirs(self) -> list[list[int]]:
        """The ids of every sentence, by `tokenizers`."""
        ids: list[list[int]] = []
        for start in range(0, len(self.sentences), SENTENCES_PER_CALL):
            part = self.sentences[start : start + SENTENCES_PER_CALL]
            ids += [encoding.ids for encoding in self.plain.encode_batch_fast(part, add_special_tokens=False)]
        return ids

    def tokenise(self, cache: WordCache | None = None) -> Shard:
        """The ids of every sentence, by doctune; without a cache it makes one."""
        ids, lengths = (cache or WordCache(self.tokenizer)).encode(self.sentences)
        kept = np.concatenate([[0], np.cumsum(lengths > 0)])
        return Shard(ids, np.concatenate([[0], np.cumsum(lengths[lengths > 0])]), kept[self.bounds])

    def batches(self, shard: Shard) -> int:
        """One pass: makes every batch, drops it, and says how many there were."""
        feed = self._feed(shard)
        steps = math.ceil(feed.steps_per_epoch)
        for step in range(steps):
            feed.window(step, 0.0)
        return steps

    def check(self) -> dict[str, Any]:
        """The gate, and what is made; fills the warm cache."""
        theirs = self.theirs()
        for cache in (WordCache(self.tokenizer), self.warm, self.warm):
            ids, lengths = cache.encode(self.sentences)
            same = lengths.tolist() == list(map(len, theirs)) and ids.tolist() == [one for row in theirs for one in row]
            if not same:
                sys.exit("doctune has other ids than tokenizers: nothing is timed")
        feed = self._feed(self.tokenise(self.warm))
        batches = [cast("MaskedBatch", feed.window(step, 0.0)[0]) for step in range(math.ceil(feed.steps_per_epoch))]
        return {
            "documents": len(self.bounds) - 1, "sentences": len(self.sentences), "tokens": len(ids),
            "megabytes": sum(len(sentence.encode()) for sentence in self.sentences) / 1e6,
            "batches": len(batches), "sequences": sum(batch.num_documents for batch in batches),
            "tokens_in_batches": sum(batch.num_tokens for batch in batches),
            "masked": sum(len(batch.masked_positions) for batch in batches),
        }  # fmt: skip

    def _feed(self, shard: Shard) -> SequenceFeed:
        choice = Choice((np.ones(len(shard)),))
        return SequenceFeed([cast("CorpusShard", shard)], choice, self.recipe, seed=1, batch_size=BATCH)


def measure(ways: Ways, runs: int) -> dict[str, list[float]]:
    """Seconds of every run; the ways take turns, and the first of them changes."""
    shard = ways.tokenise(ways.warm)
    timed: dict[str, Callable[[], object]] = {
        THEIRS: ways.theirs,
        COLD: lambda: ways.batches(ways.tokenise()),
        WARM: lambda: ways.batches(ways.tokenise(ways.warm)),
        "of it ids, empty cache": ways.tokenise,
        "of it ids, warm cache": lambda: ways.tokenise(ways.warm),
        "of it pairs, masks and batches": lambda: ways.batches(shard),
    }
    names = list(timed)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(runs):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            gc.collect()
            start = time.perf_counter()
            timed[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def report(name: str, facts: dict[str, Any], seconds: dict[str, list[float]]) -> dict[str, Any]:
    """Print the figures of one file, with the ratios: the median over the runs, the lowest and the highest."""
    print(f"{name}: {', '.join(f'{key} {value:,.6g}' for key, value in facts.items())}")
    ratios, rates = {}, {}
    for way, spent in seconds.items():
        found = [theirs / ours for theirs, ours in zip(seconds[THEIRS], spent, strict=True)]
        ratio = ratios[way] = {"median": statistics.median(found), "lowest": min(found), "highest": max(found)}
        median = statistics.median(spent)
        rates[way] = facts["megabytes"] / median
        print(
            f"  {way:32s} {median:7.3f} s {rates[way]:7.2f} MB/s   {ratio['median']:6.2f} times as fast "
            f"({ratio['lowest']:.2f} to {ratio['highest']:.2f})"
        )
    return {"facts": facts, "seconds": seconds, "times_as_fast_as_tokenizers": ratios, "megabytes_per_second": rates}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path, nargs="+", help="CSV files of label, title, description")
    parser.add_argument("--encoder", default="minilm", help="whose tokenizer is used: a name or a folder")
    parser.add_argument("--runs", type=int, default=7, help="of every way (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS / "text_to_batches.json", help="a JSON file")
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = resolve_encoder(given.encoder)
    settings = {
        "encoder": Path(given.encoder).name, "sequence_len": SEQUENCE_LEN, "max_predictions": PREDICTIONS,
        "batch_size": BATCH, "sentences_per_call": SENTENCES_PER_CALL, "threads": 1,
    }  # fmt: skip
    files = {}
    for path in given.texts:
        ways = Ways(read(path), TextTokenizer.load(folder))
        files[path.name] = report(path.name, ways.check(), measure(ways, given.runs))
    write_json(given.output, {"settings": settings, "machine": machine(), "files": files})


if __name__ == "__main__":
    main()
