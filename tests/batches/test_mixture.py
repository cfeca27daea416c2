"""Several tasks in one feed: which task a step is of, and which documents it has."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from doctune.batches.collate import Collator
from doctune.batches.mixture import MixedFeed, Part
from doctune.batches.plan import documents_per_epoch
from doctune.settings import MixtureSettings, TrainingSettings
from doctune.store.splits import Dataset
from doctune.text.tokenizer import TextTokenizer
from doctune.text.truncation import HeadOnly

SIZES = (30, 12, 5)
NAMES = ("films", "news", "questions")


@pytest.fixture
def feed_of(dataset_of: Callable[..., Dataset], tokenizer: TextTokenizer) -> Callable[..., MixedFeed]:
    """A feed of three tasks of 30, 12 and 5 documents of growing length."""

    def make(
        mixture: dict[str, Any] | None = None, seed: int = 1, sizes: Sequence[int] = SIZES, **training: Any
    ) -> Any:
        collator = Collator(tokenizer.template, HeadOnly(), 32)
        parts = [
            Part(name, dataset_of([f"{name} " + "good " * (i % 9) for i in range(size)]), collator)
            for name, size in zip(NAMES, sizes, strict=True)
        ]
        settings = TrainingSettings.build({"epochs": 2, "batch_size": 4, **training})
        return MixedFeed(parts, settings, MixtureSettings.build(mixture or {}), seed)

    return make


def steps(feed: MixedFeed) -> list[tuple[str, list[int]]]:
    """The task of every step and its rows; every batch of a step is of that task."""
    found = []
    for step in range(len(feed)):
        window = feed.window(step, 0.0)
        assert len({batch.task for batch in window}) == 1
        found.append((window[0].task, [int(row) for batch in window for row in batch.rows]))
    return found


@pytest.mark.parametrize(
    "training", [{}, {"accumulation": 3}, {"tokens_per_batch": 40}, {"tokens_per_batch": 40, "accumulation": 2}]
)
def test_proportional_is_every_document_once_an_epoch(feed_of: Callable[..., MixedFeed], training: Any) -> None:
    feed = feed_of(**training, epochs=3)
    found = steps(feed)
    for epoch in range(3):
        first = feed.ends[epoch - 1] if epoch else 0
        rows = [row for _, mine in found[first : feed.ends[epoch]] for row in mine]
        assert sorted(rows) == list(range(sum(SIZES)))
    assert feed.ends[-1] == len(feed) == len(found)
    assert feed.num_documents() == [3 * size for size in SIZES]
    assert sum(feed.num_steps()) == len(feed)


def test_rows_tell_their_documents(feed_of: Callable[..., MixedFeed]) -> None:
    feed = feed_of()
    for task, rows in steps(feed):
        for row, name in zip(rows, feed.names(rows), strict=True):
            place = row - {"films": 0, "news": 30, "questions": 42}[task]
            assert name == f"{task}: {place}"


def test_steps_depend_on_seed_and_epoch_alone(feed_of: Callable[..., MixedFeed]) -> None:
    """More epochs add steps at the end; asking for a step in the middle needs none before it; tasks are mixed."""
    for mixture in ({}, {"mixture": "temperature"}):
        two, three = steps(feed_of(mixture)), steps(feed_of(mixture, epochs=3))
        assert three[: len(two)] == two
        again = feed_of(mixture)
        assert [int(r) for b in again.window(7, 0.0) for r in b.rows] == two[7][1]
        assert steps(feed_of(mixture, seed=2)) != two
        tasks = [task for task, _ in two]
        assert tasks[: len(tasks) // 2] != tasks[len(tasks) // 2 :]
        assert sum(a != b for a, b in itertools.pairwise(tasks)) > 4


def test_another_task_changes_no_tasks_batches(feed_of: Callable[..., MixedFeed]) -> None:
    alike, other = feed_of(), feed_of(sizes=(30, 6, 5))
    for task in ("films", "questions"):
        first_row = {"films": (0, 0), "questions": (42, 36)}[task]
        ours = [[row - first_row[0] for row in rows] for name, rows in steps(alike) if name == task]
        theirs = [[row - first_row[1] for row in rows] for name, rows in steps(other) if name == task]
        assert ours == theirs


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, (100, 25, 4)),
        ({"examples_cap": 50}, (50, 25, 4)),
        ({"mixture": "temperature", "temperature": 1}, (100, 25, 4)),
        ({"mixture": "temperature", "temperature": 2}, tuple(129 * n / 17 for n in (10, 5, 2))),
        ({"mixture": "temperature", "temperature": 1e9}, (43, 43, 43)),
        ({"mixture": "temperature", "temperature": 2, "examples_cap": 25}, tuple(54 * n / 12 for n in (5, 5, 2))),
    ],
)
def test_documents_of_an_epoch(settings: dict[str, Any], expected: tuple[float, ...]) -> None:
    assert documents_per_epoch((100, 25, 4), MixtureSettings.build(settings)) == pytest.approx(expected)


def test_temperature_repeats_small_tasks_and_goes_through_large_ones_evenly(
    feed_of: Callable[..., MixedFeed],
) -> None:
    feed = feed_of({"mixture": "temperature", "temperature": 1000.0}, epochs=6, batch_size=1)
    seen = {name: np.zeros(sum(SIZES), int) for name in NAMES}
    for task, rows in steps(feed):
        np.add.at(seen[task], rows, 1)
    assert feed.num_documents() == pytest.approx([6 * sum(SIZES) / 3] * 3, abs=6)
    for task, first, size in (("films", 0, 30), ("news", 30, 12), ("questions", 42, 5)):
        own = seen[task][first : first + size]
        assert own.sum() == seen[task].sum()
        assert own.max() - own.min() <= 1


def test_a_cap_counts_a_large_task_for_less_and_goes_on_in_the_next_epoch(feed_of: Callable[..., MixedFeed]) -> None:
    feed = feed_of({"examples_cap": 10}, epochs=3, batch_size=1)
    rows = [row for task, mine in steps(feed) if task == "films" for row in mine]
    assert sorted(rows) == list(range(30))
    assert feed.num_documents() == [30, 30, 15]


def test_parts_of_an_epoch(feed_of: Callable[..., MixedFeed]) -> None:
    feed = feed_of(epochs=1.5, evaluations_per_epoch=2)
    assert len(feed.ends) == 3
    assert feed.ends[1] == 13
    assert feed.ends[-1] == len(feed) == 13 + 4 + 2 + 1
