"""What the joint training saw of each task, and what it left out."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.multitask import MultitaskReport
from doctune.report.page import Section

HTML = """
{% call ui.table(["Task", {"num": "Training documents"}, {"num": "Validation"}, {"num": "Test"}, {"num": "Classes"}, {"num": "Steps"}, {"num": "Documents seen"}, {"num": "Best after epoch"}]) %}
{% for task in report.tasks %}
<tr><th scope="row">{{ task.name }}</th><td class="num">{{ task.train | whole }}</td><td class="num">{{ task.validation | whole }}</td><td class="num">{{ task.test | whole }}</td><td class="num">{{ task.labels | length }}</td><td class="num">{{ task.steps | whole }} ({{ (task.steps / report.steps) | percent }})</td><td class="num">{{ task.documents | whole }}</td><td class="num">{{ task.joint.epoch | fixed(1) }}</td></tr>
{% endfor %}
{% endcall %}
{% if left_out %}
<p class="note">Left out of training, because they are, or nearly are, test documents:
{% for task in left_out %}{{ task.name }}: {% for name, count in task.left_out.items() %}{{ count | whole }} of {{ name }}{{ ", " if not loop.last }}{% endfor %}{{ "; " if not loop.last else ". " }}{% endfor %}
Each of them stands in <code>leaks.jsonl</code>.</p>
{% endif %}
"""


def values(report: MultitaskReport) -> dict[str, Any]:
    """The tasks that had test documents among their training documents."""
    return {"left_out": [task for task in report["tasks"] if task["left_out"]]}


SECTION = Section(name="mixture", place=30, title="What the joint training saw", html=HTML, values=values)
