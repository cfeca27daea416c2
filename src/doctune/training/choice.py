"""Which of several results is the best: the one rule for epochs, for the tasks of a joint training, and for seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence


def best_of(scores: Sequence[float], ties: Sequence[float] | None = None) -> int:
    """The place of the highest score; of equal ones that with the highest of `ties`, and then the later one.

    More training that is not worse is kept. A score that is no number is worse than any other.
    """
    second = [0.0] * len(scores) if ties is None else ties
    return max(range(len(scores)), key=lambda place: (_number(scores[place]), _number(second[place]), place))


def is_gain(scores: Sequence[float]) -> bool:
    """Whether the last score is higher than all before it: an equal one is kept, but patience counts it as no gain."""
    return all(_number(scores[-1]) > _number(earlier) for earlier in scores[:-1])


def _number(score: float) -> float:
    return -math.inf if math.isnan(score) else score
