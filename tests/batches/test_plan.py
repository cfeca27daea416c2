"""Which documents make a batch."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt
import pytest

from doctune import seeding
from doctune.batches.plan import Places, Plan, epoch_plan, sorted_plan

Lengths = npt.NDArray[np.int64]
BATCH, BUDGET = 25, 1325


@pytest.fixture(params=[1, 7, 100])
def lengths(request: pytest.FixtureRequest) -> Lengths:
    return np.random.default_rng(request.param).integers(3, 60, request.param).astype(np.int64)


def flat(plan: Iterable[Places]) -> list[int]:
    return [int(place) for places in plan for place in places]


def naive(order: list[int], lengths: list[int], budget: int) -> Iterator[list[int]]:
    """Document by document into the batch, until one does not fit."""
    batch: list[int] = []
    for place in order:
        if batch and sum(lengths[other] for other in batch) + lengths[place] > budget:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def drifting(number: int) -> Lengths:
    """Lengths of documents that come sorted, as those of sources behind one another may."""
    drawn = np.random.default_rng(5).lognormal(np.log(53) - 0.18, 0.6, number)
    return np.sort(np.clip(drawn, 3, 512).astype(np.int64))


@pytest.mark.parametrize("budget", [None, 1, 64, 10_000])
def test_every_document_once(lengths: Lengths, budget: int | None) -> None:
    plan = epoch_plan(lengths, 42, 0, 8, budget)
    assert sorted(flat(plan)) == list(range(len(lengths)))
    assert all(len(places) for places in plan)


@pytest.mark.parametrize("budget", [None, 100])
def test_seed_and_epoch_alone_decide(budget: int | None) -> None:
    lengths = np.random.default_rng(0).integers(3, 60, 80).astype(np.int64)

    def plan(seed: int, epoch: int) -> list[list[int]]:
        return [places.tolist() for places in epoch_plan(lengths, seed, epoch, 8, budget)]

    first = plan(1, 2)
    np.random.seed(5)
    assert plan(1, 2) == first
    assert len({tuple(flat(epoch_plan(lengths, *at, 8, budget))) for at in ((1, 2), (1, 3), (2, 2), (2, 1))}) == 4


def test_sizes_by_count() -> None:
    plan = epoch_plan(np.full(25, 9), 0, 0, 8)
    assert [len(places) for places in plan] == [8, 8, 8, 1]
    assert [len(places) for places in epoch_plan(np.full(3, 9), 0, 0, 8)] == [3]


@pytest.mark.parametrize("budget", [20, 64, 200])
def test_the_token_budget(budget: int) -> None:
    lengths = np.random.default_rng(1).integers(3, 60, 200).astype(np.int64)
    for plan in (epoch_plan(lengths, 3, 1, 8, budget), sorted_plan(lengths, budget)):
        for places, following in zip(plan, [*plan[1:], None], strict=True):
            used = int(lengths[places].sum())
            assert used <= budget or len(places) == 1
            if following is not None:
                assert used + lengths[following[0]] > budget  # it would have fitted otherwise
    assert any(len(places) == 1 and lengths[places[0]] > 20 for places in sorted_plan(lengths, 20))


def test_the_sorted_plan_begins_with_the_longest(lengths: Lengths) -> None:
    plan = sorted_plan(lengths, 128)
    assert sorted(flat(plan)) == list(range(len(lengths)))
    ordered = lengths[flat(plan)]
    assert (np.diff(ordered) <= 0).all()


def test_no_documents_no_batches() -> None:
    none = np.zeros(0, np.int64)
    for plan in (epoch_plan(none, 0, 0, 8), epoch_plan(none, 0, 0, 8, 64), sorted_plan(none, 64)):
        assert (list(plan), len(plan), plan.num_documents) == ([], 0, 0)


@pytest.mark.parametrize("seed", range(30))
def test_the_same_batches_as_a_naive_plan(seed: int) -> None:
    """Also with documents of no tokens, longer than the budget, all alike, or a single one."""
    random = np.random.default_rng(seed)
    number, budget, size = (int(random.integers(1, most)) for most in (120, 300, 20))
    low = int(random.integers(0, 40))
    lengths = random.integers(low, low + random.integers(1, 200), number).astype(np.int64)
    order = seeding.generator(seed, "order", 2).permutation(number).tolist()

    counted = [order[start : start + size] for start in range(0, number, size)]
    assert [places.tolist() for places in epoch_plan(lengths, seed, 2, size)] == counted
    cut = [places.tolist() for places in epoch_plan(lengths, seed, 2, size, budget)]
    assert cut == list(naive(order, lengths.tolist(), budget))
    longest_first = np.argsort(-lengths, kind="stable").tolist()
    ordered = [places.tolist() for places in sorted_plan(lengths, budget)]
    assert ordered == list(naive(longest_first, lengths.tolist(), budget))


@pytest.mark.parametrize("budget", [None, 100])
def test_a_plan_is_a_sequence_of_views(budget: int | None) -> None:
    plan = epoch_plan(drifting(90), 0, 0, 8, budget)
    batches = [places.tolist() for places in plan]
    assert len(plan) == len(batches) > 5
    assert [plan[-1].tolist(), plan[2].tolist()] == [batches[-1], batches[2]]
    for cut in (slice(1, 4), slice(3, None), slice(-2, None), slice(0, 99), slice(4, 2), slice(50, 60)):
        part = plan[cut]
        assert isinstance(part, Plan)
        assert [places.tolist() for places in part] == batches[cut]
        assert part.num_documents == sum(map(len, batches[cut]))
    assert all(np.shares_memory(places, plan.order) for places in plan)
    with pytest.raises(IndexError):
        plan[len(plan)]
    with pytest.raises(ValueError, match="runs of batches"):
        plan[::2]


@pytest.mark.parametrize("budget", [None, BUDGET])
def test_lengths_of_neighbouring_batches_are_not_correlated(budget: int | None) -> None:
    lengths = drifting(200_000)
    plan = epoch_plan(lengths, 0, 0, BATCH, budget)
    means = np.array([lengths[places].mean() for places in plan[:-1]])
    assert len(means) > 7000
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.05  # by chance: 0.011


@pytest.mark.parametrize("budget", [None, BUDGET])
def test_a_plan_makes_no_object_for_each_batch(budget: int | None) -> None:
    lengths = drifting(100_000)
    epoch_plan(lengths[:100], 0, 0, BATCH, budget)  # what is made once only
    tracemalloc.start()
    try:
        plan = epoch_plan(lengths, 0, 0, BATCH, budget)
        _, peak = tracemalloc.get_traced_memory()
        blocks = len(tracemalloc.take_snapshot().traces)
    finally:
        tracemalloc.stop()
    assert len(plan) > 3900
    assert blocks < 100
    assert peak < 2.5 * lengths.nbytes  # the order, and the sums of the lengths in that order
