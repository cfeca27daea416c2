"""Reports of made-up runs; the numbers are computed, so that they fit together."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from doctune.evaluation.intervals import is_collapsed, seed_interval
from doctune.evaluation.schema import FORMAT, Report
from doctune.metrics.single import Metrics, compute

MakeReport = Callable[..., Report]
VOID = {"meta", "link", "br", "hr", "img", "input"}


class Page(HTMLParser):
    """Fails on a tag that closes what is not open; collects tags, attributes and visible text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert not self.open, f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open[-1:] == [tag], f"</{tag}> closes nothing"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


def made_up(size: int, count: int, accuracy: float, seed: int = 0, names: tuple[str, ...] | None = None) -> Metrics:
    """Metrics of a random classifier that is right with about the given chance."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, size, count)
    # Confusions fall on the neighbouring class mostly, as they do in life.
    wrong = (labels + rng.choice([1, 1, 1, 2, 5], count)) % size
    answers = np.where(rng.random(count) < accuracy, labels, wrong)
    probabilities = rng.dirichlet(np.full(size, 0.3), count)
    probabilities[np.arange(count), answers] += 1.2
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return compute(probabilities, labels, names or tuple(f"class {i}" for i in range(size)))


def make_report(
    names: tuple[str, ...] = ("negative", "positive"),
    count: int = 400,
    accuracy: float = 0.92,
    test: bool = True,
    warnings: tuple[str, ...] = (),
    hardest: tuple[tuple[str, str, str], ...] = (("A dull film, and I loved every minute.", "positive", "negative"),),
    num_epochs: int = 4,
    seeds: tuple[float, ...] = (),
) -> Report:
    """A report with every key; `seeds` are accuracies of several runs."""
    size = len(names)
    epochs = [made_up(size, count // 2, accuracy - 0.06 / (i + 1) - 0.004 * i, i, names) for i in range(num_epochs)]
    best = max(range(num_epochs), key=lambda i: epochs[i].accuracy)
    test_metrics = made_up(size, count, accuracy, 99, names) if test else None
    report: Report = {
        "format": FORMAT,
        "doctune": "0.1.0",
        "created": "2026-03-02T14:05:09+00:00",
        "title": "reviews.csv",
        "encoder": {
            "name": "google/bert_uncased_L-6_H-384_A-12",
            "hidden_size": 384,
            "num_layers": 6,
            "num_parameters": 22_713_600,
            "packing": "packed",
        },
        "data": {
            "train": 9 * count,
            "validation": count // 2,
            "test": count if test else 0,
            "labels": list(names),
            "left_out_empty": {"train": 3, "validation": 0, "test": 0},
            "truncated_percent": {"train": 12.4, "validation": 11.9, "test": 12.1},
            "mean_tokens": {"train": 231.7, "validation": 229.0, "test": 233.4},
            "train_per_class": {name: 9 * count // size for name in names},
            "validation_from": "held out 10 % of train, stratified",
        },
        "recipe": {
            "truncation": "head+tail, 128 + 382",
            "max_seq_len": 512,
            "learning_rate": 2e-5,
            "layerwise": "decay 0.95",
            "schedule": "slanted-triangular, warm-up 10 %",
            "optimizer": "adamw",
            "weight_decay": 0.01,
            "epochs": 4,
            "batch_size": 24,
            "class_weights": "none",
            "token_pooling": "pooler",
            "precision": "bf16",
            "gradient_checkpointing": False,
            "patience": None,
            "seed": 42,
        },
        "learning_rates": [
            {"part": "embeddings", "learning_rate": 1.3967e-5, "parameters": 11_919_360},
            *(
                {"part": f"layer {i}", "learning_rate": 2e-5 * 0.95 ** (6 - i), "parameters": 1_774_464}
                for i in range(6)
            ),  # type: ignore[typeddict-item]
            {"part": "pooler and classifier", "learning_rate": 2e-5, "parameters": 148_610},
        ],
        "epochs": [
            {
                "epoch": float(i + 1),
                "step": 75 * (i + 1),
                "train_loss": 0.52 * 0.55**i + 0.03,
                "validation": metrics.to_json(),
                "learning_rate": 2e-5 * (1 - i / num_epochs),
                "examples_per_second": 44.1,
            }
            for i, metrics in enumerate(epochs)
        ],
        "best": {"epoch": float(best + 1), "step": 75 * (best + 1)},
        "validation": epochs[best].to_json(),
        "test": test_metrics.to_json() if test_metrics else None,
        "hardest": [
            {"id": f"test:{i + 17}", "text": text, "label": label, "prediction": said, "probability": 0.998 - i / 100}
            for i, (text, label, said) in enumerate(hardest)
        ],
        "time": {"train_seconds": 347.2, "examples_per_second": 44.3, "tokens_per_second": 10_264.0},
        "warnings": list(warnings),
        "command": "doctune finetune --train reviews.csv --test test.csv --encoder minilm --output runs/reviews",
    }
    if seeds:
        runs = [made_up(size, count, share, i, names) for i, share in enumerate(seeds)]
        report["seeds"] = {
            "seeds": [42 + i for i in range(len(runs))],
            "error_percent": seed_interval([run.error_percent for run in runs]).to_json(),
            "accuracy": seed_interval([run.accuracy for run in runs]).to_json(),
            "macro_f1": seed_interval([run.macro_f1 for run in runs]).to_json(),
            "runs": [
                {
                    "seed": 42 + i,
                    "dir": f"runs/reviews/seed-{42 + i}",
                    "error_percent": run.error_percent,
                    "validation_accuracy": run.accuracy,
                    "collapsed": is_collapsed(run),
                }
                for i, run in enumerate(runs)
            ],
        }
    return report


@pytest.fixture
def report() -> MakeReport:
    """The maker of reports, so that a test says what is special about its own."""
    return make_report


@pytest.fixture
def metrics() -> Callable[..., Any]:
    """The maker of metrics of a random classifier."""
    return made_up


@pytest.fixture
def parse() -> type[Page]:
    """Reads a page of HTML, and fails where it is not well formed."""
    return Page
