"""The errors of all encoders."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.comparison import Comparison
from doctune.report.lines import clipped, markdown_table, padded
from doctune.report.page import Section
from doctune.report.sections.comparison._rows import how_intervals, labels, rows
from doctune.report.sections.comparison.answer import sentences

NAME_WIDTH = 32

HTML = """
{% call ui.table(["Encoder", {"num": report.part | capitalize + " error %"}, {"num": "Adapted minus base, points"}, "Verdict"]) %}
{% for row in rows %}
<tr><th scope="row">{{ row.name }}</th><td class="num">{{ row.error }}</td><td class="num">{{ row.difference | replace("-", "−") }}</td><td>{{ row.verdict }}</td></tr>
{% endfor %}
{% endcall %}
<p class="note">In brackets: 95 % intervals, of the errors {{ how_intervals }}, of the differences by the paired bootstrap.</p>
"""


def values(report: Comparison) -> dict[str, Any]:
    """A row for each encoder."""
    return {"rows": rows(report), "how_intervals": how_intervals(report)}


def text(report: Comparison) -> list[str]:
    """Errors and costs in one table, and the verdicts."""
    encoders = rows(report)
    width = min(NAME_WIDTH, max(len("encoder"), *(len(row["name"]) for row in encoders)))
    head = f"{report['part']} error %"
    lines = [f"{'encoder':<{width}}  {head:>22}  {'pre-training':>14}  {'fine-tuning, each run':>22}"]
    for row in encoders:
        name = padded(clipped(row["name"], width), width)
        lines.append(f"{name}  {row['error']:>22}  {row['pretraining']:>14}  {row['finetuning']:>22}")
    return [*lines, "", *sentences(report)]


def markdown(report: Comparison) -> list[str]:
    """The same, with the steps and the differences."""
    part, count = report["part"], len(report["seeds"])
    head = [
        "encoder", "pre-training steps", "pre-training", "fine-tuning, each run",
        f"{part} error %, mean of {count} seed{'s' if count > 1 else ''}", "adapted - base, points", "verdict",
    ]  # fmt: skip
    names = ("name", "steps", "pretraining", "finetuning", "error", "difference", "verdict")
    cells = [[row[name] for name in names] for row in rows(report)]
    table = markdown_table(head, f"| --- | {'---: | ' * 5}--- |", cells)
    return [*table, "", f"{labels(report)} Intervals in brackets: 95 %.", ""]


SECTION = Section(name="errors", place=30, title="Errors", html=HTML, values=values, text=text, markdown=markdown)
