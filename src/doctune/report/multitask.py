"""The report of several tasks to read: multitask.json, the page, the Markdown table, the table on the terminal.

Everything here reads the `MultitaskReport` dictionary only, so that an older multitask.json can be shown again.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import cast

from markupsafe import Markup

from doctune.evaluation.comparison import points
from doctune.evaluation.multitask import MULTITASK_FILE, MultitaskReport, StageSection, TaskSection
from doctune.files import write_json, write_text
from doctune.progress import duration
from doctune.report.comparison_charts import Gap, differences
from doctune.report.finetuning import TABLE_WIDTH, pages, writable

NAME_WIDTH = 24
HEAD = ("task", "labels", "documents seen", "joint", "continued", "continued - joint, points", "use")


def write_multitask(folder: Path, report: MultitaskReport) -> None:
    """Write multitask.json, multitask.html and multitask.md."""
    safe = cast(MultitaskReport, writable(report))
    write_json(folder / MULTITASK_FILE, safe)
    write_text(folder / "multitask.html", render_html(safe))
    write_text(folder / "multitask.md", markdown(safe))


def render_html(report: MultitaskReport) -> str:
    """The page as text; everything that comes from the report is escaped."""
    gaps = [
        Gap(task["name"], task["difference"]["points"], task["difference"]["low"], task["difference"]["high"])
        for task in report["tasks"]
        if task["difference"] is not None
    ]
    what = _errors(report)
    return pages().get_template("multitask.html").render(
        report=report,
        tasks=[{**_row(task), "section": task} for task in report["tasks"]],
        what=what,
        differences=differences(gaps, what, "continued minus joint", "the joint model") if gaps else Markup(),
        left_out=[task for task in report["tasks"] if task["left_out"]],
        num_left_out=sum(sum(task["left_out"].values()) for task in report["tasks"]),
    )  # fmt: skip


def markdown(report: MultitaskReport) -> str:
    """A table and the warnings, to paste into notes."""
    what, means = _errors(report), report["mean_error_percent"]
    lines = [
        f"# {len(report['tasks'])} tasks on one encoder: {_escaped(report['title'])}",
        "",
        f"Figures: {what} %.",
        "",
    ]
    lines += [f"| {' | '.join(HEAD)} |", f"| --- | {'---: | ' * 5}--- |"]
    for task in report["tasks"]:
        row = _row(task)
        cells = [row[name] for name in ("name", "labels", "seen", "joint", "continued", "difference", "kept")]
        lines.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
    mean = f"{means['joint']:.2f}", f"{means['continued']:.2f}" if "continued" in means else "–"
    lines.append(f"| mean | | | {mean[0]} | {mean[1]} | | |")
    lines += ["", "Intervals in brackets: 95 %. The model to use is the one that did better on validation.", ""]
    lines += [f"- {_escaped(warning)}" for warning in report["warnings"]]
    return "\n".join([*lines, "", "```", report["command"], "```", ""])


def summary_table(report: MultitaskReport) -> str:
    """The plain text that the command line prints at the end; no line is wider than 100 columns."""
    rows = [_row(task) for task in report["tasks"]]
    means = report["mean_error_percent"]
    width = min(NAME_WIDTH, max(4, *(len(row["name"]) for row in rows)))
    lines = [
        f"{report['steps']:,} joint steps in {duration(report['train_seconds'])}; {_errors(report)} %",
        "",
        f"{'task':<{width}}  {'labels':>7}  {'joint':>22}  {'continued':>22}  use",
    ]
    for row in rows:
        name = row["name"] if len(row["name"]) <= width else f"{row['name'][: width - 1]}…"
        lines.append(f"{name:<{width}}  {row['labels']:>7}  {row['joint']:>22}  {row['continued']:>22}  {row['kept']}")
    continued = f"{means['continued']:.2f}" if "continued" in means else ""
    # Under the errors, not under their intervals.
    pad = len(" (00.00 to 00.00)")
    mean = f"{means['joint']:.2f}" + " " * pad, continued + " " * pad
    lines.append(f"{'mean':<{width}}  {'':>7}  {mean[0]:>22}  {mean[1]:>22}".rstrip())
    lines.append("")
    for task in report["tasks"]:
        if task["difference"] is not None:
            lines.append(f"{task['name']}: continued minus joint {_row(task)['difference']} points, 95 % interval")
    for warning in report["warnings"]:
        lines += textwrap.wrap(f"warning: {warning}", TABLE_WIDTH, subsequent_indent="  ")
    return "\n".join(line.rstrip() for line in lines)


def _row(task: TaskSection) -> dict[str, str]:
    """What the tables show of a task."""
    gain = task["difference"]
    return {
        "name": task["name"],
        "labels": f"{task['train']:,}",
        "seen": f"{task['documents']:,}",
        "joint": _error(task["joint"]),
        "continued": "–" if task["continued"] is None else _error(task["continued"]),
        "difference": "–"
        if gain is None
        else f"{points(gain['points'])} ({points(gain['low'])} to {points(gain['high'])})",
        "kept": task["kept"],
    }


def _error(stage: StageSection) -> str:
    low, high = stage["interval_percent"]
    return f"{stage['error_percent']:.2f} ({low:.2f} to {high:.2f})"


def _errors(report: MultitaskReport) -> str:
    """What the errors are of."""
    parts = {task["part"] for task in report["tasks"]}
    return "test error" if parts == {"test"} else "validation error" if parts == {"validation"} else "error"


def _escaped(text: str) -> str:
    """Markdown reads a bar as the end of a cell."""
    return " ".join(text.split()).replace("|", "\\|")
