"""Data sets: rows of a shard with label ids, and the stratified hold-out split."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from doctune import seeding
from doctune.errors import DataError
from doctune.examples import label_order
from doctune.store.shards import Shard

Rows = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Dataset:
    """Some rows of a shard. `labels` [D] are positions in `names`, or -1 where a document has no label."""

    name: str
    shard: Shard
    rows: Rows
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def ids(self, places: Rows | None = None) -> list[str]:
        """The ids of the documents, or of those at `places`."""
        rows = self.rows if places is None else self.rows[places]
        return list(self.shard.values("id", rows))

    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document's text and second text, [D, 2]."""
        return self.shard.lengths()[self.rows]

    def tokens(self, place: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32] | None]:
        """Token ids of the document at `place` and of its second text, if it has one; without special tokens."""
        return self.shard.tokens(int(self.rows[place]))

    def per_class(self) -> dict[str, int]:
        """Documents of each class."""
        counts = np.bincount(self.labels[self.labels >= 0], minlength=len(self.names))
        return {name: int(count) for name, count in zip(self.names, counts, strict=True)}

    def groups(self) -> dict[str, list[int]]:
        """Places of the documents of each group, those without one by themselves."""
        column = self.shard.column("group")
        found: dict[str, list[int]] = {}
        for place, row in enumerate(self.rows.tolist()):
            found.setdefault(f"row {row}" if column[row] is None else f"group {column[row]}", []).append(place)
        return found

    def take(self, places: Rows, name: str | None = None) -> Dataset:
        """Some of the documents as a data set of their own."""
        return replace(self, rows=self.rows[places], labels=self.labels[places], name=name or self.name)


def label_names(shard: Shard, known: tuple[str, ...] | None) -> tuple[str, ...]:
    """The classes of the training documents in the order that gives them their ids.

    `known` is the data set's own order, used unless a document has a class that it lacks.
    Raises `DataError` for a single class.
    """
    return order_classes({label for label in shard.column("label") if label is not None}, known)


def order_classes(found: set[str], known: tuple[str, ...] | None) -> tuple[str, ...]:
    """As `label_names`, from the set of classes."""
    if len(found) < 2:
        only = f"only {next(iter(found))!r}" if found else "none"
        raise DataError(f"train: two classes or more are needed, found {only}; check the label column")
    return known if known is not None and found <= set(known) else label_order(found)


def make_dataset(name: str, shard: Shard, names: tuple[str, ...], labelled: bool = True) -> Dataset:
    """All rows of a shard; `DataError` for a label that training does not have."""
    ids = {label: number for number, label in enumerate(names)}
    labels = shard.column("label")
    unknown = Counter(label for label in labels if label is not None and label not in ids)
    if unknown and labelled:
        label, count = unknown.most_common(1)[0]
        row = labels.index(label)
        more = f" and {len(unknown) - 1} more classes" if len(unknown) > 1 else ""
        raise DataError(
            f"{name}: class {label!r} ({count} documents, first {shard.value('id', row)}){more} does not occur in "
            f"training; training has {', '.join(names[:20])}{', ...' if len(names) > 20 else ''}"
        )
    numbers = np.array([ids.get(label, -1) if label is not None else -1 for label in labels], np.int64)
    return Dataset(name, shard, np.arange(len(shard)), numbers, names)


def choose_examples(dataset: Dataset, wanted: int | float, seed: int, setting: str = "data.train_examples") -> Dataset:
    """A number of the documents, or a share of them, stratified by class and drawn at random by the seed.

    The draws of one seed are nested: those of a smaller number are among those of a larger one. Every class has at
    least one document. Raises `DataError` where there are fewer documents, or more classes, than that number; `setting`
    is what asks for it.
    """
    classes = int((np.bincount(dataset.labels, minlength=len(dataset.names)) > 0).sum())
    count = number_of_examples(wanted, len(dataset), classes, dataset.name, setting)
    random = seeding.generator(seed, "train examples")
    shuffled = random.permutation(len(dataset))
    tie = random.permutation(len(dataset.names))
    labels = dataset.labels[shuffled]
    # Documents stand in line: the first of each class, and then the k-th of n of a class at (k - 1/2) / n, which is
    # Sainte-Lague's apportionment. The first so many of the line have each class in its share, rounded.
    place = np.zeros(len(labels))
    for label in range(len(dataset.names)):
        members = np.flatnonzero(labels == label)
        place[members] = (np.arange(len(members)) + 0.5) / max(len(members), 1)
        place[members[:1]] = 0.0
    line = np.lexsort((tie[labels], place))
    return dataset.take(np.sort(shuffled[line[:count]]))


def number_of_examples(
    wanted: int | float, documents: int, classes: int, name: str = "train", setting: str = "data.train_examples"
) -> int:
    """How many of the documents are used; `DataError` where there are too few of them, or too many classes."""
    count = wanted if isinstance(wanted, int) else int(documents * wanted + 0.5)
    if count > documents:
        raise DataError(
            f"{setting}: {wanted}, but {name} has {documents:,} documents; give {documents} or less, or leave "
            f"it out to use all"
        )
    if count < classes:
        share = "" if isinstance(wanted, int) else f" of {documents:,} documents, which is {count}"
        raise DataError(
            f"{setting}: {wanted}{share}, but {name} has {classes} classes; give {classes} or more, one for each class"
        )
    return count


def hold_out(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Split into a larger and a held-out part: stratified by class, equal groups on one side.

    Every class keeps at least one document in training. Raises `DataError` when nothing could be held out.
    """
    random = seeding.generator(seed, "hold-out")
    held = (_held_groups if dataset.shard.has("group") else _held_places)(dataset, fraction, random)
    if not len(held):
        raise DataError(
            f"{dataset.name}: {len(dataset)} documents are too few to hold out {100 * fraction:g} % for validation "
            f"(or the groups are too large); give --validation FILE or a larger --validation-fraction"
        )
    mask = np.zeros(len(dataset), bool)
    mask[held] = True
    return dataset.take(np.flatnonzero(~mask)), dataset.take(np.flatnonzero(mask), "validation")


def _held_places(dataset: Dataset, fraction: float, random: np.random.Generator) -> Places:
    """The share of each class, rounded, at random."""
    order = np.arange(len(dataset))
    random.shuffle(order)
    held = []
    for label in range(len(dataset.names)):
        members = order[dataset.labels[order] == label]
        held.append(members[: min(int(len(members) * fraction + 0.5), max(len(members) - 1, 0))])
    return np.concatenate(held)


def _held_groups(dataset: Dataset, fraction: float, random: np.random.Generator) -> Places:
    """Whole groups at random, as long as no class exceeds its share and none disappears from training."""
    members = list(dataset.groups().values())
    random.shuffle(members)
    size = len(dataset.names)
    left = np.bincount(dataset.labels, minlength=size)
    wanted = left * fraction + 0.5
    taken = np.zeros(size)
    held: list[int] = []
    # Large groups first: small ones then fill what is missing of each class.
    for places in sorted(members, key=len, reverse=True):
        counts = np.bincount(dataset.labels[places], minlength=size)
        here = counts > 0
        if np.all((taken + counts)[here] <= wanted[here]) and np.all((left - counts)[here] >= 1):
            held += places
            taken += counts
            left -= counts
    return np.array(held, np.int64)
