"""What multitask.json holds, and how it is made of the reports of the tasks.

Keys are stable: an older one must stay readable. Counts are documents, `_percent` is 0..100, accuracy and F1 are 0..1,
times are seconds; differences are points of error, below 0: fewer errors after the continuation.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

from doctune.evaluation.comparison import read_answers
from doctune.evaluation.intervals import is_collapsed, paired_bootstrap
from doctune.evaluation.schema import FORMAT, EncoderSection, Report
from doctune.metrics.single import Ends, Metrics
from doctune.version import __version__

MULTITASK_FILE = "multitask.json"
Stage = Literal["joint", "continued"]


class StageSection(TypedDict):
    """One task at its best checkpoint of a stage; `run` is the folder with model, predictions and report.

    `error_percent` and its interval are of the test set, or of validation where there is none.
    """

    run: str
    epoch: float
    step: int
    error_percent: float
    interval_percent: Ends
    macro_f1: float
    validation_error_percent: float
    validation_loss: float
    train_seconds: float
    collapsed: str | None


class ContinuationGain(TypedDict):
    """Continued minus joint, in points of error, with the 95 % interval of a paired bootstrap over documents."""

    points: float
    low: float
    high: float


class TaskSection(TypedDict):
    """One task. `steps` and `documents` are of the joint training, repetitions counted.

    `part` says what errors are of. `left_out` counts training documents that were test documents, by the task whose
    test set has them. `kept` is the stage that did better on validation: the model to use.
    """

    name: str
    part: Literal["test", "validation"]
    train: int
    validation: int
    test: int
    labels: list[str]
    left_out: dict[str, int]
    steps: int
    documents: int
    joint: StageSection
    continued: StageSection | None
    difference: ContinuationGain | None
    kept: Stage


class MultitaskReport(TypedDict):
    """All of multitask.json; `mean_error_percent` is over the tasks, by stage."""

    format: int
    doctune: str
    created: str
    title: str
    encoder: EncoderSection
    recipe: dict[str, str | int | float | bool | None]
    steps: int
    train_seconds: float
    tasks: list[TaskSection]
    mean_error_percent: dict[str, float]
    warnings: list[str]
    command: str


@dataclass(frozen=True, slots=True)
class Seen:
    """What the joint training saw of a task, and what it left out; the fields of `TaskSection` of these names."""

    steps: int
    documents: int
    left_out: dict[str, int]


def make_report(
    output: Path, seen: dict[str, Seen], joint: dict[str, Report], continued: dict[str, Report],
    recipe: dict[str, str | int | float | bool | None], command: str,
) -> MultitaskReport:  # fmt: skip
    """The report of all tasks, in the order of `seen`; `continued` is empty where there was no continuation."""
    tasks = [_task(output, name, one, joint[name], continued.get(name)) for name, one in seen.items()]
    means = {"joint": _mean([task["joint"]["error_percent"] for task in tasks])}
    ends = [task["continued"]["error_percent"] for task in tasks if task["continued"] is not None]
    if len(ends) == len(tasks):
        means["continued"] = _mean(ends)
    first = next(iter(joint.values()))
    stages = {"joint": joint, "continued": continued} if continued else {"joint": joint}
    warnings = []
    for name in seen:
        for warning in dict.fromkeys(said for reports in stages.values() for said in reports[name]["warnings"]):
            of = [stage for stage, reports in stages.items() if warning in reports[name]["warnings"]]
            warnings.append(f"{name}{'' if len(of) == len(stages) else f', {of[0]}'}: {warning}")
    return MultitaskReport(
        format=FORMAT,
        doctune=__version__,
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        title=", ".join(seen),
        encoder=first["encoder"],
        recipe=recipe,
        steps=sum(one.steps for one in seen.values()),
        train_seconds=first["time"]["train_seconds"],
        tasks=tasks,
        mean_error_percent=means,
        warnings=warnings,
        command=command,
    )


def _task(output: Path, name: str, seen: Seen, joint: Report, continued: Report | None) -> TaskSection:
    folders = output / "joint" / name, output / "continued" / name
    stages = _stage(joint, f"joint/{name}"), None if continued is None else _stage(continued, f"continued/{name}")
    difference, kept = None, "joint"
    if continued is not None:
        before, after = (read_answers(folder).correct for folder in folders)
        points, low, high = paired_bootstrap(after, before)
        difference = ContinuationGain(points=points, low=low, high=high)
        # By validation, never by test; the joint model on a tie, as it saw more.
        key = [(r["validation"]["error_percent"], r["validation"]["loss"]) for r in (joint, continued)]
        kept = "continued" if key[1] < key[0] else "joint"
    data = joint["data"]
    return TaskSection(
        name=name,
        part="validation" if joint["test"] is None else "test",
        train=data["train"],
        validation=data["validation"],
        test=data["test"],
        labels=data["labels"],
        left_out=seen.left_out,
        steps=seen.steps,
        documents=seen.documents,
        joint=stages[0],
        continued=stages[1],
        difference=difference,
        kept="continued" if kept == "continued" else "joint",
    )


def _stage(report: Report, run: str) -> StageSection:
    judged = report["test"] or report["validation"]
    return StageSection(
        run=run,
        epoch=report["best"]["epoch"],
        step=report["best"]["step"],
        error_percent=judged["error_percent"],
        interval_percent=judged["error_interval_percent"],
        macro_f1=judged["macro_f1"],
        validation_error_percent=report["validation"]["error_percent"],
        validation_loss=report["validation"]["loss"],
        train_seconds=report["time"]["train_seconds"],
        collapsed=is_collapsed(Metrics.from_json(judged)),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
