"""The confusion matrix, and the confusions that happen most often."""

from __future__ import annotations

from typing import Any, NamedTuple

from doctune.evaluation.schema import Report, judged
from doctune.metrics.single import MetricsJson
from doctune.report.charts import confusion_matrix
from doctune.report.numbers import known
from doctune.report.page import Section

CONFUSED_PAIRS = 8

HTML = """
<div class="scroll" tabindex="0" role="region" aria-labelledby="confusion">{{ matrix }}</div>
{% if pairs %}
<ul class="sentences" aria-label="Most frequent confusions">
{% for pair in pairs %}
<li>“<bdi>{{ pair.true }}</bdi>” was taken for “<bdi>{{ pair.answer }}</bdi>” {% if pair.times == 1 %}once{% else %}{{ pair.times | whole }} times{% endif %}, {{ pair.share | percent }} of its documents.</li>
{% endfor %}
</ul>
{% else %}
<p class="note">No document was confused.</p>
{% endif %}
"""


class Pair(NamedTuple):
    """How often documents of one class were taken for another; `share` 0..1 of the true class."""

    true: str
    answer: str
    times: int
    share: float


def values(report: Report) -> dict[str, Any] | None:
    """Nothing where a report does not hold the whole matrix."""
    metrics = judged(report)[1]
    names, matrix = [row["name"] for row in metrics["per_class"]], metrics["confusion"]
    whole = len(matrix) == len(names) and all(len(row) == len(names) and all(map(known, row)) for row in matrix)
    return {"matrix": confusion_matrix(names, matrix), "pairs": _pairs(metrics)} if names and whole else None


def _pairs(metrics: MetricsJson) -> list[Pair]:
    rows = metrics["per_class"]
    pairs = [
        Pair(rows[i]["name"], rows[j]["name"], count, count / sum(row))
        for i, row in enumerate(metrics["confusion"])
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: (-pair.times, -pair.share))[:CONFUSED_PAIRS]


SECTION = Section(
    name="confusion", place=60, title=lambda report: f"Confusion matrix, {judged(report)[0]} set", html=HTML,
    values=values,
)  # fmt: skip
