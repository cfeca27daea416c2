"""Which documents make a batch."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from doctune.batches.plan import Places, epoch_plan, sorted_plan

Lengths = npt.NDArray[np.int64]


@pytest.fixture(params=[1, 7, 100])
def lengths(request: pytest.FixtureRequest) -> Lengths:
    return np.random.default_rng(request.param).integers(3, 60, request.param).astype(np.int64)


def flat(plan: list[Places]) -> list[int]:
    return [int(place) for places in plan for place in places]


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
    assert epoch_plan(none, 0, 0, 8) == epoch_plan(none, 0, 0, 8, 64) == sorted_plan(none, 64) == []
