"""`doctune demo --encoder tiny`: whether further pre-training helps, from the first word piece to the verdict."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doctune.commands.compare import compare
from doctune.commands.corpus import summary as corpus_summary
from doctune.commands.pretrain import pretrain
from doctune.commands.pretrain import summary as pretraining_summary
from doctune.encoders.scratch import bert_config, new_bert
from doctune.evaluation.comparison import Comparison
from doctune.examples import Example
from doctune.files import write_json, write_text
from doctune.progress import duration
from doctune.readers.pydocs import INSTALLED, PyDocsReader
from doctune.report.comparison import summary_table
from doctune.runs.corpus import run as make_corpus
from doctune.settings import CorpusSettings
from doctune.store.corpus import Corpus
from doctune.text.vocabulary import train_vocabulary
from doctune.version import __version__

DATA, ENCODER, CORPUS, PRETRAINED, COMPARISON = "data", "encoder", "corpus", "pretrained", "compare"
PARTS = ("train", "validation", "test")
MARK = "demo.json"
"""Says that a folder is a demo's, and may be replaced by the next one."""
VOCABULARY, LAYERS, HIDDEN, SEED = 4000, 2, 128, 1
# BERT's 0.02 is for a width of 768: with it, 6.6 % of the masked words were right after 250 steps, with this 16.4 %.
INITIALIZER_RANGE = 0.05
PRETRAINING: dict[str, Any] = {
    "objective": "nsp", "sequence_len": 64, "batch_size": 64, "learning_rate": 3e-3, "dropout": 0.0,
    "head_warmup": 0.0, "held_out": 300, "evaluations": 5,
}  # fmt: skip
# For both encoders. Every layer has the same steep rate: one of the two must learn them all from these labels. Without
# pre-training 2e-3 is a little better, and with it 1e-3; with either of them, pre-training helps.
RECIPE: dict[str, Any] = {
    "max_seq_len": 128, "learning_rate": 1e-3, "layerwise": "none", "token_pooling": "mean", "batch_size": 16,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Amount:
    """How much of everything.

    Of each library at most `unlabelled` texts without labels, of which labels are drawn from the first `pool`; `test`
    texts, of which `validation` or a few more are for that. `labels` in all, passes over them, seeds; steps of
    pre-training.
    """

    unlabelled: int
    pool: int
    test: int
    validation: int
    labels: int
    epochs: float
    seeds: int
    steps: int


FULL = Amount(unlabelled=4000, pool=400, test=125, validation=10, labels=120, epochs=25, seeds=5, steps=1500)
SMOKE = Amount(unlabelled=60, pool=20, test=24, validation=3, labels=12, epochs=1, seeds=2, steps=3)


def demo(output: str, smoke: bool, command: str) -> None:
    """Make a small BERT, pre-train it on texts without labels, fine-tune it with and without that, and compare."""
    started, amount, folder = time.monotonic(), SMOKE if smoke else FULL, Path(output)
    write_json(folder / MARK, {"doctune": __version__, "command": command})
    unlabelled = write_data(folder / DATA, amount)
    _step(1, "an encoder that knows nothing")
    size = _make_encoder(folder / ENCODER, unlabelled)
    print(
        f"a BERT of {LAYERS} layers of {HIDDEN} with random weights; {size:,} word pieces from the texts without labels"
    )
    _step(2, "a corpus of the texts without labels, and without those that are like a validation or test text")
    print(corpus_summary(_make_corpus(folder)))
    _step(3, "further pre-training: masked words, and whether two parts belong together")
    pretrained = pretrain(
        command=command, corpus=str(folder / CORPUS), encoder=str(folder / ENCODER), output=str(folder / PRETRAINED),
        steps=amount.steps, **PRETRAINING,
    )  # fmt: skip
    print("\n".join(pretraining_summary(pretrained).splitlines()[:2]))
    _step(4, f"fine-tuning without and with it, each {amount.seeds} times with {amount.labels} labels drawn anew")
    labelled: dict[str, Any] = {part: str(folder / DATA / f"{part}.jsonl") for part in PARTS}
    comparison = compare(
        command=command, encoder=str(folder / ENCODER), adapted=[pretrained.folder], output=str(folder / COMPARISON),
        train_examples=amount.labels, epochs=amount.epochs, seeds=amount.seeds, **labelled, **RECIPE,
    )  # fmt: skip
    print(summary_table(comparison))
    print(_outlook(folder, comparison, time.monotonic() - started))


def write_data(folder: Path, amount: Amount) -> list[Example]:
    """Write the texts without labels, and those with labels: train, validation and test; gives those without labels.

    No module is on two sides: what is trained on, with or without labels; validation; test.
    """
    reader = PyDocsReader(train_per_library=amount.unlabelled, test_per_library=amount.test)
    unlabelled, held_out = (_by_library(reader.read(Path(INSTALLED), side)) for side in ("train", "test"))
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    for library, examples in unlabelled.items():
        parts["train"] += examples[: amount.pool]
        others = held_out.get(library, [])
        end = amount.validation
        while 0 < end < len(others) and others[end].group == others[end - 1].group:
            end += 1
        parts["validation"] += others[:end]
        parts["test"] += others[end:]
    for name, examples in parts.items():
        _write(folder / f"{name}.jsonl", examples)
    texts = [example for examples in unlabelled.values() for example in examples]
    _write(folder / "unlabelled.jsonl", texts, labels=False)
    print(
        f"      {len(texts):,} docstrings without labels; with labels {amount.labels:,} to train on, "
        f"{len(parts['validation']):,} for validation, {len(parts['test']):,} to test on"
    )
    return texts


def _by_library(examples: Iterable[Example]) -> dict[str, list[Example]]:
    found: dict[str, list[Example]] = {}
    for example in examples:
        found.setdefault(str(example.label), []).append(example)
    return found


def _write(path: Path, examples: Iterable[Example], labels: bool = True) -> None:
    rows = ({"text": example.text, **({"label": example.label} if labels else {})} for example in examples)
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _make_encoder(folder: Path, texts: Sequence[Example]) -> int:
    tokenizer = train_vocabulary((example.text for example in texts), VOCABULARY, folder)
    config = bert_config(tokenizer.size, LAYERS, HIDDEN)
    config.initializer_range = INITIALIZER_RANGE
    new_bert(folder, config, SEED)
    return tokenizer.size


def _make_corpus(folder: Path) -> Corpus:
    data = folder / DATA
    settings = {
        "sources": [{"path": str(data / "unlabelled.jsonl")}],
        "leaks": {"exclude": [str(data / "validation.jsonl"), str(data / "test.jsonl")]},
        "encoder": str(folder / ENCODER),
        "output": str(folder / CORPUS),
        "name": "docstrings",
    }
    return make_corpus(CorpusSettings.build(settings))


def _step(number: int, what: str) -> None:
    print(f"\n{number}. {what}", flush=True)


def _outlook(folder: Path, comparison: Comparison, seconds: float) -> str:
    """Where everything is, and how to go on."""
    model = folder / COMPARISON / comparison["adapted"][0]["name"] / "model"
    return f"""
done in {duration(seconds)}
report        {folder / COMPARISON / "compare.html"}
pre-training  {folder / PRETRAINED / "report.html"}
corpus        {folder / CORPUS}
model         {model}
try it:  echo 'Return the shortest path between two nodes.' | doctune predict {model} -
your own texts:
  doctune corpus TEXTS --exclude TEST --encoder minilm --output CORPUS
  doctune pretrain --corpus CORPUS --encoder minilm --output ADAPTED
  doctune compare --encoder minilm --adapted ADAPTED/model --train TRAIN --test TEST --output ANSWER"""
