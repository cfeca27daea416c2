"""The recipe, which is that of every task."""

from __future__ import annotations

from doctune.report.page import Section

HTML = """
{% call ui.pairs() %}
{{ ui.recipe(report.recipe) }}
{% endcall %}
"""

SECTION = Section(name="recipe", place=40, title="Recipe", html=HTML)
