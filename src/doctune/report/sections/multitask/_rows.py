"""What the tables show of each task."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.multitask import MultitaskReport, StageSection, TaskSection
from doctune.report.numbers import DASH, interval, signed_interval, whole


def rows(report: MultitaskReport) -> list[dict[str, Any]]:
    """The cells of each task's row, by name, and the task itself as `section`."""
    return [_row(task) for task in report["tasks"]]


def _row(task: TaskSection) -> dict[str, Any]:
    gain = task["difference"]
    return {
        "name": task["name"],
        "labels": whole(task["train"]),
        "seen": whole(task["documents"]),
        "joint": _error(task["joint"]),
        "continued": DASH if task["continued"] is None else _error(task["continued"]),
        "difference": DASH if gain is None else signed_interval(gain["points"], gain["low"], gain["high"]),
        "kept": task["kept"],
        "section": task,
    }


def _error(stage: StageSection) -> str:
    low, high = stage["interval_percent"][:2]
    return interval(stage["error_percent"], low, high)


def errors(report: MultitaskReport) -> str:
    """What the errors are of."""
    parts = {task["part"] for task in report["tasks"]}
    return "test error" if parts == {"test"} else "validation error" if parts == {"validation"} else "error"


def means(report: MultitaskReport) -> tuple[float | None, float | None]:
    """The mean errors of the tasks after the joint training and after the continuation."""
    by_stage = report["mean_error_percent"]
    return by_stage.get("joint"), by_stage.get("continued")
