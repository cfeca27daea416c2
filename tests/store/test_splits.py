"""Classes, data sets and the hold-out split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from doctune.errors import DataError
from doctune.store.shards import Shard
from doctune.store.splits import Dataset, choose_examples, hold_out, make_dataset, unseen_line
from doctune.targets import SingleTarget, TargetSettings

ShardOf = Callable[..., Shard]


def dataset(shard: Shard) -> Dataset:
    return make_dataset("train", shard, TargetSettings().bind(shard.column("label")))


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("sizes", [(40, 40), (90, 10, 30), (7, 200)])
def test_hold_out_is_stratified(shard_of: ShardOf, sizes: tuple[int, ...], fraction: float) -> None:
    whole = dataset(shard_of([str(c) for c, size in enumerate(sizes) for _ in range(size)]))
    train, held = hold_out(whole, fraction, 42)
    assert sorted([*train.rows.tolist(), *held.rows.tolist()]) == list(range(len(whole)))
    for name, size in zip(whole.names, sizes, strict=True):
        assert abs(held.per_class()[name] - size * fraction) <= 1
        assert train.per_class()[name] >= 1
    assert (train.name, held.name) == ("train", "validation")
    assert [train.names[label] for label in train.labels] == list(train.shard.values("label", train.rows))


def test_groups_stay_on_one_side(shard_of: ShardOf) -> None:
    random = np.random.default_rng(3)
    groups = [f"g{n}" for n in random.integers(0, 30, 300)]
    labels = [str(n) for n in random.integers(0, 2, 300)]
    train, held = hold_out(dataset(shard_of(labels, groups)), 0.2, 1)
    sides = [{groups[row] for row in part.rows} for part in (train, held)]
    assert not sides[0] & sides[1]
    assert 0.1 < len(held) / 300 < 0.3


def test_documents_without_a_group_are_each_their_own(shard_of: ShardOf) -> None:
    groups = ["one"] * 10 + [None] * 90
    train, held = hold_out(dataset(shard_of(["0", "1"] * 50, groups)), 0.3, 0)
    assert abs(len(held) - 30) <= 2
    assert len({row < 10 for row in held.rows if row < 10} | {row < 10 for row in train.rows if row < 10}) == 1
    assert set(range(10)) <= set(train.rows.tolist()) or set(range(10)) <= set(held.rows.tolist())


def test_groups_of_one_are_no_groups(shard_of: ShardOf) -> None:
    """The fast way, taken where nothing is grouped, holds out what the other one would."""
    labels = [str(i % 3 % 2) for i in range(200)]
    plain = hold_out(dataset(shard_of(labels)), 0.13, 7)[1]
    single = hold_out(dataset(shard_of(labels, [f"g{i}" for i in range(200)])), 0.13, 7)[1]
    assert plain.rows.tolist() == single.rows.tolist()


def test_the_seed_alone_decides(shard_of: ShardOf) -> None:
    whole = dataset(shard_of(["0", "1"] * 40))
    first, again, other = (hold_out(whole, 0.2, seed)[1].rows.tolist() for seed in (5, 5, 6))
    assert first == again
    assert first != other


def test_every_class_keeps_training_documents(shard_of: ShardOf) -> None:
    whole = dataset(shard_of(["a"] * 50 + ["rare"] + ["pair"] * 2))
    for seed in range(5):
        train, _ = hold_out(whole, 0.9, seed)
        assert min(train.per_class().values()) >= 1


def test_too_few_documents(shard_of: ShardOf) -> None:
    with pytest.raises(DataError, match=r"4 documents are too few to hold out 10 % .*--validation FILE"):
        hold_out(dataset(shard_of(["0", "1"] * 2)), 0.1, 0)
    with pytest.raises(DataError, match="the groups are too large"):
        hold_out(dataset(shard_of(["0", "1"] * 20, ["one"] * 40)), 0.1, 0)


@pytest.mark.parametrize("sizes", [(400, 400), (700, 70, 30), (500, 1, 3, 296)])
def test_few_examples_are_stratified_and_nested(shard_of: ShardOf, sizes: tuple[int, ...]) -> None:
    whole = dataset(shard_of([str(c) for c, size in enumerate(sizes) for _ in range(size)]))
    rows: set[int] = set()
    for count in (len(sizes), 10, 57, 200, len(whole)):
        chosen = choose_examples(whole, count, 42)
        assert len(chosen) == count
        assert rows <= set(chosen.rows.tolist())
        rows = set(chosen.rows.tolist())
        for name, size in zip(whole.names, sizes, strict=True):
            # Each class has its share, to one document, and one for each class that is too rare for that.
            assert abs(chosen.per_class()[name] - count * size / len(whole)) <= 1 + len(sizes) / 2
            assert chosen.per_class()[name] >= 1
    assert rows == set(range(len(whole)))


def test_equal_classes_have_equally_many_of_the_few(shard_of: ShardOf) -> None:
    whole = dataset(shard_of(["a", "b", "c", "d"] * 30))
    assert set(choose_examples(whole, 20, 1).per_class().values()) == {5}
    odd = [choose_examples(whole, 5, seed).per_class() for seed in range(20)]
    assert len({max(counts, key=lambda name: counts[name]) for counts in odd}) > 1  # not always the first class


def test_the_seed_alone_draws_the_few(shard_of: ShardOf) -> None:
    whole = dataset(shard_of(["0", "1"] * 60))
    first, again, other = (choose_examples(whole, 12, seed).rows.tolist() for seed in (5, 5, 6))
    assert first == again == sorted(first)
    assert first != other
    assert choose_examples(whole, 0.1, 5).rows.tolist() == first


def test_too_few_of_the_few_or_too_many(shard_of: ShardOf) -> None:
    whole = dataset(shard_of(["a", "b", "c"] * 5))
    assert choose_examples(whole, 3, 0).per_class() == {"a": 1, "b": 1, "c": 1}
    with pytest.raises(DataError, match=r"data\.train_examples: 2, but train has 3 classes; give 3 or more"):
        choose_examples(whole, 2, 0)
    with pytest.raises(DataError, match=r"data\.train_examples: 0\.1 of 15 documents, which is 2, but train has 3"):
        choose_examples(whole, 0.1, 0)
    with pytest.raises(DataError, match=r"data\.train_examples: 16, but train has 15 documents"):
        choose_examples(whole, 16, 0)


@pytest.mark.parametrize("split", ["validation", "test"])
def test_an_unknown_class_names_class_and_document(shard_of: ShardOf, split: str) -> None:
    shard = shard_of(["a", "b", "c", "c", "z"])
    with pytest.raises(
        DataError, match=rf"^{split}: class 'c' \(2 documents, first d2\) and 1 more classes .*training has a, b"
    ):
        make_dataset(split, shard, SingleTarget(("a", "b")))
    unlabelled = make_dataset(split, shard, SingleTarget(("a", "b")), labelled=False)
    assert unlabelled.labels.tolist() == [0, 1, -1, -1, -1]


def test_unseen_classes_are_counted_where_that_is_asked_for(shard_of: ShardOf) -> None:
    shard = shard_of(["a", "b", "c", "c", "z"])
    with pytest.raises(DataError, match=r"give --unseen-labels count$"):
        make_dataset("test", shard, SingleTarget(("a", "b")))
    counted = make_dataset("test", shard, SingleTarget(("a", "b")), unseen_labels="count")
    assert counted.unseen() == {"c": 2, "z": 1}
    assert counted.label_texts() == ["a", "b", "c", "c", "z"]
    assert counted.per_class() == {"a": 1, "b": 1}
    assert unseen_line("test", counted.unseen()) == (
        "test: 3 documents of classes that training lacks ('c', 'z') count as errors"
    )
    assert counted.take(np.array([0, 4])).unseen() == {"z": 1}
    with pytest.raises(DataError, match=r"^test: none of 3 documents is of a class that training has; .* x, y$"):
        make_dataset("test", shard_of(["a", "b", "c"]), SingleTarget(("x", "y")), unseen_labels="count")


def test_the_few_keep_their_share_of_unseen_documents(shard_of: ShardOf) -> None:
    shard = shard_of(["a"] * 40 + ["b"] * 40 + ["unseen"] * 20)
    whole = make_dataset("test", shard, SingleTarget(("a", "b")), unseen_labels="count")
    few = choose_examples(whole, 10, 3)
    assert (few.per_class(), few.unseen().total()) == ({"a": 4, "b": 4}, 2)


def test_taking_documents(shard_of: ShardOf) -> None:
    whole = dataset(shard_of(["a", "b", "a", "b", "a"]))
    part = whole.take(np.array([4, 1]), "part")
    assert (part.name, part.ids(), part.labels.tolist(), len(part)) == ("part", ["d4", "d1"], [0, 1], 2)
    assert part.ids(np.array([1])) == ["d1"]
    assert part.per_class() == {"a": 1, "b": 1}
    assert part.lengths().tolist() == whole.lengths()[[4, 1]].tolist()


def test_every_class_keeps_training_documents_also_where_groups_stay_together(shard_of: ShardOf) -> None:
    """A rare class whose documents are all of one group stays in training, however much is held out."""
    labels = ["a", "b"] * 30 + ["rare"] * 3 + ["pair"] * 2
    groups = [f"g{i // 4}" for i in range(60)] + ["one"] * 3 + ["x", "y"]
    whole = dataset(shard_of(labels, groups))
    for fraction in (0.3, 0.6, 0.9):
        for seed in range(4):
            train, held = hold_out(whole, fraction, seed)
            assert min(train.per_class().values()) >= 1
            assert train.per_class()["rare"] == 3
            assert len(train) + len(held) == len(whole)
