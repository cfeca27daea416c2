"""Losses, accuracies and the learning rate over tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from doctune.report.charts import Series, learning_curve
from doctune.report.numbers import known, short_count
from doctune.report.page import Section
from doctune.report.pretraining import PretrainingReport

HTML = """
{{ ui.in_two(curves) }}
<p class="note">Over tokens. Training losses are of single steps, or of means where there are many; the measurements are of the same held-out sequences with the same masks each time{% if report.facts.held_out %}, and the dotted line is where the kept weights are from{% endif %}.</p>
"""


def values(report: PretrainingReport) -> dict[str, Any] | None:
    """The charts that have points."""
    curves = [chart for chart in _curves(report) if chart]
    return {"curves": curves} if curves else None


def _curves(report: PretrainingReport) -> list[Markup]:
    steps, evaluations = report["steps"], report["evaluations"]
    kept = [one.get("tokens") for one in evaluations if one.get("step") == report["facts"]["kept_step"]]
    best = kept[0] if kept and known(kept[0]) and report["facts"]["held_out"] else None

    def line(name: str, kind: str, records: Sequence[dict[str, Any]], key: str, scale: float = 1.0) -> Series:
        points = [
            (one["tokens"], scale * one[key]) for one in records if known(one.get(key)) and known(one.get("tokens"))
        ]
        return Series(name, points, kind)

    def chart(title: str, say: Callable[[float], str], *lines: Series, limit: float = float("inf")) -> Markup:
        drawn = [one for one in lines if one.points]
        marked = best if any(one.kind == "main" for one in drawn) else None
        return learning_curve(title, drawn, marked, say, limit, "tokens", short_count)

    words = "mlm" if any("mlm" in record for record in steps) else "loss"
    peak = report["facts"]["settings"]["optimizer"]["learning_rate"]
    rate = line(f"learning rate, of its peak {peak:g}", "other", steps, "learning_rate", 100.0 / peak)
    return [
        chart("Loss on masked words", _three, line("training", "other", steps, words),
              line("held-out masked words", "main", evaluations, "mlm_loss")),
        chart("Held-out masked words found", _percent,
              line("masked words found", "main", evaluations, "mlm_accuracy", 100.0), limit=100.0),
        chart("Loss on sentence pairs", _three, line("training", "other", steps, "pair"),
              line("held-out pairs", "main", evaluations, "pair_loss")),
        chart("Held-out sentence pairs told", _percent,
              line("pairs told", "main", evaluations, "pair_accuracy", 100.0), limit=100.0),
        chart("Learning rate", _percent, *([rate] if len(rate.points) > 1 else []), limit=100.0),
    ]  # fmt: skip


def _three(value: float) -> str:
    return f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{value:.4g} %"


SECTION = Section(name="curves", place=40, title="Curves", html=HTML, values=values)
