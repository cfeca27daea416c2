"""`doctune multitask`: several data sets in, one jointly trained encoder and a tested classifier for each out."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from doctune.config import Tree, merge, read_toml
from doctune.distributed import World, open_world
from doctune.evaluation.multitask import MultitaskReport, Seen, make_report
from doctune.evaluation.schema import Report
from doctune.files import write_json
from doctune.report.finetuning import write_report
from doctune.report.multitask import write_multitask
from doctune.runs import reporting
from doctune.runs.context import RunContext
from doctune.runs.directory import MODEL, MULTITASK, RunDirectory, finished, remove_checkpoint
from doctune.runs.fit import Fitted, SeedRun, fit
from doctune.runs.identity import run_identity
from doctune.runs.joint import JointRun, train_jointly
from doctune.runs.tasks import Task, find, left_out_line, prepare, resolve_tasks
from doctune.settings import MultitaskSettings, dotted_fields, flat_names, from_flat

SEEN = "joint/seen.json"
ELSEWHERE = ("output", "tasks", "encoder.encoder", "training.seed", "training.seeds")


def multitask(
    config: str | Path | None = None, *, resume: bool = False, command: str = "doctune.multitask", **settings: Any
) -> MultitaskReport:
    """Fine-tune an encoder on several tasks at once, then on each alone; the report that is also multitask.json.

    `config` is a TOML file; `settings` are names of `doctune.settings`, for instance `tasks=[{"name": "a", "data":
    {"train": "a.csv"}}, ...], encoder="minilm", output="runs/a"`, and win over the file. `resume` goes on with a run
    that was killed. Raises `UserError` with one clear line for bad input.
    """
    tree = merge({} if config is None else read_toml(Path(config)), from_flat(settings, MultitaskSettings))
    return run(MultitaskSettings.build(tree), command, resume)


def run(settings: MultitaskSettings, command: str, resume: bool = False) -> MultitaskReport:
    """Everything from settings to report.

    After an error nothing half-written stays, but all that was made does once there is a checkpoint, a model or a
    report. With `resume`, tasks that are finished are not repeated, and the training
    that was killed goes on from its checkpoint. Of several processes that torchrun started the first one writes; all
    give the report.
    """
    with open_world(settings.training.device) as world:
        return _run(settings, command, resume, world)


def _run(settings: MultitaskSettings, command: str, resume: bool, world: World) -> MultitaskReport:
    with RunDirectory.open(settings.output, MULTITASK, resume, world) as place:
        settings, encoder, tokenizer = world.rank0_first(lambda: resolve_tasks(settings))
        context = RunContext.of(command, encoder, tokenizer, settings.training, world)
        found = world.all_or_raise(lambda: find(settings))
        documents = {task.name: (task.data, found[task.name]) for task in settings.tasks}
        identity = run_identity(world, settings, MULTITASK.free, encoder, tokenizer.hash, documents)
        stages = 2 if settings.continuation.epochs > 0 else 1
        place.begin(settings, identity, stages * len(settings.tasks), context)
        tasks = prepare(settings, found, tokenizer, place.output, world)
        run = JointRun(settings, tasks, place.output, identity)
        joint = _joint(run, context)
        continued: dict[str, Report] = {}
        for number, task in enumerate(tasks if stages == 2 else (), 1):
            continued[task.name] = _continued(run, task, context, f"{task.name} alone ({number} of {len(tasks)})")
        return world.broadcast_from_rank0(lambda: _report_all(run, joint, continued, command))


def _joint(run: JointRun, context: RunContext) -> dict[str, Report]:
    """The joint training, unless an earlier, killed run finished it; each task's report."""

    def all_finished() -> dict[str, Report]:
        there = {task.name: finished(run.folder(task.name), run.identity) for task in run.tasks}
        return {name: report for name, report in there.items() if report is not None}

    reports = context.world.broadcast_from_rank0(all_finished)
    if len(reports) == len(run.tasks):
        return reports
    trained = train_jointly(run, context)
    counts = {name: {"steps": trained.steps[name], "documents": trained.documents[name]} for name in trained.steps}
    if context.world.main:
        write_json(run.output / SEEN, counts)
    for task in run.tasks:
        report = _report(run.settings, task, trained.fitted[task.name], "joint", context)
        reports[task.name] = report
        if context.world.main:
            write_report(run.folder(task.name), report)
    if context.world.main:
        remove_checkpoint(run.output)
    return reports


def _continued(run: JointRun, task: Task, context: RunContext, which: str) -> Report:
    """The report of a task after training on it alone, unless an earlier, killed run has it."""
    folder, world = run.output / "continued" / task.name, context.world
    report = world.broadcast_from_rank0(lambda: finished(folder, run.identity))
    if report is not None:
        return report
    print(which, file=sys.stderr)
    own = alone(run.settings, task)
    one = SeedRun(
        own.settings, own.prepared, own.collator, run.settings.training.seed, folder, run.identity,
        start=run.folder(task.name) / MODEL,
    )  # fmt: skip
    report = _report(run.settings, own, fit(one, context), "continued", context)
    if world.main:
        write_report(folder, report)
        remove_checkpoint(folder)
    return report


def _report_all(run: JointRun, joint: dict[str, Report], continued: dict[str, Report], command: str) -> MultitaskReport:
    """The report of all tasks, written."""
    counts = json.loads((run.output / SEEN).read_text(encoding="utf-8"))
    seen = {task.name: Seen(**counts[task.name], left_out=task.left_out) for task in run.tasks}
    result = make_report(run.output, seen, joint, continued, recipe(run.settings), command)
    write_multitask(run.output, result)
    return result


def alone(settings: MultitaskSettings, task: Task) -> Task:
    """A task with the settings of its continuation: fewer epochs at a lower rate, also where layers have their own."""
    rate, joint_rate = settings.continuation.learning_rate, settings.optimizer.learning_rate
    assert rate is not None
    assert joint_rate is not None
    changes: dict[str, Tree] = {
        "optimizer": {"learning_rate": rate}, "training": {"epochs": settings.continuation.epochs},
    }  # fmt: skip
    if settings.layerwise.layer_rates is not None:
        lowered = tuple(one * rate / joint_rate for one in settings.layerwise.layer_rates)
        changes["layerwise"] = {"layer_rates": lowered}
    of = next(one for one in settings.tasks if one.name == task.name)
    return Task(task.name, settings.task(of, **changes), task.collator, task.prepared, task.left_out)


def recipe(settings: MultitaskSettings) -> dict[str, str | int | float | bool | None]:
    """The settings that make the recipe, flat, with the names of the command line."""
    shown: dict[str, str | int | float | bool | None] = {}
    fields = dotted_fields(MultitaskSettings)
    for name, dotted in flat_names(MultitaskSettings).items():
        if dotted.startswith(ELSEWHERE):
            continue
        value: Any = settings
        for part in dotted.split("."):
            value = getattr(value, part)
        if value is not None and not reporting.hidden(dotted, value, fields[dotted].default):
            shown[name] = ", ".join(map(str, value)) if isinstance(value, tuple) else value
    return shown


def _report(settings: MultitaskSettings, task: Task, fitted: Fitted, stage: str, context: RunContext) -> Report:
    """The report of one task after one stage, as a run of its own has it."""
    report = reporting.single(
        task.settings, task.prepared, context.tokenizer, task.collator, fitted, context.command, context.pretraining
    )
    others = ", ".join(one.name for one in settings.tasks if one.name != task.name)
    what = f"with {others}" if stage == "joint" else f"alone, after joint training with {others}"
    warnings = list(report["warnings"])
    if task.left_out:
        said = left_out_line(task.left_out)
        warnings.append(f"The leak guard {said}.")
    return {
        **report, "title": f"{task.name}, {what}", "warnings": warnings,
        "recipe": {**report["recipe"], "stage": stage, **settings.sampling.model_dump(exclude_none=True)},
    }  # fmt: skip
