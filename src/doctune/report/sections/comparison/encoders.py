"""Where the encoders come from."""

from __future__ import annotations

from doctune.report.page import Section
from doctune.report.sections.comparison.cost import values

HTML = """
{% call ui.table(["Encoder", "From", "Pre-trained on", "Starting from", "Run"]) %}
{% for row in rows %}
{% set encoder = encoders[loop.index0] %}
<tr><th scope="row">{{ row.name }}</th><td><code>{{ encoder.encoder }}</code></td><td>{{ row.corpus }}</td><td>{{ row.start }}</td><td><code>{{ encoder.run }}</code></td></tr>
{% endfor %}
{% endcall %}
"""

SECTION = Section(name="encoders", place=50, title="Encoders", html=HTML, values=values)
