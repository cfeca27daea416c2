"""The runs, each with the command that repeats it."""

from __future__ import annotations

from doctune.report.lines import escaped
from doctune.report.numbers import fixed, value
from doctune.report.page import Section
from doctune.studies.results import StudyJson

HTML = """
{% call ui.table(["Row", "Column", {"num": "Seed"}, {"num": "Error %"}, "Run", "Again"], "wide runs") %}
{% for cell in report.cells %}{% for run in cell.runs %}
<tr><td>{{ cell.row }}</td><td>{{ cell.column }}</td><td class="num">{{ run.seed | value }}</td><td class="num">{{ run.error_percent | fixed }}</td><td><code>{{ run.run }}</code></td><td><code>{{ run.command }}</code></td></tr>
{% endfor %}{% endfor %}
{% endcall %}
"""


def markdown(study: StudyJson) -> list[str]:
    """A row for each run."""
    lines = ["", "## Runs", "", "| cell | seed | error % | run |", "| --- | --- | ---: | --- |"]
    for cell in study["cells"]:
        name = f"{escaped(cell['row'])} · {escaped(cell['column'])}"
        lines += [
            f"| {name} | {value(run['seed'])} | {fixed(run['error_percent'])} | `{run['run']}` |"
            for run in cell["runs"]
        ]
    return lines


SECTION = Section(name="runs", place=60, title="Runs", html=HTML, markdown=markdown)
