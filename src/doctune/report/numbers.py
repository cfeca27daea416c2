"""How numbers are written, on all pages and tables.

A number that is not known (None, or not finite) is a dash.
"""

from __future__ import annotations

import math
from typing import Any, TypeGuard

from doctune.evaluation.comparison import points as _points
from doctune.evaluation.intervals import SeedSummaryJson
from doctune.progress import duration as _duration

DASH = "–"
NOT_KNOWN = "not known"
Number = int | float


def known(value: Any) -> TypeGuard[Number]:
    """Whether there is a number to write."""
    return isinstance(value, (int, float)) and math.isfinite(value)


def fixed(value: Number | None, digits: int = 2) -> str:
    """A number with so many digits after the point."""
    return f"{value:,.{digits}f}" if known(value) else DASH


def percent(share: Number | None, digits: int = 1) -> str:
    """A share 0..1 in percent."""
    return f"{100 * share:.{digits}f} %" if known(share) else DASH


def whole(value: Number | None) -> str:
    """A count, with commas."""
    return f"{value:,}" if known(value) else DASH


def duration(seconds: Number | None) -> str:
    """A time in words: 1 min 30 s."""
    return _duration(seconds) if known(seconds) else DASH


def value(setting: str | int | float | bool | None) -> str:
    """A setting as a person writes it."""
    if setting is None or isinstance(setting, bool):
        return {None: DASH, True: "yes", False: "no"}[setting]
    if isinstance(setting, float):
        return f"{setting:.6g}" if known(setting) else DASH
    return str(setting).replace(" %", "\u00a0%")


def points(difference: Number | None) -> str:
    """A difference with its sign."""
    return _points(difference) if known(difference) else DASH


def signed(difference: Number | None) -> str:
    """The same with the minus that printed text has."""
    return points(difference).replace("-", "\u2212")


def interval(middle: Number | None, low: Number | None, high: Number | None) -> str:
    """A figure with its interval: 12.40 (11.80 to 13.00)."""
    return f"{fixed(middle)} ({fixed(low)} to {fixed(high)})"


def signed_interval(difference: Number | None, low: Number | None, high: Number | None) -> str:
    """A difference with its interval: -1.20 (-2.00 to -0.40)."""
    return f"{points(difference)} ({points(low)} to {points(high)})"


def half(summary: SeedSummaryJson) -> float | None:
    """Half the width of the interval of a mean; None where one seed has none."""
    return None if summary["low"] is None or summary["high"] is None else summary["high"] - summary["mean"]


def plus_minus(summary: SeedSummaryJson, digits: int, unit: str = "") -> str:
    """A mean over seeds with half its interval: 9.10 ± 0.42 %."""
    spread = half(summary)
    return f"{fixed(summary['mean'], digits)}{'' if spread is None else f' ± {fixed(spread, digits)}'}{unit}"


def short_count(count: float) -> str:
    """A number as an axis has room for: 800, 25k, 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return f"{count:g}"


FILTERS: dict[str, Any] = {
    "fixed": fixed, "percent": percent, "whole": whole, "duration": duration, "value": value, "points": signed,
}  # fmt: skip
"""The filters of the templates."""
