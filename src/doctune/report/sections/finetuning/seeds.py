"""A row for each seed."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.schema import Report, judged
from doctune.report.page import Section

HTML = """
{% call ui.table(["Seed", {"num": part | capitalize + " error"}, {"num": "Validation accuracy"}, "Run", "Remark"]) %}
{% for run in seeds.runs %}
<tr><th scope="row">{{ run.seed | value }}</th><td class="num">{{ run.error_percent | fixed }} %</td><td class="num">{{ run.validation_accuracy | percent(2) }}</td><td><code>{{ run.dir }}</code></td><td class="remark">{% if run.collapsed %}<span class="bad">collapsed:</span> {{ run.collapsed }}{% endif %}</td></tr>
{% endfor %}
{% endcall %}
<p class="note">All that follows is of the run with seed {{ details_of | value }}, whose {{ part }} error is {{ shown.error_percent | fixed }} % (95 % interval for a test set of this size {{ shown.error_interval_percent[0] | fixed }} to {{ shown.error_interval_percent[1] | fixed }} %).</p>
"""


def values(report: Report) -> dict[str, Any] | None:
    """Nothing for a single run."""
    seeds = report.get("seeds")
    if not seeds:
        return None
    part, shown = judged(report)
    details = seeds.get("details_of", seeds["seeds"][0] if seeds["seeds"] else None)
    return {"seeds": seeds, "part": part, "shown": shown, "details_of": details}


SECTION = Section(name="seeds", place=20, title="Seeds", html=HTML, values=values)
