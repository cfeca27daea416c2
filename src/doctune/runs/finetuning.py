"""`doctune finetune`: labelled documents in, a tested and usable classifier out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doctune.batches.collate import make_collator
from doctune.classifier.folder import link_model
from doctune.config import merge, read_toml
from doctune.distributed import World, open_world
from doctune.evaluation.schema import Report
from doctune.readers import sources
from doctune.report.finetuning import write_report
from doctune.runs import reporting
from doctune.runs.context import RunContext
from doctune.runs.data import Documents, read, split
from doctune.runs.directory import FINETUNE, MODEL, SHARDS, RunDirectory, finished, remove_checkpoint
from doctune.runs.fit import SeedRun, fit
from doctune.runs.identity import run_identity
from doctune.runs.resolve import resolve
from doctune.settings import FinetuneSettings, from_flat


def finetune(
    config: str | Path | None = None, *, resume: bool = False, command: str = "doctune.finetune", **settings: Any
) -> Report:
    """Fine-tune an encoder and test it; the report that is also written to the run directory.

    `config` is a TOML file; `settings` are names of `doctune.settings`, for instance `train="a.csv", encoder="minilm",
    output="runs/a", epochs=3`, and win over the file. `resume` goes on with a run that was killed. Raises `UserError`
    with one clear line for bad input.
    """
    tree = merge({} if config is None else read_toml(Path(config)), from_flat(settings))
    return run(FinetuneSettings.build(tree), command, resume)


def run(settings: FinetuneSettings, command: str, resume: bool = False, documents: Documents | None = None) -> Report:
    """Everything from settings to report.

    After an error nothing half-written stays, but all that was made does once there is a checkpoint, a model or a
    report. With `resume`, finished seeds are not repeated, and the one that was killed goes on from its checkpoint.
    `documents` are those of the settings, if they have been read before. Of several processes that torchrun started the
    first one writes; all give the report.
    """
    with open_world(settings.training.device) as world:
        return _run(settings, command, resume, documents, world)


def _run(settings: FinetuneSettings, command: str, resume: bool, documents: Documents | None, world: World) -> Report:
    with RunDirectory.open(settings.output, FINETUNE, resume, world) as place:
        settings, encoder, tokenizer = world.rank0_first(lambda: resolve(settings))
        context = RunContext.of(command, encoder, tokenizer, settings.training, world)
        collator = make_collator(tokenizer, settings.truncation)
        found = world.all_or_raise(lambda: sources(settings.data))
        identity = run_identity(world, settings, FINETUNE.free, encoder, tokenizer.hash, {"": (settings.data, found)})
        place.begin(settings, identity, settings.training.seeds, context)
        if documents is None:
            documents = read(settings.data, settings.target, found, tokenizer, place.output / SHARDS, world)
        first, count = settings.training.seed, settings.training.seeds
        # Every seed's data before any training: what is wrong with one of them must not cost the hours of the others.
        prepared = {seed: split(settings, documents, seed) for seed in range(first, first + count)}
        reports: dict[str, Report] = {}
        for seed, data in prepared.items():
            folder = place.output if count == 1 else place.output / f"seed-{seed}"
            one = SeedRun(settings, data, collator, seed, folder, identity, announce=not reports)
            reports[folder.name] = _seed(one, context, f"seed {seed} ({len(reports) + 1} of {count})")
        if count == 1:
            return reports[place.output.name]
        return _all_seeds(place.output, settings.training.select, reports, list(prepared), world)


def _seed(one: SeedRun, context: RunContext, which: str) -> Report:
    """The report of one seed, which is trained unless an earlier, killed run finished it."""
    world = context.world
    report = world.broadcast_from_rank0(lambda: finished(one.folder, one.identity))
    if report is not None:
        return report
    if one.settings.training.seeds > 1:
        print(which, file=sys.stderr)
    fitted = fit(one, context)
    report = reporting.single(
        one.settings, one.prepared, context.tokenizer, one.collator, fitted, context.command, context.pretraining
    )
    if world.main:
        write_report(one.folder, report)
        remove_checkpoint(one.folder)
    return report


def _all_seeds(output: Path, select: str, reports: dict[str, Report], seeds: Sequence[int], world: World) -> Report:
    """The report of all seeds, beside the model and the predictions of the best."""
    each = list(reports.values())
    best = reporting.best_seed(each, select)
    report = reporting.several(each, seeds, list(reports), best)
    if world.main:
        folder = output / list(reports)[best]
        link_model(folder / MODEL, output / MODEL)
        shutil.copyfile(folder / "predictions.jsonl", output / "predictions.jsonl")
        write_report(output, report)
    return report
