"""Did it help? The differences from the base encoder, with their intervals."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.comparison import Comparison
from doctune.report.charts import Gap, differences
from doctune.report.lines import escaped, wrapped
from doctune.report.page import Section
from doctune.report.sections.comparison._rows import labels, rows

VERDICTS = {"helped": "It helped", "hurt": "It hurt", "no difference": "No difference that these runs can tell"}

HTML = """
{% set heading = report.part | capitalize + " error, adapted minus base" %}
{% if one %}
{% set versus = one.against_base %}
<div>
<h2 id="answer" class="what">{{ heading }}</h2>
<p class="big">{{ versus.points | points }} <small>points</small></p>
<p class="what">95 % interval {{ versus.low | points }} to {{ versus.high | points }}</p>
</div>
<dl class="figures">
{{ ui.figure("Verdict", verdict) }}
{{ ui.figure("Error with the base encoder", report.base.error_percent.mean | fixed + " %") }}
{{ ui.figure("Error with " + one.name | truncate(32, true, "…"), one.error_percent.mean | fixed + " %") }}
{{ ui.figure("Cost of pre-training", cost) }}
</dl>
{% else %}
<h2 id="answer">{{ heading }}</h2>
<ul class="sentences">
{% for adapted in report.adapted %}
<li><b>{{ adapted.name }}</b>: {{ adapted.against_base.sentence | replace("->", "→") }}</li>
{% endfor %}
</ul>
{% endif %}
<div class="plot">{{ differences }}
<p class="note">The dot is the difference, the bar its 95 % interval by a paired bootstrap:
{% if report.seeds | length > 1 %}documents and seeds are drawn anew together, and what a seed gave to one encoder stays with what it gave to the other. So the bar answers for other documents and other seeds{% if report.data.train_examples is defined %}, and, as each seed draws its own labels, for other labels{% endif %}.
{% else %}documents are drawn anew. One seed says nothing of what another one would give.{% endif %}
A bar across zero: these runs cannot tell.</p></div>
{% if report.part == "validation" %}
<p class="note plot">There was no test set. The best epochs were chosen on these same validation documents, so on new documents all errors are likely to be somewhat higher.</p>
{% endif %}
"""


def _alone(report: Comparison) -> bool:
    return len(report["adapted"]) == 1


def values(report: Comparison) -> dict[str, Any]:
    """One adapted encoder has a headline, several have a sentence each."""
    gaps = [
        Gap(one["name"], one["against_base"]["points"], one["against_base"]["low"], one["against_base"]["high"])
        for one in report["adapted"]
    ]
    one = report["adapted"][0] if _alone(report) else None
    return {
        "one": one,
        "verdict": "" if one is None else VERDICTS.get(one["against_base"]["verdict"], one["against_base"]["verdict"]),
        "cost": rows(report)[1]["pretraining"] if one else "",
        "differences": differences(gaps, f"{report['part']} error"),
    }


def text(report: Comparison) -> list[str]:
    """What the figures rest on; the verdicts come after the table."""
    return [labels(report), ""]


def markdown(report: Comparison) -> list[str]:
    """A line for each adapted encoder."""
    return [f"- **{escaped(one['name'])}**: {one['against_base']['sentence']}" for one in report["adapted"]] + [""]


def sentences(report: Comparison) -> list[str]:
    """The same on the terminal."""
    lines = []
    for one in report["adapted"]:
        lines += wrapped(f"{one['name']}: {one['against_base']['sentence']}")
    return lines


SECTION = Section(
    name="answer", place=10, html=HTML, style=lambda report: "headline" if _alone(report) else "", values=values,
    text=text, markdown=markdown,
)  # fmt: skip
