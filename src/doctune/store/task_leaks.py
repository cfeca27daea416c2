"""Training documents of some tasks that are, or nearly are, test documents of any of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from doctune.progress import Progress
from doctune.store.leaks import LeakIndex, write_index
from doctune.store.splits import Dataset

DOCUMENTS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class Leak:
    """A training document, and the test document that it is like; `reason` is exact or near-duplicate.

    `place` is the document's place in its training set.
    """

    task: str
    place: int
    id: str
    test_task: str
    test_id: str
    reason: str
    similarity: float


def find_leaks(train: Mapping[str, Dataset], tests: Mapping[str, Dataset], similarity: float) -> list[Leak]:
    """The documents of the training sets, by task, that are like a test document of any task."""
    leaks: list[Leak] = []
    if not tests:
        return leaks
    owners = [(task, place) for task, test in tests.items() for place in range(len(test))]
    with tempfile.TemporaryDirectory(prefix="doctune-") as folder:
        write_index(chain.from_iterable(d.shard.values("text", d.rows) for d in tests.values()), Path(folder))
        index = LeakIndex(Path(folder), similarity)
        with Progress(sum(map(len, train.values())), "search for test texts", "documents") as progress:
            for task, dataset in train.items():
                for first in range(0, len(dataset), DOCUMENTS_AT_ONCE):
                    rows = dataset.rows[first : first + DOCUMENTS_AT_ONCE]
                    for place, match in enumerate(index.find(list(dataset.shard.values("text", rows))), first):
                        if match is not None:
                            test_task, test_place = owners[match.text]
                            own = dataset.ids(np.array([place]))[0]
                            test = tests[test_task].ids(np.array([test_place]))[0]
                            leaks.append(Leak(task, place, own, test_task, test, match.reason, match.similarity))
                    progress.advance(len(rows))
        del index  # its files are mapped
    return leaks


def without(task: str, dataset: Dataset, leaks: Sequence[Leak]) -> Dataset:
    """A task's training set without the documents that leaked."""
    leaked = [leak.place for leak in leaks if leak.task == task]
    return dataset.take(np.delete(np.arange(len(dataset)), leaked)) if leaked else dataset
