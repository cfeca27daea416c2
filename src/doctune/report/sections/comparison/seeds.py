"""The error of every seed with every encoder."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.comparison import Compared, Comparison
from doctune.report.page import Section
from doctune.report.sections.comparison._rows import encoders

HTML = """
<div class="scroll">
<table>
<thead><tr><th scope="col">Seed</th>{% for encoder in encoders %}<th scope="col" class="num">{{ encoder.name }}</th>{% if not loop.first %}<th scope="col" class="num">minus base</th>{% endif %}{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
<tr><th scope="row">{{ row.seed | value }}</th>{% for cell in row.cells %}<td class="num{% if cell.collapsed %} bad{% endif %}">{{ cell.error | fixed }}</td>{% if not loop.first %}<td class="num">{{ cell.difference | points }}</td>{% endif %}{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
"""


def values(report: Comparison) -> dict[str, Any]:
    """A row for each seed."""
    rows = [
        {
            "seed": seed,
            "cells": [
                _cell(report["base"], [], place, seed),
                *(_cell(one, one["against_base"]["by_seed"], place, seed) for one in report["adapted"]),
            ],
        }
        for place, seed in enumerate(report["seeds"])
    ]
    return {"rows": rows, "encoders": encoders(report)}


def _cell(encoder: Compared, by_seed: list[float], place: int, seed: int) -> dict[str, Any]:
    return {
        "error": _at(encoder["error_percent"]["values"], place),
        "difference": _at(by_seed, place),
        "collapsed": seed in encoder["collapsed"],
    }


def _at(values: list[float], place: int) -> float | None:
    return values[place] if place < len(values) else None


SECTION = Section(
    name="seeds", place=60, title=lambda report: f"{report['part'].capitalize()} error % by seed", html=HTML,
    values=values,
)  # fmt: skip
