from __future__ import annotations

import itertools

import pytest

from doctune.settings import ScheduleSettings
from doctune.training.schedule import make_schedule


@pytest.mark.parametrize("name", ["slanted-triangular", "constant", "cosine"])
@pytest.mark.parametrize("total", [1, 2, 10, 997])
def test_no_step_is_wasted_and_nothing_jumps(name: str, total: int) -> None:
    factor = make_schedule(ScheduleSettings(schedule=name, warmup=0.1), total)
    values = [factor(step) for step in range(total)]
    assert all(0 < value <= 1 for value in values)
    assert max(values) == 1
    peak = values.index(1)
    assert values[:peak] == sorted(values[:peak])
    assert values[peak:] == sorted(values[peak:], reverse=True)
    longest = max((abs(a - b) for a, b in itertools.pairwise(values)), default=0)
    assert total < 100 or longest < 0.02


def test_the_originals_drop_and_go_below_zero() -> None:
    factor = make_schedule(ScheduleSettings(schedule="warmup-linear", warmup=0.1), 100)
    assert factor(0) == 0
    assert factor(9) == pytest.approx(0.9)
    assert factor(10) == pytest.approx(0.9)
    assert factor(101) < 0
    assert make_schedule(ScheduleSettings(schedule="warmup-linear", warmup=0.2), 100)(20) == pytest.approx(0.8)


def test_no_warmup() -> None:
    factor = make_schedule(ScheduleSettings(warmup=0.0), 4)
    assert [factor(step) for step in range(4)] == [1.0, 0.75, 0.5, 0.25]
