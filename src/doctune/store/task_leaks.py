"""Training documents of some tasks that are, or nearly are, test documents of any of them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
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
    """A training document, and the test document that it is like; `reason` is exact or near-duplicate."""

    task: str
    id: str
    test_task: str
    test_id: str
    reason: str
    similarity: float


def leave_out_leaks(
    train: Mapping[str, Dataset], tests: Mapping[str, Dataset], similarity: float
) -> tuple[dict[str, Dataset], list[Leak]]:
    """The training sets by task without what is like a test document of any task, and what was left out."""
    leaks: list[Leak] = []
    if not tests:
        return dict(train), leaks
    owners = [(task, place) for task, test in tests.items() for place in range(len(test))]
    kept = {}
    with tempfile.TemporaryDirectory(prefix="doctune-") as folder:
        write_index(chain.from_iterable(d.shard.values("text", d.rows) for d in tests.values()), Path(folder))
        index = LeakIndex(Path(folder), similarity)
        with Progress(sum(map(len, train.values())), "search for test texts", "documents") as progress:
            for task, dataset in train.items():
                clean = np.ones(len(dataset), bool)
                for first in range(0, len(dataset), DOCUMENTS_AT_ONCE):
                    rows = dataset.rows[first : first + DOCUMENTS_AT_ONCE]
                    for place, match in enumerate(index.find(list(dataset.shard.values("text", rows))), first):
                        if match is not None:
                            clean[place] = False
                            test_task, test_place = owners[match.text]
                            ids = dataset.ids(np.array([place])), tests[test_task].ids(np.array([test_place]))
                            leaks.append(Leak(task, ids[0][0], test_task, ids[1][0], match.reason, match.similarity))
                    progress.advance(len(rows))
                kept[task] = dataset if clean.all() else dataset.take(np.flatnonzero(clean))
        del index  # its files are mapped
    return kept, leaks
