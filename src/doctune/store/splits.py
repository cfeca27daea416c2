"""Data sets: rows of a shard with encoded labels, and the stratified hold-out split."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from doctune import seeding
from doctune.errors import DataError
from doctune.store.shards import Shard
from doctune.targets.base import Labels, Target, Unseen

Rows = npt.NDArray[np.int64]
Places = npt.NDArray[np.int64]
HOW_TO_COUNT = "to count such documents as errors, give --unseen-labels count"


@dataclass(frozen=True, slots=True)
class Dataset:
    """Some rows of a shard. `labels` [D, ...] are encoded by `target`, which is to be asked what they mean."""

    name: str
    shard: Shard
    rows: Rows
    labels: Labels
    target: Target

    def __len__(self) -> int:
        return len(self.rows)

    def ids(self, places: Rows | None = None) -> list[str]:
        """The ids of the documents, or of those at `places`."""
        rows = self.rows if places is None else self.rows[places]
        return list(self.shard.values("id", rows))

    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document's text and second text, [D, 2]."""
        return self.shard.lengths()[self.rows]

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, in the order of the columns of probabilities."""
        return self.target.names

    def label_texts(self, places: Rows | None = None) -> list[str | None]:
        """The labels of the documents, or of those at `places`, as the files have them; None where there is none."""
        rows = self.rows if places is None else self.rows[places]
        return list(self.shard.values("label", rows))

    def tokens(self, place: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32] | None]:
        """Token ids of the document at `place` and of its second text, if it has one; without special tokens."""
        return self.shard.tokens(int(self.rows[place]))

    def per_class(self) -> dict[str, int]:
        """Documents of each class."""
        return self.target.counts(self.labels)

    def unseen(self) -> Counter[str]:
        """How many documents have each of the labels that training lacks."""
        texts = self.label_texts(np.flatnonzero(~self.target.known(self.labels)))
        return Counter(text for text in texts if text is not None)

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


def make_dataset(
    name: str, shard: Shard, target: Target, labelled: bool = True, unseen_labels: Unseen = "error"
) -> Dataset:
    """All rows of a shard; `labelled`: each has a label.

    A label that training does not have is a `DataError`, unless such documents shall count as errors; but some must
    have a label that training has.
    """
    texts = shard.column("label")
    dataset = Dataset(name, shard, np.arange(len(shard)), target.encode(texts), target)
    unseen = dataset.unseen() if labelled else None
    if not unseen:
        return dataset
    text, count = unseen.most_common(1)[0]
    training = f"training has {', '.join(target.names[:20])}{', ...' if len(target.names) > 20 else ''}"
    if unseen_labels == "error":
        more = f" and {len(unseen) - 1} more classes" if len(unseen) > 1 else ""
        raise DataError(
            f"{name}: class {text!r} ({count} documents, first {shard.value('id', texts.index(text))}){more} does not "
            f"occur in training; {training}; {HOW_TO_COUNT}"
        )
    if unseen.total() == len(dataset):
        raise DataError(f"{name}: none of {len(dataset):,} documents is of a class that training has; {training}")
    return dataset


def unseen_line(name: str, unseen: Counter[str]) -> str:
    """What became of the documents of classes that training lacks, as a sentence without its end."""
    count, classes = unseen.total(), [repr(text) for text, _ in unseen.most_common(5)]
    one = count == 1
    shown = ", ".join(classes) + (f" and {len(unseen) - 5} more" if len(unseen) > 5 else "")
    return (
        f"{name}: {count:,} document{'' if one else 's'} of {'a class' if len(unseen) == 1 else 'classes'} that "
        f"training lacks ({shown}) {'counts as an error' if one else 'count as errors'}"
    )


def choose_examples(dataset: Dataset, wanted: int | float, seed: int, setting: str = "data.train_examples") -> Dataset:
    """A number of the documents, or a share of them, stratified by class and drawn at random by the seed.

    The draws of one seed are nested: those of a smaller number are among those of a larger one. Every class has at
    least one document. Raises `DataError` where there are fewer documents, or more classes, than that number; `setting`
    is what asks for it.
    """
    strata, size = dataset.target.strata(dataset.labels)
    classes = int((np.bincount(strata, minlength=size) > 0).sum())
    count = number_of_examples(wanted, len(dataset), classes, dataset.name, setting)
    random = seeding.generator(seed, "train examples")
    shuffled = random.permutation(len(dataset))
    tie = random.permutation(size)
    strata = strata[shuffled]
    # Documents stand in line: the first of each class, and then the k-th of n of a class at (k - 1/2) / n, which is
    # Sainte-Lague's apportionment. The first so many of the line have each class in its share, rounded.
    place = np.zeros(len(strata))
    for stratum in range(size):
        members = np.flatnonzero(strata == stratum)
        place[members] = (np.arange(len(members)) + 0.5) / max(len(members), 1)
        place[members[:1]] = 0.0
    line = np.lexsort((tie[strata], place))
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
    strata, size = dataset.target.strata(dataset.labels)
    order = np.arange(len(dataset))
    random.shuffle(order)
    held = []
    for stratum in range(size):
        members = order[strata[order] == stratum]
        held.append(members[: min(int(len(members) * fraction + 0.5), max(len(members) - 1, 0))])
    return np.concatenate(held)


def _held_groups(dataset: Dataset, fraction: float, random: np.random.Generator) -> Places:
    """Whole groups at random, as long as no class exceeds its share and none disappears from training."""
    members = list(dataset.groups().values())
    random.shuffle(members)
    strata, size = dataset.target.strata(dataset.labels)
    left = np.bincount(strata, minlength=size)
    wanted = left * fraction + 0.5
    taken = np.zeros(size)
    held: list[int] = []
    # Large groups first: small ones then fill what is missing of each class.
    for places in sorted(members, key=len, reverse=True):
        counts = np.bincount(strata[places], minlength=size)
        here = counts > 0
        if np.all((taken + counts)[here] <= wanted[here]) and np.all((left - counts)[here] >= 1):
            held += places
            taken += counts
            left -= counts
    return np.array(held, np.int64)
