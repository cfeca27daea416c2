"""How long a run goes on: in optimiser steps, tokens, or seconds of training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from doctune.training.state import TrainingState

# Seconds are counted in thousandths, so that a schedule over them rises smoothly.
_SCALE = {"step": 1, "tokens": 1, "seconds": 1000}


@dataclass(frozen=True, slots=True)
class Budget:
    """`total` of a unit, which is the name of a count in the state."""

    unit: Literal["step", "tokens", "seconds"]
    total: int

    @property
    def end(self) -> int:
        """The position at which the run is over; what a schedule runs over."""
        return self.total * _SCALE[self.unit]

    def position(self, state: TrainingState) -> int:
        """How far a run is."""
        return int(getattr(state, self.unit) * _SCALE[self.unit])

    def last_position(self, state: TrainingState, tokens: int) -> int:
        """The last position that belongs to the next step, which has so many tokens: what its rate goes by."""
        return self.position(state) + (tokens - 1 if self.unit == "tokens" else 0)

    def parts(self, count: int) -> tuple[int, ...]:
        """Positions that cut the budget into `count` equal parts; the last one is the end."""
        return tuple(max(self.end * (part + 1) // count, 1) for part in range(count))
