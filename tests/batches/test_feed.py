"""The steps of a run over documents, against lists of lists."""

from __future__ import annotations

import itertools
import math
import tracemalloc
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest

from doctune.batches.collate import Collator
from doctune.batches.feed import DocumentFeed
from doctune.batches.plan import epoch_plan
from doctune.settings import TrainingSettings
from doctune.store.splits import Dataset


class Lengths:
    """In place of a collator: knows the lengths, and makes a batch that is its places."""

    def __init__(self, lengths: npt.NDArray[np.int64]) -> None:
        self.known = lengths

    def lengths(self, dataset: Dataset) -> npt.NDArray[np.int64]:
        return self.known

    def __call__(self, dataset: Dataset, places: npt.NDArray[np.int64]) -> list[int]:
        return cast("list[int]", places.tolist())


def feed_of(number: int, **settings: Any) -> DocumentFeed:
    """A feed over documents of 3 to 59 tokens, with seed 1."""
    lengths = np.random.default_rng(0).integers(3, 60, number).astype(np.int64)
    collator = cast("Collator", Lengths(lengths))
    return DocumentFeed(cast("Dataset", None), collator, TrainingSettings(**settings), 1)


def naive(feed: DocumentFeed, settings: TrainingSettings) -> tuple[list[list[list[int]]], list[int]]:
    """Steps and ends as lists, epoch after epoch."""
    steps: list[list[list[int]]] = []
    ends: list[int] = []
    lengths = feed.collator.lengths(feed.dataset)
    for epoch in range(math.ceil(settings.epochs)):
        plan = epoch_plan(lengths, 1, epoch, settings.batch_size, settings.tokens_per_batch)
        batches = [places.tolist() for places in plan]
        made = [batches[i : i + settings.accumulation] for i in range(0, len(batches), settings.accumulation)]
        share = min(settings.epochs - epoch, 1.0)
        made = made[: max(round(share * len(made)), 1)]
        parts = max(round(settings.evaluations_per_epoch * share), 1)
        ends += [len(steps) + math.ceil(len(made) * (part + 1) / parts) for part in range(parts)]
        steps += made
    return steps, ends


GRID = list(itertools.product((1, 40, 41), (0.01, 0.5, 1, 2.3, 3), (1, 3), (1, 4), (None, 20, 200)))


@pytest.mark.parametrize(("number", "epochs", "accumulation", "evaluations", "tokens"), GRID)
def test_the_same_steps_as_lists(
    number: int, epochs: float, accumulation: int, evaluations: int, tokens: int | None
) -> None:
    settings = TrainingSettings(
        epochs=epochs, batch_size=4, accumulation=accumulation, evaluations_per_epoch=evaluations,
        tokens_per_batch=tokens,
    )  # fmt: skip
    feed = feed_of(number, **settings.model_dump())
    steps, ends = naive(feed, settings)
    assert [[places.tolist() for places in window] for window in feed.steps] == steps
    assert [cast("Any", feed.window(step, 0.0)) for step in range(len(feed.steps))] == steps
    assert feed.ends == ends
    assert feed.ends[-1] == len(feed.steps) == len(steps)
    assert feed.steps_per_epoch == len(steps) / epochs
    assert feed.num_documents() == sum(len(places) for window in steps for places in window)
    assert [places.tolist() for places in feed.steps[-1]] == steps[-1]
    with pytest.raises(IndexError):
        feed.steps[len(steps)]


def test_every_document_once_an_epoch() -> None:
    feed = feed_of(50, epochs=3, batch_size=4, accumulation=3)
    windows = list(feed.steps)
    for epoch in range(3):
        places = [int(place) for window in windows[epoch * 5 : epoch * 5 + 5] for batch in window for place in batch]
        assert sorted(places) == list(range(50))


def test_no_documents_no_steps() -> None:
    feed = feed_of(0, epochs=2)
    assert (len(feed.steps), list(feed.steps), feed.num_documents(), feed.ends) == (0, [], 0, [0, 0])


@pytest.mark.parametrize("tokens", [None, 800])
def test_a_feed_holds_arrays_only(tokens: int | None) -> None:
    """Three epochs of n documents are three orders; no object for each document, batch or step."""
    number = 60_000
    feed_of(100, tokens_per_batch=tokens)  # what is made once only
    tracemalloc.start()
    try:
        feed = feed_of(number, epochs=3, batch_size=25, tokens_per_batch=tokens)
        held, peak = tracemalloc.get_traced_memory()
        blocks = len(tracemalloc.take_snapshot().traces)
    finally:
        tracemalloc.stop()
    assert len(feed.steps) > 3 * 2000
    assert blocks < 500
    assert held < 5 * 8 * number  # lengths, three orders, bounds
    assert peak < 8 * 8 * number
