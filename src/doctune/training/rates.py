"""Learning rates as a user sees them: the default of an encoder, and the table of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Sensible peak rates by hidden size, from the runs in RESULTS.md: small encoders want more.
RATES_BY_HIDDEN_SIZE = ((768, 2e-5), (512, 5e-5), (320, 1e-4), (0, 5e-4))
# Of a BiLSTM on an encoder that stands still, which is new, and harms no weights that were trained before.
BILSTM_RATE = 1e-3


def default_learning_rate(hidden_size: int, on_fixed_states: bool = False) -> float:
    """The peak learning rate for an encoder of this width, or for a BiLSTM on one that stands still."""
    if on_fixed_states:
        return BILSTM_RATE
    return next(rate for least, rate in RATES_BY_HIDDEN_SIZE if hidden_size >= least)


@dataclass(frozen=True, slots=True)
class RateRow:
    """One line of the learning-rate table."""

    part: str
    learning_rate: float
    parameters: int


def rate_table(rates: Sequence[RateRow]) -> str:
    """The learning rates as lines of text, from the head down to the embeddings."""
    lines = [f"{'part':<20} {'peak rate':<12} {'parameters':>12}"]
    lines += [f"{row.part:<20} {row.learning_rate:<12.4g} {row.parameters:>12,}" for row in rates]
    return "\n".join(lines) + "\n"
