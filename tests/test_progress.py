"""Progress where output goes to a file."""

from __future__ import annotations

import io

import pytest

from doctune.progress import Progress, duration


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("doctune.progress.time.monotonic", clock)
    return clock


def test_a_line_every_fifteen_seconds(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(1000, "train", "examples", stream) as progress:
        for step in range(100):
            clock.now += 1
            progress.advance(10, f"loss {1 - step / 100:.2f}")
    lines = stream.getvalue().splitlines()
    assert lines == [
        f"train: {10 * s}/1,000 examples ({s} %), 10.0 examples/s, {duration(100 - s)} left, loss {1.01 - s / 100:.2f}"
        for s in (15, 30, 45, 60, 75, 90)
    ]


def test_short_work_says_nothing(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(10, "train", "examples", stream) as progress:
        clock.now += 14.9
        progress.advance(10)
    assert stream.getvalue() == ""


def test_an_unknown_total(clock: Clock) -> None:
    stream = io.StringIO()
    with Progress(None, "tokenise train", "documents", stream) as progress:
        clock.now += 20
        progress.advance(3000)
    assert stream.getvalue() == "tokenise train: 3,000 documents, 150.0 documents/s\n"


def test_time_left_follows_the_rate(clock: Clock) -> None:
    progress = Progress(400, "train", "examples", io.StringIO())
    clock.now += 100
    progress.advance(100)
    assert progress.line() == "train: 100/400 examples (25 %), 1.0 examples/s, 5 min 0 s left"


def test_nothing_done_yet(clock: Clock) -> None:
    assert (
        Progress(400, "train", "examples", io.StringIO())
        .line()
        .startswith("train: 0/400 examples (0 %), 0.0 examples/s")
    )


def test_a_resumed_run_counts_from_where_it_was(clock: Clock) -> None:
    progress = Progress(400, "train", "examples", io.StringIO(), done=200)
    clock.now += 50
    progress.advance(100)
    assert progress.line() == "train: 300/400 examples (75 %), 2.0 examples/s, 50 s left"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (3600, "1 h 0 min"), (7505, "2 h 5 min")],
)
def test_durations(seconds: float, said: str) -> None:
    assert duration(seconds) == said
