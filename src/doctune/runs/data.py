"""From settings to tokenised data sets: what every command does before a model runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from doctune.distributed import World
from doctune.errors import DataError
from doctune.examples import Example
from doctune.files import write_json
from doctune.readers import Source
from doctune.runs.identity import documents_parts, key_of
from doctune.settings import DataSettings, FinetuneSettings
from doctune.store.build import Built, build_shard, cached_shard
from doctune.store.shards import Shard
from doctune.store.splits import Dataset, choose_examples, hold_out, make_dataset, unseen_line
from doctune.targets import Target, TargetSettings
from doctune.text.tokenizer import TextTokenizer

GIVEN = "given"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The data of one seed.

    `left_out_empty` counts documents without text, by split. `chosen_from` is the number of the training documents of
    which the few were chosen that `--train-examples` asks for, or None where all are used; `test_chosen_from` the same
    of the test documents.
    """

    train: Dataset
    validation: Dataset
    test: Dataset | None
    left_out_empty: dict[str, int]
    validation_from: str
    title: str
    chosen_from: int | None = None
    test_chosen_from: int | None = None

    @property
    def target(self) -> Target:
        """What an answer is."""
        return self.train.target

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, in the order of the columns of probabilities."""
        return self.train.names

    @property
    def judged(self) -> Dataset:
        """What the figures are of: the test set, or validation where there is none."""
        return self.validation if self.test is None else self.test

    def parts(self) -> dict[str, Dataset]:
        """The data sets by name, those that there are."""
        parts = {"train": self.train, "validation": self.validation}
        return parts if self.test is None else {**parts, "test": self.test}


@dataclass(frozen=True, slots=True)
class Documents:
    """What was read, by split, tokenised; `left_out_empty` counts documents without text, `title` names them."""

    sets: dict[str, Dataset]
    left_out_empty: dict[str, int]
    title: str


def read(
    data: DataSettings, target: TargetSettings, found: dict[str, Source], tokenizer: TextTokenizer, folder: Path,
    world: World | None = None,
) -> Documents:  # fmt: skip
    """Read and tokenise the sources that were `found` into shards below `folder`, or into the cache of the settings.

    What is there of the same documents, read in the same way and by the same tokenizer, is neither read nor tokenised
    again. Of several processes the first does that, and the others open its shards. Raises `DataError` for anything
    wrong with a file or its labels, or for one that changes while it is read.
    """
    title, place = data_title(data), folder if data.cache is None else Path(data.cache).expanduser()

    def build() -> Record:
        key = documents_key(data, found, tokenizer)
        note = place / f"documents-{key}.json"
        record = _recorded(note)
        if record is None:
            built = {split: _build(source, tokenizer, data, place, split) for split, source in found.items()}
            if documents_key(data, found, tokenizer) != key:
                names = ", ".join(source.name for source in found.values())
                raise DataError(f"{names}: changed while the documents were read; run again")
            record = {split: (one.shard.path.name, one.left_out_empty) for split, one in built.items()}
            write_json(note, record)
        return {split: (str(place / name), empty) for split, (name, empty) in record.items()}

    made = (world or World.single()).broadcast_from_rank0(build)
    built = {split: Built(Shard(Path(path)), empty) for split, (path, empty) in made.items()}
    bound = target.bind(built["train"].shard.column("label"), found["train"].labels)
    sets = {
        split: make_dataset(split, b.shard, bound, unseen_labels=target.unseen_labels) for split, b in built.items()
    }
    empty = {split: b.left_out_empty for split, b in built.items() if b.left_out_empty}
    for split, count in empty.items():
        print(f"{split}: left out {count:,} empty document{'s' if count > 1 else ''}", file=sys.stderr)
    for split, dataset in sets.items():
        if unseen := dataset.unseen():
            print(unseen_line(split, unseen), file=sys.stderr)
    return Documents(sets, empty, title)


def documents_key(data: DataSettings, found: dict[str, Source], tokenizer: TextTokenizer) -> str:
    """What tokenised documents are known by: their content, how they are read, and what is in their names."""
    names = {split: Path(source.name).name for split, source in found.items()}
    return key_of(documents_parts(data, found), names, tokenizer.hash)


# The name of each split's shard, and how many documents without text were left out of it.
Record = dict[str, tuple[str, int]]


def _recorded(note: Path) -> Record | None:
    """What an earlier start tokenised, if all of it is still there."""
    try:
        record: Record = {split: (name, empty) for split, (name, empty) in json.loads(note.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return record if all((note.parent / name).is_file() for name, _ in record.values()) else None


def split(settings: FinetuneSettings, documents: Documents, seed: int) -> Prepared:
    """The data of the run with `seed`.

    Without validation documents a part of train is held out: of all of it the same part for every seed, so that their
    figures compare; of the few that `train_examples` asks for, which each seed draws anew, a part of those few,
    because a user who has no more labels could hold out no others.
    """
    data, whole = settings.data, documents.sets["train"]
    train, of_what = whole, "train"
    if data.train_examples is not None:
        train = choose_examples(whole, data.train_examples, seed)
        of_what = f"the {len(train):,} chosen documents"
    if "validation" in documents.sets:
        validation, how = documents.sets["validation"], GIVEN
    else:
        own = settings.training.seed if train is whole else seed
        train, validation = hold_out(train, data.validation_fraction, own)
        together = ", groups kept together" if train.shard.has("group") else ""
        how = f"held out, {100 * data.validation_fraction:g} % of {of_what}, stratified{together}"
    chosen_from = None if data.train_examples is None else len(whole)
    test, all_test = _few(documents.sets.get("test"), data.test_examples)
    return Prepared(train, validation, test, documents.left_out_empty, how, documents.title, chosen_from, all_test)


def _few(test: Dataset | None, wanted: int | None) -> tuple[Dataset | None, int | None]:
    """At most so many of the test documents, and of how many they were chosen; no seed changes the choice."""
    if test is None or wanted is None or wanted >= len(test):
        return test, None
    return choose_examples(test, wanted, 0, "data.test_examples"), len(test)


def _build(source: Source, tokenizer: TextTokenizer, data: DataSettings, folder: Path, split: str) -> Built:
    examples = _labelled(source.read(), source.name)
    if data.cache is not None:
        return cached_shard(examples, tokenizer, folder, split)
    return build_shard(examples, tokenizer, folder, split)


def _labelled(examples: Iterator[Example], name: str) -> Iterator[Example]:
    """Every example must have a label; names the first that has none."""
    for example in examples:
        if example.label is None:
            raise DataError(f"{name}: document {example.id} has no label")
        yield example


def data_title(data: DataSettings) -> str:
    """What reports call the data: the data set, or the training file without its compression."""
    if data.dataset is not None:
        return Path(data.dataset).name
    return Path(str(data.train)).name.removesuffix(".xz").removesuffix(".gz")
