"""`doctune multitask`: several data sets in, one jointly trained encoder and a tested classifier for each out."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from doctune.config import Tree, merge, read_toml
from doctune.devices import Device, choose_device
from doctune.distributed import World, open_world
from doctune.errors import UserError
from doctune.evaluation.multitask import MULTITASK_FILE, MultitaskReport, Seen, make_report
from doctune.evaluation.pretraining_section import further_pretraining
from doctune.evaluation.schema import PretrainingSection, Report
from doctune.files import write_json
from doctune.report.finetuning import write_report
from doctune.report.multitask import write_multitask
from doctune.runs import directory, reporting
from doctune.runs.fit import Fitted, fit
from doctune.runs.joint import FREE_TO_CHANGE, train_jointly
from doctune.runs.tasks import Task, find, left_out_line, prepare, resolve
from doctune.settings import MultitaskSettings, dotted_fields, flat_names, from_flat
from doctune.text.tokenizer import TextTokenizer

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

    On bad input nothing half-written stays. With `resume`, tasks that are finished are not repeated, and the training
    that was killed goes on from its checkpoint. Of several processes that torchrun started the first one writes; all
    give the report.
    """
    with open_world(settings.training.device) as world:
        return _run(settings, command, resume, world)


def _run(settings: MultitaskSettings, command: str, resume: bool, world: World) -> MultitaskReport:
    output = Path(settings.output).expanduser()
    world.broadcast_from_rank0(lambda: directory.check_output(output, resume, MULTITASK_FILE))
    settings, encoder_folder, tokenizer = world.rank0_first(lambda: resolve(settings))
    pretraining = further_pretraining(encoder_folder)
    training = settings.training
    device = world.all_or_raise(lambda: choose_device(world.device(training.device), training.precision))
    found = world.all_or_raise(lambda: find(settings))
    new = not output.exists()
    try:
        stages = 2 if settings.continuation.epochs > 0 else 1
        copies, facts = stages * len(settings.tasks), directory.environment(device, command, world.size)
        world.broadcast_from_rank0(
            lambda: directory.begin(output, settings, encoder_folder, copies, resume, facts, FREE_TO_CHANGE)
        )
        tasks = prepare(settings, found, tokenizer, output, world)
        joint = _joint(settings, tasks, tokenizer, encoder_folder, output, device, command, pretraining, world)
        continued: dict[str, Report] = {}
        for number, task in enumerate(tasks if stages == 2 else (), 1):
            folder = output / "continued" / task.name
            report = world.broadcast_from_rank0(partial(directory.finished, folder))
            if report is None:
                print(f"{task.name} alone ({number} of {len(tasks)})", file=sys.stderr)
                own = alone(settings, task)
                fitted = fit(
                    own.settings, own.prepared, tokenizer, own.collator, encoder_folder, folder,
                    settings.training.seed, device, False, output / "joint" / task.name / "model", world,
                )  # fmt: skip
                report = _report(settings, own, tokenizer, fitted, "continued", command, pretraining)
                if world.main:
                    write_report(folder, report)
            continued[task.name] = report
    except UserError:
        if world.main:
            _clean_up(output, new, resume)
        raise

    def report_all() -> MultitaskReport:
        counts = json.loads((output / SEEN).read_text(encoding="utf-8"))
        seen = {task.name: Seen(**counts[task.name], left_out=task.left_out) for task in tasks}
        result = make_report(output, seen, joint, continued, recipe(settings), command)
        write_multitask(output, result)
        return result

    return world.broadcast_from_rank0(report_all)


def _joint(
    settings: MultitaskSettings, tasks: Sequence[Task], tokenizer: TextTokenizer, encoder_folder: Path, output: Path,
    device: Device, command: str, pretraining: Sequence[PretrainingSection], world: World,
) -> dict[str, Report]:  # fmt: skip
    """The joint training, unless an earlier, killed run finished it; each task's report."""

    def finished() -> dict[str, Report]:
        there = {task.name: directory.finished(output / "joint" / task.name) for task in tasks}
        return {name: report for name, report in there.items() if report is not None}

    reports = world.broadcast_from_rank0(finished)
    if len(reports) == len(tasks):
        return reports
    trained = train_jointly(settings, tasks, tokenizer, encoder_folder, output, device, world)
    counts = {name: {"steps": trained.steps[name], "documents": trained.documents[name]} for name in trained.steps}
    if world.main:
        write_json(output / SEEN, counts)
    for task in tasks:
        report = _report(settings, task, tokenizer, trained.fitted[task.name], "joint", command, pretraining)
        reports[task.name] = report
        if world.main:
            write_report(output / "joint" / task.name, report)
    return reports


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


def _report(
    settings: MultitaskSettings, task: Task, tokenizer: TextTokenizer, fitted: Fitted, stage: str, command: str,
    pretraining: Sequence[PretrainingSection],
) -> Report:  # fmt: skip
    """The report of one task after one stage, as a run of its own has it."""
    report = reporting.single(task.settings, task.prepared, tokenizer, task.collator, fitted, command, pretraining)
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


def _clean_up(output: Path, new: bool, resume: bool) -> None:
    """Remove a run in which nothing was trained; what was trained stays, whatever went wrong behind it."""
    if (resume and not new) or any(output.glob("joint/*/model")):
        return
    shutil.rmtree(output, ignore_errors=True)
    if not new:
        output.mkdir(exist_ok=True)
