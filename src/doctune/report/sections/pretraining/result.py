"""What was measured on held-out documents, and what the run took."""

from __future__ import annotations

import math
from typing import Any

from doctune.report.numbers import known
from doctune.report.page import Section
from doctune.report.pretraining import HeldOut, PretrainingReport

HTML = """
<div>
{% if held_out %}
<h2 id="result" class="what">Masked words found in held-out documents</h2>
<p class="big">{{ held_out.mlm_accuracy | percent }}</p>
<p class="what">loss {{ held_out.mlm_loss | fixed(3) }}, perplexity {{ perplexity | fixed(1) }}
{%- if first %}; at the first measurement (step {{ first.step | default(none) | whole }}) {{ first.mlm_accuracy | default(none) | percent }}, loss {{ first.mlm_loss | default(none) | fixed(3) }}{% endif %}</p>
{% else %}
<h2 id="result" class="what">Tokens seen</h2>
<p class="big">{{ facts.tokens | whole }}</p>
<p class="what">no document was held out, so nothing was measured</p>
{% endif %}
</div>
<dl class="figures">
{% if held_out and held_out.pair_accuracy is defined %}
{% set same = " (" + held_out.pair_majority | percent + " by always saying the same)" if held_out.pair_majority is defined else "" %}
{{ ui.figure("Held-out sentence pairs told", held_out.pair_accuracy | percent + same) }}
{% endif %}
{{ ui.figure("Steps", facts.steps | whole) }}
{{ ui.figure("Tokens", facts.tokens | whole) }}
{{ ui.figure("Training time", facts.seconds | duration) }}
{{ ui.figure("Tokens a second", speed | fixed(0)) }}
</dl>
"""


def values(report: PretrainingReport) -> dict[str, Any]:
    """The figures of the headline."""
    facts, evaluations = report["facts"], report["evaluations"]
    held_out = facts["held_out"]
    return {
        "facts": facts,
        "held_out": held_out,
        "first": evaluations[0] if held_out and len(evaluations) > 1 else None,
        "perplexity": _perplexity(held_out),
        "speed": facts["tokens"] / facts["seconds"] if facts["seconds"] else None,
    }


def _perplexity(held_out: HeldOut | None) -> float | None:
    """e to the loss on masked words; None where there is none, or it is beyond a number."""
    loss = None if held_out is None else held_out["mlm_loss"]
    return math.exp(loss) if known(loss) and loss <= 700 else None


SECTION = Section(name="result", place=10, html=HTML, style="headline", values=values)
