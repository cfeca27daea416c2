"""The peak learning rate of each part of the model."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.schema import Report
from doctune.report.numbers import DASH, known
from doctune.report.page import Section

HTML = """
{% call ui.table(["Part", {"num": "Learning rate"}, {"num": "Parameters"}], "") %}
{% for rate in rates %}
<tr><th scope="row">{{ rate.part }}</th><td class="num">{{ rate.peak }}</td><td class="num">{{ rate.parameters | whole }}</td></tr>
{% endfor %}
{% endcall %}
"""


def values(report: Report) -> dict[str, Any] | None:
    """Nothing where a report tells of none."""
    rates = [
        {**rate, "peak": f"{rate['learning_rate']:.2e}" if known(rate["learning_rate"]) else DASH}
        for rate in report["learning_rates"]
    ]
    return {"rates": rates} if rates else None


SECTION = Section(name="rates", place=90, title="Peak learning rates", html=HTML, values=values)
