"""The wrong answers that the model was surest of."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.schema import Report
from doctune.report.charts import window_bars
from doctune.report.lines import passage
from doctune.report.page import Section

HTML = """
<p class="note">Wrong answers that the model was surest of. Some may be wrong labels: worth a look.{% if report.windows is defined %} The bars are explained below.{% endif %}</p>
<ol class="errors">
{% for error in hardest %}
<li><div class="verdict">labelled <b dir="auto">{{ error.label }}</b>, answered <b class="bad" dir="auto">{{ error.prediction }}</b> with probability {{ error.probability | fixed(3) }} · document {{ error.id }}</div><p dir="auto">{{ error.text }}</p>{{ error.bars }}</li>
{% endfor %}
</ol>
"""


def values(report: Report) -> dict[str, Any] | None:
    """Nothing where there was no error."""
    hardest = [
        {**error, "text": passage(error["text"]), "bars": window_bars(error.get("windows", []))}
        for error in report["hardest"]
    ]
    return {"hardest": hardest} if hardest else None


SECTION = Section(name="errors", place=70, title="Most confident errors", html=HTML, values=values)
