"""What was trained: the encoder, what was behind it, and the task."""

from __future__ import annotations

from typing import Any

from doctune.report.page import Section
from doctune.report.pretraining import PretrainingReport, history, objective

HTML = """
{% set facts, settings = report.facts, report.facts.settings %}
{% set held_out = facts.held_out %}
<div class="two">
{% call ui.pairs() %}
{{ ui.group("Encoder") }}
{{ ui.pair("Begun with", facts.base_encoder) }}
{% for before in history %}
{% call ui.pair("Pre-trained before") %}on <bdi>{{ before.corpus.name | value }}</bdi>, {{ before.steps | whole }} steps, {{ before.tokens | whole }} tokens, from {{ before.base_encoder | value }}{% endcall %}
{% endfor %}
{% if facts.encoder is defined %}
{{ ui.pair("Size", facts.encoder.num_layers | value + " layers of " + facts.encoder.hidden_size | value) }}
{{ ui.pair("Parameters", (facts.encoder.num_parameters / 1000000) | fixed(1) + " million with heads") }}
{{ ui.pair("Batches", facts.encoder.packing) }}
{% endif %}
{{ ui.pair("New heads", facts.new_heads | join(", ") if facts.new_heads else "none: all were in the encoder's folder") }}
{% if facts.head_warmup %}
{{ ui.pair("Head warm-up", "the new heads alone for " + facts.head_warmup | percent(0) + " of the budget first, before the steps above") }}
{% endif %}
{% endcall %}
{% call ui.pairs() %}
{{ ui.group("Task") }}
{{ ui.pair("Objective", objective) }}
{% call ui.pair("Sequences") %}up to {{ settings.pairs.sequence_len | value }} tokens, {{ (settings.training.batch_size * settings.training.accumulation) | value }} a step{% endcall %}
{% call ui.pair("Masking") %}{{ (100 * settings.masking.masked_lm_prob) | value }} % of the tokens, {{ "whole words" if settings.masking.masking == "whole-word" else "each token by itself" }}; {{ "as in the first %s passes" | format(settings.pairs.duplication | value) if settings.pairs.duplication else "new in every pass" }}{% endcall %}
{% call ui.pair("Weights kept") %}of step {{ facts.kept_step | whole }}{% if held_out %}, the lowest held-out loss ({{ held_out.held_out_loss | fixed(3) }}){% endif %}{% endcall %}
{% endcall %}
</div>
"""


def values(report: PretrainingReport) -> dict[str, Any]:
    """The objective in words, and the runs before this one."""
    before = [
        {
            "steps": None,
            "tokens": None,
            "base_encoder": None,
            **one,
            "corpus": {"name": None, **(one.get("corpus") or {})},
        }
        for one in history(report["facts"])
    ]
    return {"objective": objective(report), "history": before}


SECTION = Section(name="trained", place=20, title="What was trained", html=HTML, values=values)
