"""How fast sentence pairs and masks are made, beside a plain-Python twin of the original's algorithm in the same run.

    python benchmarks/pretraining_data.py test.csv                 a CSV of label, title, description (AG's News)
    python benchmarks/pretraining_data.py test.csv --memory 1 10   peak memory for the texts once and ten times

One core. Each way is timed in turn, several times over; a ratio is that of the best times.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.update(OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", RAYON_NUM_THREADS="1")

import numpy as np
from plain_pretraining import PlainTokenizer, Sequence, instances, padded_batches

from doctune.encoders.resolve import resolve_encoder
from doctune.settings.pretraining import MaskingSettings, PairSettings
from doctune.store.masking import mask
from doctune.store.pairs import Instances, Packed, assemble, plan_instances
from doctune.text.tokenizer import TextTokenizer
from doctune.text.word_cache import WordCache

SEQUENCE_LEN, PREDICTIONS, COPIES, BATCH = 128, 20, 5, 32
BLOCK = 32 * BATCH  # sequences that are packed and masked together, then handed out by the batch
PAIRS, MASKS = PairSettings(sequence_len=SEQUENCE_LEN), MaskingSettings()
# The original on another machine, one core, AG's News test texts (its own sentences: 60,042 instances).
RECORDED = {"tokenise": 1.85, "pairs and masks": 2.9, "whole way": 8.4}
SENTENCE_END = re.compile(r"(?<=[.!?])\s+")

Documents = list[list[str]]
Batch = tuple[np.ndarray, ...]


class Corpus(NamedTuple):
    """As a shard has it."""

    input_ids: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray


def read(path: Path) -> Documents:
    """Documents as sentences: the title, then the description by a simple rule."""
    with path.open(encoding="utf-8", newline="") as lines:
        rows = [row[1:3] for row in csv.reader(lines)]
    split = ([title.strip(), *SENTENCE_END.split(text.replace("\\", " ").strip())] for title, text in rows)
    return [[sentence for sentence in document if sentence] for document in split]


def tokenise(documents: Documents, tokenizer: TextTokenizer) -> Corpus:
    """Every sentence, with a cache of words that begins empty."""
    ids, lengths = WordCache(tokenizer).encode([sentence for document in documents for sentence in document])
    bounds = np.cumsum([0, *map(len, documents)])
    kept = np.concatenate([[0], np.cumsum(lengths > 0)])
    return Corpus(ids, np.concatenate([[0], np.cumsum(lengths[lengths > 0])]), kept[bounds])


def plan(corpus: Corpus, tokenizer: TextTokenizer) -> Instances:
    """As many passes as the original makes copies."""
    chosen = np.arange(len(corpus.documents) - 1)
    passes = (
        plan_instances(corpus.sentences, corpus.documents, chosen, PAIRS, tokenizer.template, 1, epoch, 0)
        for epoch in range(COPIES)
    )
    return Instances.joined(list(passes))


def batches(corpus: Corpus, made: Instances, tokenizer: TextTokenizer, block: int = BLOCK) -> Iterator[Batch]:
    """Packed and masked batches in random order; `block` sequences are worked on together."""
    order = np.random.default_rng(1).permutation(len(made))
    mask_id, size = tokenizer.tokenizer.token_to_id("[MASK]"), tokenizer.size
    for start in range(0, len(order), block):
        places = order[start : start + block]
        packed = assemble(corpus.input_ids, made, places, tokenizer.template)
        keys, labels = made.key[places], made.label[places]
        masked = mask(packed.input_ids, packed.cu_seqlens, packed.special, keys, MASKS, PREDICTIONS, mask_id, size)
        yield from _cut(packed, masked.input_ids, masked.positions, masked.labels, labels)


def _cut(
    packed: Packed, ids: np.ndarray, positions: np.ndarray, labels: np.ndarray, pairs: np.ndarray
) -> Iterator[Batch]:
    firsts = np.append(packed.cu_seqlens[:-1:BATCH], packed.cu_seqlens[-1])
    bounds = np.searchsorted(positions, firsts).tolist()
    tokens = firsts.tolist()
    for place in range(len(tokens) - 1):
        row, chosen = slice(*tokens[place : place + 2]), slice(*bounds[place : place + 2])
        lengths = packed.cu_seqlens[place * BATCH : (place + 1) * BATCH + 1] - tokens[place]
        yield (
            ids[row], packed.token_type_ids[row], lengths, positions[chosen] - tokens[place], labels[chosen],
            pairs[place * BATCH : (place + 1) * BATCH],
        )  # fmt: skip


def consume(items: Iterator[Any]) -> int:
    """How many there are; each is dropped."""
    return sum(1 for _ in items)


def pairs_and_masks(corpus: Corpus, tokenizer: TextTokenizer, block: int) -> int:
    """All passes over a tokenised corpus; the number of batches."""
    return consume(batches(corpus, plan(corpus, tokenizer), tokenizer, block))


def whole_way(documents: Documents, tokenizer: TextTokenizer) -> int:
    """From text to masked batches."""
    return pairs_and_masks(tokenise(documents, tokenizer), tokenizer, BLOCK)


def measure(documents: Documents, folder: Path, runs: int) -> dict[str, Any]:
    """Seconds of every run, and what was made."""
    tokenizer = TextTokenizer.load(folder)
    plain = PlainTokenizer(tokenizer.tokenizer.get_vocab())
    seconds: dict[str, list[float]] = {}

    def timed(name: str, work: Callable[..., Any], *arguments: Any) -> Any:
        start = time.perf_counter()
        result = work(*arguments)
        seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result

    for number in range(runs):
        tokens = timed("twin: tokenise", plain.documents, documents)
        settings = list(plain.vocabulary), SEQUENCE_LEN, PREDICTIONS, COPIES, number
        rows = timed("twin: pairs and masks", instances, tokens, *settings)
        settings = plain.vocabulary, SEQUENCE_LEN, PREDICTIONS, BATCH
        timed("twin: padded batches of ids", lambda *given: consume(padded_batches(*given)), rows, *settings)
        twin = _facts(rows)
        del rows, tokens
        corpus = timed("tokenise", tokenise, documents, tokenizer)
        timed("tokenise without the cache of words", tokenizer.encode, [s for d in documents for s in d])
        planned = timed("pairs", plan, corpus, tokenizer)
        timed("pairs and masks, blocks of 1024", pairs_and_masks, corpus, tokenizer, BLOCK)
        timed("pairs and masks, batch by batch", pairs_and_masks, corpus, tokenizer, BATCH)
        timed("whole way", whole_way, documents, tokenizer)
    lengths = planned.lengths(tokenizer.template)
    facts = len(planned), float(lengths.mean()), float(planned.label.mean())
    return {"seconds": seconds, "twin": twin, "doctune": dict(zip(twin, facts, strict=True))}


def _facts(rows: list[Sequence]) -> dict[str, float]:
    return {
        "instances": len(rows),
        "mean_length": float(np.mean([len(row.tokens) for row in rows])),
        "random_next": float(np.mean([row.is_random for row in rows])),
    }


def report(result: dict[str, Any], megabytes: float) -> dict[str, Any]:
    """Print the table; add the ratios."""
    best = {name: min(times) for name, times in result["seconds"].items()}
    for name, spent in best.items():
        print(f"{name:40s} {spent:8.3f} s   ({', '.join(f'{t:.3f}' for t in result['seconds'][name])})")
    twin_pairs = best["twin: pairs and masks"]
    twin_all = best["twin: tokenise"] + twin_pairs + best["twin: padded batches of ids"]
    fast = best["pairs and masks, blocks of 1024"]
    ratios = {
        "pairs and masks": (twin_pairs / fast, RECORDED["pairs and masks"] / fast),
        "pairs and masks, batch by batch": tuple(
            of / best["pairs and masks, batch by batch"] for of in (twin_pairs, RECORDED["pairs and masks"])
        ),
        "tokenise": (best["twin: tokenise"] / best["tokenise"], RECORDED["tokenise"] / best["tokenise"]),
        "whole way": (twin_all / best["whole way"], RECORDED["whole way"] / best["whole way"]),
    }
    print(f"\n{'times faster than':40s} the twin here   the original, recorded elsewhere")
    for name, (here, there) in ratios.items():
        print(f"{name:40s} {here:13.1f}   {there:8.1f}")
    print(f"\ntwin: {result['twin']}\ndoctune: {result['doctune']}")
    print(f"whole way: {megabytes / best['whole way']:.1f} MB of text a second, {COPIES} passes")
    return {**result, "best": best, "ratio_to_twin_and_to_recorded": ratios, "megabytes": megabytes}


def work_through(documents: Documents, folder: Path, times: int) -> None:
    """Shard after shard, as a corpus of so many times the texts; prints the peak memory in MiB and the time."""
    tokenizer = TextTokenizer.load(folder)
    before, start = _peak(), time.perf_counter()
    count = sum(whole_way(documents, tokenizer) for _ in range(times))
    spent = round(time.perf_counter() - start, 2)
    found = {"times": times, "batches": count, "seconds": spent, "mib_before": before, "mib_peak": _peak()}
    print(json.dumps(found))


def _peak() -> float:
    unit = 1024 if sys.platform == "linux" else 1024**2
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--encoder", default="minilm", help="whose tokenizer is used: a name or a folder")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    parser.add_argument("--memory", type=int, nargs="+", metavar="TIMES", help="peak memory, each in its own process")
    parser.add_argument("--work-through", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.memory:
        command = [sys.executable, __file__, str(given.texts), "--encoder", given.encoder, "--work-through"]
        outputs = (subprocess.run([*command, str(n)], check=True, capture_output=True, text=True) for n in given.memory)
        result: Any = [json.loads(output.stdout) for output in outputs]
        print(*result, sep="\n")
    elif given.work_through:
        work_through(read(given.texts), resolve_encoder(given.encoder), given.work_through)
        return
    else:
        documents = read(given.texts)
        megabytes = sum(len(sentence.encode()) + 1 for document in documents for sentence in document) / 1e6
        result = report(measure(documents, resolve_encoder(given.encoder), given.runs), megabytes)
        result["machine"] = {
            "python": platform.python_version(),
            "numpy": np.__version__,
            "processor": platform.machine(),
        }
    if given.output:
        given.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
