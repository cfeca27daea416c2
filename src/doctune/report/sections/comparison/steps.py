"""Error against steps of pre-training, where several checkpoints tell theirs."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from doctune.evaluation.comparison import Adapted, Compared, Comparison
from doctune.report.charts import StepPoint, error_by_steps
from doctune.report.numbers import known
from doctune.report.page import Section
from doctune.report.sections.comparison._rows import how_intervals

HTML = """
<div class="plot">{{ plot }}
<p class="note">Bars: 95 % intervals of each encoder by itself, {{ how_intervals }}. They may overlap where the paired difference above is clear, because a difference between encoders is not touched by luck that both had.
{% if without_steps %}Not shown, because their folders do not tell their steps: {{ without_steps | join(", ") }}.{% endif %}</p></div>
"""


def steps_plot(report: Comparison) -> Markup:
    """Error against steps of pre-training, of the checkpoints that tell their steps; nothing for fewer than two."""
    adapted = [
        _step_point(one, steps, one["pretraining"]["corpus"]["name"] if one["pretraining"] else None)
        for one in report["adapted"]
        if (steps := _steps(one)) is not None
    ]
    base = _step_point(report["base"], 0, None)
    adapted = [point for point in adapted if all(map(known, point[2:5]))]
    if len(adapted) < 2 or not all(map(known, base[2:5])):
        return Markup("")
    return error_by_steps(base, adapted, f"{report['part']} error")


def _steps(one: Adapted) -> int | None:
    """The step whose weights these are."""
    facts = one["pretraining"]
    return None if facts is None else facts["steps"] if facts["kept_step"] is None else facts["kept_step"]


def _step_point(one: Compared, steps: int, corpus: str | None) -> StepPoint:
    low, high = one["interval_percent"][:2]
    return StepPoint(one["name"], steps, one["error_percent"]["mean"], low, high, corpus)


def values(report: Comparison) -> dict[str, Any] | None:
    """The plot, and the checkpoints that it cannot show."""
    plot = steps_plot(report)
    without = [one["name"] for one in report["adapted"] if _steps(one) is None]
    return {"plot": plot, "without_steps": without, "how_intervals": how_intervals(report)} if plot else None


SECTION = Section(
    name="steps", place=20, title=lambda report: f"{report['part'].capitalize()} error against steps of pre-training",
    html=HTML, values=values,
)  # fmt: skip
