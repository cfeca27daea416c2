"""Precision, recall and F1 of each class."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.schema import Report, judged
from doctune.report.lines import clipped, columns, padded
from doctune.report.numbers import fixed, whole
from doctune.report.page import Section

ON_TERMINAL = 10  # classes; more are no table there
IN_ORDER = 14  # above, the page lists the weakest class first

HTML = """
<div class="scroll{% if weakest_first %} tall{% endif %}" tabindex="0" role="region" aria-labelledby="classes">
<table class="wide">
<thead><tr><th scope="col">Class</th><th scope="col" class="num">Precision</th><th scope="col" class="num">Recall</th><th scope="col" class="num">F1</th><td class="bars"></td><th scope="col" class="num">Documents</th><th scope="col" class="num">Predicted</th><th scope="col" class="num">In train</th></tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row" dir="auto">{{ row.name }}</th><td class="num">{{ row.precision | fixed(3) }}</td><td class="num">{{ row.recall | fixed(3) }}</td><td class="num{% if not row.f1 and (row.support or row.predicted) %} bad{% endif %}">{{ row.f1 | fixed(3) }}</td><td class="bars" aria-hidden="true"><span class="bar"><i style="width: {{ "%.1f" | format(100 * row.f1 if row.f1 == row.f1 else 0) }}%"></i></span></td><td class="num">{{ row.support | whole }}</td><td class="num">{{ row.predicted | whole }}</td><td class="num">{{ report.data.train_per_class.get(row.name) | whole }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
{% if weakest_first %}
<p class="note">Weakest class first.</p>
{% endif %}
"""


def values(report: Report) -> dict[str, Any] | None:
    """The classes, many of them by their F1; nothing where a report tells of none."""
    rows = judged(report)[1]["per_class"]
    weakest_first = len(rows) > IN_ORDER
    ordered = sorted(rows, key=lambda row: row["f1"]) if weakest_first else rows
    return {"rows": ordered, "weakest_first": weakest_first} if rows else None


def text(report: Report) -> list[str]:
    """A table of few classes."""
    rows = judged(report)[1]["per_class"]
    if not 0 < len(rows) <= ON_TERMINAL:
        return []
    names = [clipped(" ".join(row["name"].split()), 50) for row in rows]
    width = max(12, *(columns(name) + 2 for name in names))
    lines = ["", f"{'class':<{width}}precision   recall       F1  documents"]
    for name, row in zip(names, rows, strict=True):
        shares = "".join(f"{fixed(share, 3):>9}" for share in (row["precision"], row["recall"], row["f1"]))
        lines.append(f"{padded(name, width)}{shares}{whole(row['support']):>11}")
    return lines


SECTION = Section(
    name="classes", place=50, title=lambda report: f"Classes, {judged(report)[0]} set", html=HTML, values=values,
    text=text,
)  # fmt: skip
