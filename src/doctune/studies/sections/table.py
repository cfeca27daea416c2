"""The table of the study, with the paper's figures beside our own."""

from __future__ import annotations

import textwrap
from typing import Any

from doctune.report.lines import TABLE_WIDTH, escaped, row_of
from doctune.report.numbers import DASH
from doctune.report.page import Section
from doctune.studies.plan import CITED
from doctune.studies.results import StudyJson
from doctune.studies.sections._cells import CURVE, cell_at, interval_note, shown, warnings, with_paper

HTML = """
<div class="scroll">
<table class="wide">
<thead>
{% if paper %}
<tr><th scope="col" rowspan="2"></th>{% for column in report.columns %}<th scope="colgroup" colspan="2" class="num">{{ column.name }}</th>{% endfor %}</tr>
<tr>{% for column in report.columns %}<th scope="col" class="num">here</th><th scope="col" class="num">paper</th>{% endfor %}</tr>
{% else %}
<tr><th scope="col"></th>{% for column in report.columns %}<th scope="col" class="num">{{ column.name }}</th>{% endfor %}</tr>
{% endif %}
</thead>
<tbody>
{% for row, cells in rows %}
<tr><th scope="row">{{ row }}</th>{% for here, theirs in cells %}<td class="num">{{ here }}</td>{% if paper %}<td class="num">{{ theirs }}</td>{% endif %}{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="note">In brackets: {{ interval_note }}</p>
<ul class="note">
{% for column in report.columns if column.documents %}
<li>{{ column.name }}: {{ column.documents }}.</li>
{% endfor %}
{% for note in notes %}
<li>{{ note }}</li>
{% endfor %}
</ul>
"""


def _rows(study: StudyJson) -> list[tuple[str, list[tuple[str, str]]]]:
    names = [column["name"] for column in study["columns"]]
    return [(row, [shown(cell_at(study, row, name)) for name in names]) for row in study["rows"]]


def _notes(study: StudyJson) -> list[str]:
    return [] if study["scale"] == CURVE else study["notes"]


def values(study: StudyJson) -> dict[str, Any]:
    """A row for each row, and what is to be said of it."""
    return {
        "rows": _rows(study), "paper": with_paper(study), "interval_note": interval_note(study), "notes": _notes(study),
    }  # fmt: skip


def text(study: StudyJson) -> list[str]:
    """A table for each column."""
    width, papers = max(map(len, study["rows"]), default=0), with_paper(study)
    lines = [study["title"], *textwrap.wrap(study["about"], TABLE_WIDTH), ""]
    for column in study["columns"]:
        lines += textwrap.wrap(f"{column['name']}: {column['documents']}", TABLE_WIDTH)
        unit = f"{study['unit']}, here" if papers else study["unit"]
        lines.append(f"  {'':<{width}}  {unit:>26}" + (f"  {'paper':>6}" if papers else ""))
        for row in study["rows"]:
            here, paper = shown(cell_at(study, row, column["name"]))
            if (here, paper) == (CITED, DASH):
                continue
            lines.append(f"  {row:<{width}}  {here:>26}" + (f"  {paper:>6}" if papers else ""))
        lines.append("")
    return lines


def markdown(study: StudyJson) -> list[str]:
    """The paper's table with our column and interval beside its own."""
    each = 2 if with_paper(study) else 1
    lines = [escaped(study["question"]), "", escaped(study["about"]), ""]
    columns = study["columns"]
    names = [f"{c['name']}, {whose}" if each == 2 else c["name"] for c in columns for whose in ("here", "paper")[:each]]
    lines += [row_of(["", *names]), f"| --- |{' ---: |' * len(names)}"]
    for row, cells in _rows(study):
        lines.append(row_of([escaped(row), *(escaped(value) for cell in cells for value in cell[:each])]))
    lines += ["", f"Cells: {study['unit']}; in brackets {interval_note(study)}", ""]
    lines += [f"- {c['name']}: {c['documents']}." for c in columns if c["documents"]]
    lines += [f"- {escaped(note)}" for note in _notes(study)]
    return lines + [f"- Warning: {escaped(one)}" for one in warnings(study)]


SECTION = Section(
    name="table", place=10, title=lambda study: study["unit"].capitalize(), html=HTML, values=values, text=text,
    markdown=markdown,
)  # fmt: skip
