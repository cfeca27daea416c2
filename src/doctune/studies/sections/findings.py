"""Whether the paper's findings hold here."""

from __future__ import annotations

from typing import Any

from doctune.report.lines import escaped, wrapped
from doctune.report.page import Section
from doctune.studies.results import StudyJson
from doctune.studies.sections._cells import with_paper
from doctune.studies.sections.says import markdown as what_the_curve_says

HTML = """
{% call ui.table(["Finding", "Column", "Here it", "Because"]) %}
{% for finding in report.findings %}
<tr><td>{{ finding.text }}</td><td>{{ finding.column }}</td><td><b>{{ finding.verdict }}</b></td><td>{% for reason in finding.reasons %}{{ reason }}{% if not loop.last %}<br>{% endif %}{% endfor %}</td></tr>
{% endfor %}
{% endcall %}
"""


def values(study: StudyJson) -> dict[str, Any] | None:
    """Nothing without findings."""
    return {} if study["findings"] else None


def text(study: StudyJson) -> list[str]:
    """A sentence for each finding."""
    lines = []
    for one in study["findings"]:
        lines += wrapped(f"{one['verdict']} ({one['column']}): {one['text']} {'; '.join(one['reasons'])}")
    return lines


def markdown(study: StudyJson) -> list[str]:
    """A line for each finding; what a curve says comes after them."""
    title = "The paper's findings" if with_paper(study) else "Findings"
    lines = ["", f"## {title}", ""] if study["findings"] else []
    lines += [f"- **{one['verdict']}**, {one['column']}: {escaped(one['text'])} {escaped('; '.join(one['reasons']))}"
              for one in study["findings"]]  # fmt: skip
    return lines + what_the_curve_says(study)


SECTION = Section(
    name="findings", place=50, title=lambda study: "The paper’s findings" if with_paper(study) else "Findings",
    html=HTML, values=values, text=text, markdown=markdown,
)  # fmt: skip
