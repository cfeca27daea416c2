"""A study to read: study.json, study.md, study.csv and study.html, and the table on the terminal.

Everything here reads the `StudyJson` dictionary only, so that an older study.json can be shown again.
"""

from __future__ import annotations

import csv
import io
import textwrap
from pathlib import Path
from typing import Literal, cast

from markupsafe import Markup

from doctune.evaluation.comparison import points
from doctune.files import write_json, write_text
from doctune.report.comparison_charts import standalone
from doctune.report.finetuning import TABLE_WIDTH, pages, writable
from doctune.studies.charts import TRAINING, differences, error_lines, training_lines
from doctune.studies.plan import CITED
from doctune.studies.results import CellJson, StudyJson

PAGE = "study.html"
NOTHING = "–"
FIGURES_MEAN_NOTHING, CURVE = "smoke", "given"
"""Scales: that of the smoke test, and that of learning curves."""


def write_study(folder: Path, study: StudyJson, stem: str = "study") -> None:
    """Write stem.json, stem.csv, stem.md and stem.html, and each plot as a file of its own, stem-1.svg and so on."""
    safe = cast(StudyJson, writable(study))
    write_json(folder / f"{stem}.json", safe)
    write_text(folder / f"{stem}.csv", to_csv(safe))
    write_text(folder / f"{stem}.md", markdown(safe, stem))
    write_text(folder / f"{stem}.html", render_html(safe))
    style = pages().get_template("charts.css").render()
    for number, (_, plot) in enumerate(((caption, plot) for caption, plot in plots(safe) if plot), 1):
        write_text(folder / f"{stem}-{number}.svg", standalone(plot, style))


def to_csv(study: StudyJson) -> str:
    """One line a run: cell, seed, its error; the cell's mean and interval, the paper's figure, the run, its command.

    `x` is where the cell stands in a plot over rows or columns; without a figure of the paper there is no `paper`.
    """
    over: Literal["row", "column"] = "row" if study["plot"] == "over rows" else "column"
    places = {c["name"]: c["x"] for c in study["columns"]}
    if over == "row":
        places = dict(zip(study["rows"], study["row_x"], strict=True))
    text = io.StringIO()
    paper = ["paper"] if with_paper(study) else []
    names = ["study", "scale", "row", "column", "x", "seed", "error_percent", "mean_percent", "low", "high", *paper,
             "run", "command"]  # fmt: skip
    writer = csv.DictWriter(text, names, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for cell in study["cells"]:
        low, high = cell["interval_percent"] or ("", "")
        about = {"study": study["name"], "scale": study["scale"], "row": cell["row"], "column": cell["column"],
                 "x": _number(places[cell[over]]), "mean_percent": cell["error_percent"],
                 "low": low, "high": high, "paper": cell["paper"]}  # fmt: skip
        writer.writerows({**about, **run} for run in cell["runs"])
    return text.getvalue()


def with_paper(study: StudyJson) -> bool:
    """Whether there is any figure of the paper to show."""
    return any(cell["paper"] is not None for cell in study["cells"])


def markdown(study: StudyJson, stem: str = "study") -> str:
    """The paper's table with our column and interval beside its own, the findings, and the runs."""
    paper = with_paper(study)
    each = 2 if paper else 1
    lines = [f"# {_escaped(study['title'])}", "", _escaped(study["question"]), "", _escaped(study["about"]), ""]
    columns = study["columns"]
    names = [f"{c['name']}, {whose}" if paper else c["name"] for c in columns for whose in ("here", "paper")[:each]]
    lines += [f"| {' | '.join(['', *names])} |", f"| --- |{' ---: |' * len(names)}"]
    for row in study["rows"]:
        cells = [_cell(study, row, c["name"]) for c in columns]
        lines.append(f"| {' | '.join([_escaped(row), *(_escaped(v) for cell in cells for v in shown(cell)[:each])])} |")
    lines += ["", f"Cells: {study['unit']}; in brackets {_interval_note(study)}", ""]
    lines += [f"- {c['name']}: {c['documents']}." for c in columns if c["documents"]]
    lines += [f"- {_escaped(note)}" for note in _notes(study)]
    lines += [f"- Warning: {_escaped(one)}" for one in warnings(study)]
    lines += (
        ["", "## Average reduction", "", *(f"- {_escaped(one)}" for one in told)] if (told := reductions(study)) else []
    )
    if study["findings"]:
        lines += ["", "## The paper's findings" if paper else "## Findings", ""]
    lines += [f"- **{f['verdict']}**, {f['column']}: {_escaped(f['text'])} {_escaped('; '.join(f['reasons']))}"
              for f in study["findings"]]  # fmt: skip
    said = study.get("sentences", ())
    lines += ["", "## What the curve says", "", *(f"- {_escaped(one)}" for one in said)] if said else []
    lines += ["", "## Runs", "", "| cell | seed | error % | run |", "| --- | --- | ---: | --- |"]
    for cell in study["cells"]:
        name = f"{_escaped(cell['row'])} · {_escaped(cell['column'])}"
        lines += [f"| {name} | {r['seed']} | {r['error_percent']:.2f} | `{r['run']}` |" for r in cell["runs"]]
    again = (
        f"Each run again: `doctune finetune --config RUN/config.toml --output AGAIN` (or the command in {stem}.csv)."
    )
    return "\n".join([*lines, "", again, "", "```", study["command"], "```", ""])


def render_html(study: StudyJson) -> str:
    """The page as text; everything that comes from the study is escaped."""
    names = [c["name"] for c in study["columns"]]
    rows = [(row, [shown(_cell(study, row, name)) for name in names]) for row in study["rows"]]
    return pages().get_template("study.html").render(
        study=study, rows=rows, paper=with_paper(study), sentences=study.get("sentences", ()), plots=plots(study),
        interval_note=_interval_note(study), notes=_notes(study), warnings=warnings(study),
        reductions=reductions(study),
    )  # fmt: skip


def warnings(study: StudyJson) -> list[str]:
    """What a reader must know before believing the figures; all notes of a learning curve are of that kind."""
    if study["scale"] == FIGURES_MEAN_NOTHING:
        return ["A smoke test: these figures mean nothing."]
    return [*(study["notes"] if study["scale"] == CURVE else ()), *study.get("warnings", ())]


def reductions(study: StudyJson) -> list[str]:
    """A line for each row whose average reduction of the error is told."""
    return [
        f"{one['row']}: {_fewer(one['percent'])} errors than {one['against']}, the mean of {one['columns']} data sets"
        + ("" if one["paper_percent"] is None else f"; in the paper {_fewer(one['paper_percent'])}")
        + "."
        for one in study.get("reductions", ())
    ]


def _fewer(percent: float) -> str:
    return f"{abs(percent):.2f} % {'fewer' if percent >= 0 else 'more'}"


def _notes(study: StudyJson) -> list[str]:
    return [] if study["scale"] == CURVE else study["notes"]


def plots(study: StudyJson) -> list[tuple[str, Markup]]:
    """The plots with their captions, as the study asks for."""
    if study["plot"] == "training":
        return [(f"{c['name']}, {said}", training_lines(study, c["name"], what))
                for c in study["columns"] for what, said in TRAINING.items()]  # fmt: skip
    if study["plot"] in ("over rows", "over columns"):
        return [(f"{study['unit'].capitalize()} over {study['axis']}", error_lines(study))]
    return [(column["name"], differences(study, column["name"])) for column in study["columns"]]


def summary(study: StudyJson) -> str:
    """The plain text that the command line prints at the end."""
    width, papers = max(len(row) for row in study["rows"]), with_paper(study)
    lines = [study["title"], *textwrap.wrap(study["about"], TABLE_WIDTH), ""]
    for column in study["columns"]:
        lines += textwrap.wrap(f"{column['name']}: {column['documents']}", TABLE_WIDTH)
        unit = f"{study['unit']}, here" if papers else study["unit"]
        lines.append(f"  {'':<{width}}  {unit:>26}" + (f"  {'paper':>6}" if papers else ""))
        for row in study["rows"]:
            here, paper = shown(_cell(study, row, column["name"]))
            if (here, paper) == (CITED, NOTHING):
                continue
            lines.append(f"  {row:<{width}}  {here:>26}" + (f"  {paper:>6}" if papers else ""))
        lines.append("")
    for said in reductions(study):
        lines += textwrap.wrap(said, TABLE_WIDTH, subsequent_indent="  ")
    for finding in study["findings"]:
        said = f"{finding['verdict']} ({finding['column']}): {finding['text']} {'; '.join(finding['reasons'])}"
        lines += textwrap.wrap(said, TABLE_WIDTH, subsequent_indent="  ")
    for warning in warnings(study):
        lines += textwrap.wrap(f"warning: {warning}", TABLE_WIDTH, subsequent_indent="  ")
    return "\n".join(lines)


def shown(cell: CellJson | None) -> tuple[str, str]:
    """What a cell shows of itself and of the paper."""
    if cell is None:
        return NOTHING, NOTHING
    paper = NOTHING if cell["paper"] is None else f"{cell['paper']:.2f}"
    if cell["error_percent"] is None or cell["interval_percent"] is None:
        return cell["absent"] or NOTHING, paper
    low, high = cell["interval_percent"]
    return f"{cell['error_percent']:.2f} ({low:.2f} to {high:.2f})", paper


def signed(values: list[float]) -> str:
    """A difference with its interval."""
    return f"{points(values[0])} ({points(values[1])} to {points(values[2])})"


def _cell(study: StudyJson, row: str, column: str) -> CellJson | None:
    return next((c for c in study["cells"] if (c["row"], c["column"]) == (row, column)), None)


def _interval_note(study: StudyJson) -> str:
    count = len(study["seeds"])
    if count > 1:
        return f"the 95 % interval of the mean over {count} seeds (Student's t)."
    return "the 95 % interval over the test documents (Wilson); one seed says nothing of other seeds."


def _number(place: float | None) -> str:
    return "" if place is None else f"{place:.10g}"


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
