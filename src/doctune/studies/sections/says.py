"""What a learning curve says."""

from __future__ import annotations

from typing import Any

from doctune.report.lines import escaped
from doctune.report.page import Section
from doctune.studies.results import StudyJson


def values(study: StudyJson) -> dict[str, Any] | None:
    """Nothing for a study that is no curve."""
    sentences = study.get("sentences", ())
    return {"sentences": sentences} if sentences else None


def markdown(study: StudyJson) -> list[str]:
    """A line for each sentence."""
    sentences = study.get("sentences", ())
    return ["", "## What the curve says", "", *(f"- {escaped(one)}" for one in sentences)] if sentences else []


SECTION = Section(
    name="sentences", place=30, title="What the curve says", html="{{ ui.listed(sentences) }}", values=values,
)  # fmt: skip
