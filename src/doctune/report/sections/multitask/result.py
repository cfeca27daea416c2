"""The mean error of the tasks, and what the joint training took."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.multitask import MultitaskReport
from doctune.report.numbers import duration, whole
from doctune.report.page import Section
from doctune.report.sections.multitask._rows import errors, means

HTML = """
<div>
<h2 id="result" class="what">{{ what | capitalize }}, mean of the tasks</h2>
<p class="big">{{ (joint if continued is none else continued) | fixed }} %</p>
<p class="what">{% if continued is none %}after the joint training{% else %}after the continuation of each task alone{% endif %}</p>
</div>
<dl class="figures">
{{ ui.figure("After joint training", joint | fixed + " %") }}
{{ ui.figure("Joint steps", report.steps | whole) }}
{{ ui.figure("Joint training", report.train_seconds | duration) }}
{{ ui.figure("Left out as test documents", left_out | whole) }}
</dl>
"""


def values(report: MultitaskReport) -> dict[str, Any]:
    """The figures of the headline."""
    joint, continued = means(report)
    left_out = sum(sum(task["left_out"].values()) for task in report["tasks"])
    return {"what": errors(report), "joint": joint, "continued": continued, "left_out": left_out}


def text(report: MultitaskReport) -> list[str]:
    """Steps, time, and what the figures below are."""
    time = duration(report["train_seconds"])
    return [f"{whole(report['steps'])} joint steps in {time}; {errors(report)} %", ""]


def markdown(report: MultitaskReport) -> list[str]:
    """What the figures below are."""
    return [f"Figures: {errors(report)} %.", ""]


SECTION = Section(name="result", place=10, html=HTML, style="headline", values=values, text=text, markdown=markdown)
