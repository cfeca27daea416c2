"""What was equal for all encoders: documents, seeds, recipe."""

from __future__ import annotations

from doctune.report.page import Section

HTML = """
{% set data = report.data %}
<div class="two">
{% call ui.pairs() %}
{{ ui.group("Documents") }}
{{ ui.chosen(data) }}
{{ ui.pair("Train", data.train | whole) }}
{{ ui.documents(data) }}
{{ ui.pair("Seeds", report.seeds | map("value") | join(", ")) }}
{% endcall %}
{{ ui.recipe_table(report.recipe) }}
</div>
<p class="note">What depends on the encoder (learning rate, pooling, longest sequence) was resolved for the base encoder and holds for all.</p>
"""

SECTION = Section(name="equal", place=70, title="What was equal", html=HTML)
