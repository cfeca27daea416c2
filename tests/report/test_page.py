"""A page is the files in the folder of its sections: one more file is one more section, everywhere."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctune.report.comparison import PAGE as COMPARISON
from doctune.report.finetuning import FOLDER, render_html, summary_table, write_report
from doctune.report.finetuning import PAGE as FINETUNING
from doctune.report.multitask import PAGE as MULTITASK
from doctune.report.page import Judged, made, sections
from doctune.report.pretraining import PAGE as PRETRAINING
from doctune.report.probe import PAGE as PROBE
from doctune.studies.report import STUDY

SURE = '''
"""How sure the model is."""

from typing import TypedDict

from doctune.report.page import Judged, Section


class Sure(TypedDict):
    mean: float


def make(answers: Judged) -> Sure:
    return {"mean": float(answers.probabilities.max(axis=1).mean())}


def values(report):
    return report.get("sure")


SECTION = Section(
    name="sure", place=65, title="How sure it is", html="<p>The mean probability is {{ mean | percent }}.</p>",
    values=values, make=make, text=lambda report: [f"sure        {report['sure']['mean']:.1%}"],
    markdown=lambda report: ["## How sure it is"],
)
'''


@pytest.fixture
def sure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A section of fine-tuning, from a file of the test's own in the folder of the sections."""
    (tmp_path / "sure.py").write_text(SURE)
    package = importlib.import_module(FOLDER)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(tmp_path)])
    yield "sure"
    sys.modules.pop(f"{FOLDER}.sure", None)
    package.__dict__.pop("sure", None)


def test_one_more_file_is_in_the_json_on_the_page_and_on_the_terminal(
    sure: str, report: Any, parse: Any, tmp_path: Path
) -> None:
    nothing: Any = None
    new = made(FOLDER, Judged(nothing, np.array([[0.9, 0.1], [0.3, 0.7]]), {}, nothing))
    assert new == {"sure": {"mean": pytest.approx(0.8)}}
    write_report(tmp_path, {**report(), **new})
    stored = json.loads((tmp_path / "report.json").read_text())
    assert stored["sure"] == new["sure"]
    page = parse((tmp_path / "report.html").read_text()).text
    assert "How sure it is The mean probability is 80.0 %." in page
    assert page.index("Confusion matrix") < page.index("How sure it is") < page.index("Most confident errors")
    assert "sure        80.0%" in summary_table(stored).splitlines()
    assert "## How sure it is" in FINETUNING.markdown(stored)


def test_without_the_file_there_is_no_such_section(report: Any) -> None:
    assert "How sure it is" not in render_html({**report(), "sure": {"mean": 0.5}})


@pytest.mark.parametrize("page", [FINETUNING, COMPARISON, MULTITASK, PRETRAINING, PROBE, STUDY])
def test_the_sections_of_a_page_have_names_and_places_of_their_own(page: Any) -> None:
    every = sections(page.folder)
    assert len(every) >= 4
    assert len({section.name for section in every}) == len({section.place for section in every}) == len(every)
