"""What pre-training and fine-tuning took."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.comparison import Comparison
from doctune.report.page import Section
from doctune.report.sections.comparison._rows import encoders, rows

HTML = """
{% call ui.table(["Encoder", {"num": "Steps"}, {"num": "Tokens"}, {"num": "Pre-training"}, {"num": "Fine-tuning, each run"}, {"num": "All %d runs" | format(report.seeds | length)}]) %}
{% for row in rows %}
<tr><th scope="row">{{ row.name }}</th><td class="num">{{ row.steps }}</td><td class="num">{{ row.tokens }}</td><td class="num">{{ row.pretraining }}</td><td class="num">{{ row.finetuning }}</td><td class="num">{{ encoders[loop.index0].train_seconds | sum | duration }}</td></tr>
{% endfor %}
{% endcall %}
"""


def values(report: Comparison) -> dict[str, Any]:
    """A row for each encoder."""
    return {"rows": rows(report), "encoders": encoders(report)}


SECTION = Section(name="cost", place=40, title="Cost", html=HTML, values=values)
