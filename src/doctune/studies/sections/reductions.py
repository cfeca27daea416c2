"""By how much the error shrinks on average over the data sets."""

from __future__ import annotations

from typing import Any

from doctune.report.lines import escaped, wrapped
from doctune.report.numbers import fixed, whole
from doctune.report.page import Section
from doctune.studies.results import StudyJson


def reductions(study: StudyJson) -> list[str]:
    """A line for each row whose average reduction of the error is told."""
    return [
        f"{one['row']}: {_fewer(one['percent'])} errors than {one['against']}, the mean of {whole(one['columns'])} "
        f"data sets" + ("" if one["paper_percent"] is None else f"; in the paper {_fewer(one['paper_percent'])}") + "."
        for one in study.get("reductions", ())
    ]


def _fewer(percent: float) -> str:
    return f"{fixed(abs(percent))} % {'fewer' if percent >= 0 else 'more'}"


def values(study: StudyJson) -> dict[str, Any] | None:
    """Nothing where a study asks for none."""
    sentences = reductions(study)
    return {"sentences": sentences} if sentences else None


def text(study: StudyJson) -> list[str]:
    """The sentences."""
    return [line for one in reductions(study) for line in wrapped(one)]


def markdown(study: StudyJson) -> list[str]:
    """The same under a title."""
    sentences = reductions(study)
    return ["", "## Average reduction", "", *(f"- {escaped(one)}" for one in sentences)] if sentences else []


SECTION = Section(
    name="reductions", place=40, title="Average reduction of the error", html="{{ ui.listed(sentences) }}",
    values=values, text=text, markdown=markdown,
)  # fmt: skip
