"""The report of several tasks to read: multitask.json, the page, the Markdown table, the table on the terminal.

Everything here reads the `MultitaskReport` dictionary only, so that an older multitask.json can be shown again. What
is on the page are the files of `sections/multitask`.
"""

from __future__ import annotations

from pathlib import Path

from doctune.evaluation.multitask import MULTITASK_FILE, MultitaskReport
from doctune.files import write_json, write_text
from doctune.report.lines import escaped
from doctune.report.page import Page, writable

PAGE = Page(
    folder="doctune.report.sections.multitask",
    template="multitask.html",
    kind=MultitaskReport,
    heading=lambda report: f"{len(report['tasks'])} tasks on one encoder: {escaped(report['title'])}",
)
render_html, markdown, summary_table = PAGE.html, PAGE.markdown, PAGE.text


def write_multitask(folder: Path, report: MultitaskReport) -> None:
    """Write multitask.json, multitask.html and multitask.md."""
    safe = writable(report)
    write_json(folder / MULTITASK_FILE, safe)
    write_text(folder / "multitask.html", render_html(safe))
    write_text(folder / "multitask.md", markdown(safe))
