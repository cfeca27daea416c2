"""All settings that have a value."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from doctune.report.page import Section
from doctune.report.pretraining import PretrainingReport

SECTIONS = {"start": "encoder", "pairs": "sequences", "masking": "masked words", "optimizer": "optimiser"}

HTML = """
<div class="two">
{% for column in columns %}
{% call ui.pairs() %}
{% for section, values in column %}
{{ ui.group(section) }}
{{ ui.recipe(values) }}
{% endfor %}
{% endcall %}
{% endfor %}
</div>
"""


def values(report: PretrainingReport) -> dict[str, Any]:
    """By section, in two columns of about equal length."""
    return {"columns": _columns(report["facts"]["settings"])}


def _columns(settings: Mapping[str, Any]) -> list[list[tuple[str, dict[str, Any]]]]:
    groups: list[tuple[str, dict[str, Any]]] = []
    for section, group in settings.items():
        if isinstance(group, dict):
            shown = {
                name: ", ".join(map(str, value)) if isinstance(value, list) else value
                for name, value in group.items()
                if value is not None
            }
            groups.append((SECTIONS.get(section, section).capitalize(), shown))
    lengths = list(itertools.accumulate(len(shown) + 1 for _, shown in groups))
    first = sum(2 * length <= lengths[-1] + len(groups[0][1]) for length in lengths)
    return [groups[:first], groups[first:]]


SECTION = Section(name="settings", place=60, title="Settings", html=HTML, values=values)
