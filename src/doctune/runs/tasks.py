"""The tasks of `doctune multitask`: their settings resolved, their documents read, and test texts left out."""

from __future__ import annotations

import contextlib
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from doctune.batches.collate import Collator, make_collator
from doctune.distributed import World
from doctune.errors import DataError, UserError
from doctune.files import write_text
from doctune.readers import Source, sources
from doctune.runs.data import Documents, Prepared, read, split
from doctune.runs.resolve import resolve
from doctune.settings import FinetuneSettings, MultitaskSettings, TaskSettings
from doctune.settings.components import OPTIONS
from doctune.store.splits import Dataset
from doctune.store.task_leaks import Leak, find_leaks, without
from doctune.targets import Target
from doctune.text.tokenizer import TextTokenizer

LEAKS = "leaks.jsonl"
CONTINUED_SHARE = 0.5  # of the joint rate; the paper says "lower" and gives no number


@dataclass(frozen=True, slots=True)
class Task:
    """A task ready to train on: its settings are those of a run of its own.

    `left_out` counts the training documents that were test documents, by the task whose test set has them.
    """

    name: str
    settings: FinetuneSettings
    collator: Collator
    prepared: Prepared
    left_out: dict[str, int]

    @property
    def target(self) -> Target:
        """What an answer is."""
        return self.prepared.target


@contextlib.contextmanager
def about(task: str) -> Iterator[None]:
    """Errors inside it name the task."""
    try:
        yield
    except UserError as error:
        raise type(error)(f"task {task}: {error}") from None


def resolve_tasks(settings: MultitaskSettings) -> tuple[MultitaskSettings, Path, TextTokenizer]:
    """Fill in what depends on the encoder, for all tasks and for each that differs, and check that everything fits."""
    tree = settings.model_dump()
    plain = TaskSettings(name="all", data=settings.tasks[0].data)
    shared, folder, tokenizer = resolve(settings.task(plain))
    for section in ("truncation", "features", "optimizer"):
        tree[section] = getattr(shared, section).model_dump()
    for name in ("window_pooling", f"window_pooling{OPTIONS}"):  # of the tasks that are read in windows
        tree["features"][name] = getattr(settings.features, name)
    for number, task in enumerate(settings.tasks):
        if task.truncation is not None:
            with about(task.name):
                own, _, _ = resolve(settings.task(task))
            tree["tasks"][number]["truncation"] = own.truncation.model_dump()
    if settings.continuation.learning_rate is None:
        assert shared.optimizer.learning_rate is not None
        tree["continuation"]["learning_rate"] = CONTINUED_SHARE * shared.optimizer.learning_rate
    return MultitaskSettings.build(tree), folder, tokenizer


def find(settings: MultitaskSettings) -> dict[str, dict[str, Source]]:
    """The files of each task, by split; an error names the task."""
    found = {}
    for task in settings.tasks:
        with about(task.name):
            found[task.name] = sources(task.data)
    return found


def prepare(
    settings: MultitaskSettings, found: dict[str, dict[str, Source]], tokenizer: TextTokenizer, output: Path,
    world: World,
) -> list[Task]:  # fmt: skip
    """Read and tokenise every task's documents, leave test texts out of training, and hold validation out.

    What was left out is told, and written to leaks.jsonl. Of several processes the first does the work.
    """
    documents: dict[str, Documents] = {}
    for task in settings.tasks:
        print(f"task {task.name}", file=sys.stderr)
        with about(task.name):
            documents[task.name] = read(
                task.data, settings.task(task).target, found[task.name], tokenizer, output / "shards" / task.name, world
            )
    leaks = _without_leaks(settings, documents, output / LEAKS, world)
    tasks = []
    for task in settings.tasks:
        own = settings.task(task)
        with about(task.name):
            prepared = split(own, documents[task.name], settings.training.seed)
            collator = make_collator(tokenizer, own.truncation)
        left_out = Counter(leak.test_task for leak in leaks if leak.task == task.name)
        tasks.append(Task(task.name, own, collator, replace(prepared, title=task.name), dict(left_out)))
    return tasks


def _without_leaks(
    settings: MultitaskSettings, documents: dict[str, Documents], ledger: Path, world: World
) -> list[Leak]:
    """Take what is like a test document out of the training documents; says what that was."""
    if not settings.leaks.leak_guard:
        return []

    def find_and_write() -> list[dict[str, Any]]:
        rows = [asdict(leak) for leak in find_leaks(train, tests, settings.leaks.similarity)]
        lines = [json.dumps({k: v for k, v in row.items() if k != "place"}, ensure_ascii=False) + "\n" for row in rows]
        write_text(ledger, "".join(lines))
        return rows

    train = {name: one.sets["train"] for name, one in documents.items()}
    tests = {name: one.sets["test"] for name, one in documents.items() if "test" in one.sets}
    leaks = [Leak(**row) for row in world.broadcast_from_rank0(find_and_write)]
    for name, whole in train.items():
        dataset = without(name, whole, leaks)
        _tell(name, [leak for leak in leaks if leak.task == name])
        if sum(count > 0 for count in dataset.per_class().values()) < 2:
            raise DataError(
                f"task {name}: of {len(whole):,} training documents {len(dataset):,} are left that are no test "
                f"documents, which is too few to train on; check the files, or give --no-leak-guard"
            )
        sets: dict[str, Dataset] = {**documents[name].sets, "train": dataset}
        documents[name] = replace(documents[name], sets=sets)
    return leaks


def _tell(task: str, leaks: Sequence[Leak]) -> None:
    if leaks:
        print(f"{task}: {left_out_line(dict(Counter(leak.test_task for leak in leaks)))}", file=sys.stderr)


def left_out_line(left_out: dict[str, int]) -> str:
    """What the leak guard did, as a sentence without its end."""
    total = sum(left_out.values())
    of = ", ".join(f"{name} {count:,}" for name, count in left_out.items())
    one = total == 1
    return (
        f"left out {total:,} training document{'' if one else 's'} that {'is' if one else 'are'}, or nearly "
        f"{'is' if one else 'are'}, in a test set ({of})"
    )
