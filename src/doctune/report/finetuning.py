"""The report of a run: report.json, the page made from it, and the table at the end of the command.

Everything here reads the `Report` dictionary only (its keys are in `schema`), so a report.json of an older run can
be shown again. What is on the page are the files of `sections/finetuning`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doctune.evaluation.schema import Report, judged
from doctune.files import write_json, write_text
from doctune.report.page import Page, writable

FOLDER = "doctune.report.sections.finetuning"


def _values(report: Report) -> dict[str, Any]:
    part, shown = judged(report)
    return {"part": part, "shown": shown}


PAGE = Page(folder=FOLDER, template="finetuning.html", kind=Report, values=_values)
render_html = PAGE.html
summary_table = PAGE.text


def write_report(run_dir: Path, report: Report) -> None:
    """Write the self-contained page `report.html` and then `report.json`, which says that all is there, into `run_dir`.

    A number that is not finite (the loss of a run that diverged) becomes null, which the page shows as a dash.
    """
    safe = writable(report)
    write_text(run_dir / "report.html", render_html(safe))
    write_json(run_dir / "report.json", safe)
