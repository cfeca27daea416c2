"""A study to read: study.json, study.md, study.csv and study.html, and the table on the terminal.

Everything here reads the `StudyJson` dictionary only, so that an older study.json can be shown again. What is on the
page are the files of `studies/sections`.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Literal

from doctune.evaluation.stored import complete
from doctune.files import write_json, write_text
from doctune.report.figure import standalone
from doctune.report.lines import escaped
from doctune.report.page import Page, chart_style, writable
from doctune.studies.results import StudyJson
from doctune.studies.sections._cells import warnings, with_paper
from doctune.studies.sections.plots import plots

PAGE = "study.html"

STUDY = Page(
    folder="doctune.studies.sections",
    template="study.html",
    kind=StudyJson,
    heading=lambda study: escaped(study["title"]),
    warnings=warnings,
)
render_html, summary = STUDY.html, STUDY.text


def write_study(folder: Path, study: StudyJson, stem: str = "study") -> None:
    """Write stem.json, stem.csv, stem.md and stem.html, and each plot as a file of its own, stem-1.svg and so on."""
    safe = writable(study)
    write_json(folder / f"{stem}.json", safe)
    write_text(folder / f"{stem}.csv", to_csv(safe))
    write_text(folder / f"{stem}.md", markdown(safe, stem))
    write_text(folder / f"{stem}.html", render_html(safe))
    for number, (_, plot) in enumerate(plots(complete(safe, StudyJson)), 1):
        write_text(folder / f"{stem}-{number}.svg", standalone(plot, chart_style()))


def markdown(study: StudyJson, stem: str = "study") -> str:
    """The paper's table with our column and interval beside its own, the findings, and the runs."""
    again = (
        f"Each run again: `doctune finetune --config RUN/config.toml --output AGAIN` (or the command in {stem}.csv)."
    )
    return STUDY.markdown(study, ["", again])


def to_csv(study: StudyJson) -> str:
    """One line a run: cell, seed, its error; the cell's mean and interval, the paper's figure, the run, its command.

    `x` is where the cell stands in a plot over rows or columns; without a figure of the paper there is no `paper`.
    """
    over: Literal["row", "column"] = "row" if study["plot"] == "over rows" else "column"
    places = {c["name"]: c["x"] for c in study["columns"]}
    if over == "row":
        places = dict(zip(study["rows"], study["row_x"], strict=False))
    text = io.StringIO()
    paper = ["paper"] if with_paper(study) else []
    names = ["study", "scale", "row", "column", "x", "seed", "error_percent", "mean_percent", "low", "high", *paper,
             "run", "command"]  # fmt: skip
    writer = csv.DictWriter(text, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for cell in study["cells"]:
        low, high = (cell["interval_percent"] or ("", ""))[:2]
        about = {"study": study["name"], "scale": study["scale"], "row": cell["row"], "column": cell["column"],
                 "x": _number(places.get(cell[over])), "mean_percent": cell["error_percent"],
                 "low": low, "high": high, "paper": cell["paper"]}  # fmt: skip
        writer.writerows({**about, **run} for run in cell["runs"])
    return text.getvalue()


def _number(place: float | None) -> str:
    return "" if place is None else f"{place:.10g}"
