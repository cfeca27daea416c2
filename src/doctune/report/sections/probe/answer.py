"""Which layer to fine-tune, and how sure that is."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.probe import Probe
from doctune.report.lines import wrapped
from doctune.report.page import Section
from doctune.report.sections.probe._rows import at, labels

HTML = """
<div>
<h2 id="answer" class="what">Fine-tune layer</h2>
<p class="big">{{ advised.layer | value }} <small>{{ advised.token_pooling }}</small></p>
<p class="what">of 0 to {{ (report.encoder.num_layers - 1) | value }}, and its pooling over tokens</p>
</div>
<dl class="figures">
{{ ui.figure("Validation error of its probe", advised.validation.error_percent | fixed + " %") }}
{{ ui.figure("95 % interval", advised.validation.low | fixed + " to " + advised.validation.high | fixed + " %") }}
{% if advised.test %}
{{ ui.figure("Test error of its probe", advised.test.error_percent | fixed + " %") }}
{{ ui.figure("95 % interval", advised.test.low | fixed + " to " + advised.test.high | fixed + " %") }}
{% endif %}
{{ ui.figure("Fewest errors", "layer " + best.layer | value + ", " + best.token_pooling) }}
{{ ui.figure("Near ties", "%d of %d others" | format(ties, report.cells | length - 1)) }}
</dl>
<div class="plot">
{% for sentence in report.sentences %}
<p>{{ sentence }}</p>
{% endfor %}
<pre><code>{{ report.finetune }}</code></pre>
</div>
"""


def values(probe: Probe) -> dict[str, Any] | None:
    """The cell to fine-tune and the best one; nothing where a report does not tell them."""
    best, advised = at(probe, "best"), at(probe, "advised")
    if best is None or advised is None:
        return None
    return {"best": best, "advised": advised, "ties": sum(cell["tied"] for cell in probe["cells"]) - 1}


def text(probe: Probe) -> list[str]:
    """What the figures rest on; the sentences come after the tables."""
    return [labels(probe)]


def markdown(probe: Probe) -> list[str]:
    """The sentences, and the command."""
    return [" ".join(probe["sentences"]), "", "```", probe["finetune"], "```", ""]


def sentences(probe: Probe) -> list[str]:
    """The sentences on the terminal."""
    return [line for sentence in probe["sentences"] for line in wrapped(sentence)]


SECTION = Section(name="answer", place=10, html=HTML, style="headline", values=values, text=text, markdown=markdown)
