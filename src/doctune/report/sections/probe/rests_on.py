"""The encoder, the documents and the time."""

from __future__ import annotations

from doctune.report.page import Section

HTML = """
{% set encoder, data = report.encoder, report.data %}
<div class="two">
{% call ui.pairs() %}
{% call ui.pair("Encoder") %}<code>{{ encoder.name }}</code>, {{ encoder.num_layers | value }} layers of {{ encoder.hidden_size | value }}, {{ encoder.packing }}{% endcall %}
{{ ui.pair("Longest sequence", report.max_seq_len | value + " tokens, " + report.truncation) }}
{{ ui.pair("One forward pass", report.seconds.features | default(none) | duration) }}
{{ ui.pair("All probes", report.seconds.probes | default(none) | duration) }}
{% endcall %}
{% call ui.pairs() %}
{% call ui.pair("Train") %}{{ data.train | whole }}{% if data.chosen_from %} of {{ data.chosen_from | whole }}{% endif %}{% endcall %}
{{ ui.documents(data) }}
{% endcall %}
</div>
"""

SECTION = Section(name="made", place=40, title="What it rests on", html=HTML)
