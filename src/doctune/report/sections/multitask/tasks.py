"""The errors of each task at both stages."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.multitask import MultitaskReport
from doctune.report.charts import Gap, differences
from doctune.report.lines import clipped, markdown_table, padded
from doctune.report.numbers import fixed
from doctune.report.page import Section
from doctune.report.sections.multitask._rows import errors, means, rows

NAME_WIDTH = 24
HEAD = ("task", "labels", "documents seen", "joint", "continued", "continued - joint, points", "use")

HTML = """
{% macro error(stage, text) %}<a href="{{ stage.run }}/report.html">{{ text }}</a>{% endmacro %}
{% call ui.table(["Task", {"num": "Joint, %"}, {"num": "Continued, %"}, {"num": "Continued minus joint, points"}, "Use"]) %}
{% for task in tasks %}
{% set joint, continued = task.section.joint, task.section.continued %}
<tr><th scope="row">{{ task.name }}</th><td class="num{% if joint.collapsed %} bad{% endif %}">{{ error(joint, task.joint) }}</td><td class="num{% if continued and continued.collapsed %} bad{% endif %}">{% if continued %}{{ error(continued, task.continued) }}{% else %}–{% endif %}</td><td class="num">{{ task.difference | replace("-", "−") }}</td><td><code>{{ task.kept }}/{{ task.name }}/model</code></td></tr>
{% endfor %}
{% endcall %}
<p class="note">In brackets: 95 % intervals, of the errors for a set of this size (Wilson), of the differences by a paired bootstrap over documents; they say nothing of other seeds. The model to use is the one that did better on validation; the joint one on a tie. Each figure leads to the report of its model.</p>
{% if plot %}
<div class="plot">{{ plot }}</div>
{% endif %}
"""


def values(report: MultitaskReport) -> dict[str, Any]:
    """A row for each task, and the differences drawn."""
    gaps = [
        Gap(task["name"], task["difference"]["points"], task["difference"]["low"], task["difference"]["high"])
        for task in report["tasks"]
        if task["difference"] is not None
    ]
    plot = differences(gaps, errors(report), "continued minus joint", "the joint model")
    return {"tasks": rows(report), "plot": plot}


def text(report: MultitaskReport) -> list[str]:
    """A table, and the differences below it."""
    tasks, (joint, continued) = rows(report), means(report)
    width = min(NAME_WIDTH, max((4, *(len(row["name"]) for row in tasks))))
    lines = [f"{'task':<{width}}  {'labels':>7}  {'joint':>22}  {'continued':>22}  use"]
    for row in tasks:
        name = padded(clipped(row["name"], width), width)
        lines.append(f"{name}  {row['labels']:>7}  {row['joint']:>22}  {row['continued']:>22}  {row['kept']}")
    # Under the errors, not under their intervals.
    pad = " " * len(" (00.00 to 00.00)")
    mean = fixed(joint) + pad, ("" if continued is None else fixed(continued)) + pad
    lines += [f"{'mean':<{width}}  {'':>7}  {mean[0]:>22}  {mean[1]:>22}", ""]
    for row in tasks:
        if row["section"]["difference"] is not None:
            lines.append(f"{row['name']}: continued minus joint {row['difference']} points, 95 % interval")
    return lines


def markdown(report: MultitaskReport) -> list[str]:
    """A table."""
    names = ("name", "labels", "seen", "joint", "continued", "difference", "kept")
    cells = [[row[name] for name in names] for row in rows(report)]
    mean = [fixed(value) for value in means(report)]
    return [
        *markdown_table(HEAD, f"| --- | {'---: | ' * 5}--- |", cells),
        f"| mean | | | {mean[0]} | {mean[1]} | | |",
        "",
        "Intervals in brackets: 95 %. The model to use is the one that did better on validation.",
        "",
    ]


SECTION = Section(
    name="tasks", place=20, title=lambda report: f"{errors(report).capitalize()} of each task", html=HTML,
    values=values, text=text, markdown=markdown,
)  # fmt: skip
