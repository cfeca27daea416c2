"""A comparison to read: compare.json, the page, the Markdown table, the plot, and the table on the terminal.

Everything here reads the `Comparison` dictionary only, so that an older compare.json can be shown again. What is on
the page are the files of `sections/comparison`.
"""

from __future__ import annotations

from pathlib import Path

from doctune.evaluation.comparison import Comparison
from doctune.evaluation.stored import complete
from doctune.files import write_json, write_text
from doctune.report.figure import standalone
from doctune.report.lines import escaped
from doctune.report.page import Page, chart_style, writable
from doctune.report.sections.comparison._rows import labels
from doctune.report.sections.comparison.steps import steps_plot

PLOT = "error-by-steps.svg"

PAGE = Page(
    folder="doctune.report.sections.comparison",
    template="comparison.html",
    kind=Comparison,
    heading=lambda comparison: f"Did further pre-training help? {escaped(comparison['title'])}",
    values=lambda comparison: {"labels": labels(comparison)},
)
render_html, markdown, summary_table = PAGE.html, PAGE.markdown, PAGE.text


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write compare.json, compare.html, compare.md, and error-by-steps.svg where several checkpoints are given."""
    safe = writable(comparison)
    write_json(folder / "compare.json", safe)
    write_text(folder / "compare.html", render_html(safe))
    write_text(folder / "compare.md", markdown(safe))
    plot = steps_plot(complete(safe, Comparison))
    if plot:
        write_text(folder / PLOT, standalone(plot, chart_style()))
