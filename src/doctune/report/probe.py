"""Probes to read: probe.json, the page, the Markdown table, and the table on the terminal.

Everything here reads the `Probe` dictionary only, so that an older probe.json can be shown again. What is on the page
are the files of `sections/probe`.
"""

from __future__ import annotations

from pathlib import Path

from doctune.evaluation.probe import Probe
from doctune.files import write_json, write_text
from doctune.report.lines import escaped
from doctune.report.numbers import value
from doctune.report.page import Page, writable
from doctune.report.sections.probe._rows import labels

PAGE = Page(
    folder="doctune.report.sections.probe",
    template="probe.html",
    kind=Probe,
    heading=lambda probe: f"Which layer to fine-tune? {escaped(probe['title'])}",
    values=lambda probe: {"labels": value(labels(probe))},
    ending=lambda probe: ["", f"  {probe['finetune']}"],
)
render_html, markdown, summary_table = PAGE.html, PAGE.markdown, PAGE.text


def write_probe(folder: Path, probe: Probe) -> None:
    """Write probe.json, probe.html and probe.md."""
    safe = writable(probe)
    write_json(folder / "probe.json", safe)
    write_text(folder / "probe.html", render_html(safe))
    write_text(folder / "probe.md", markdown(safe))
