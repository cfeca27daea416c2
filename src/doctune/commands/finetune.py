"""`doctune finetune`: labelled documents in, a tested and usable classifier out."""

from __future__ import annotations

import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Any

from doctune.batches.collate import make_collator
from doctune.classifier.folder import link_model
from doctune.config import merge, read_toml
from doctune.devices import choose_device
from doctune.distributed import World, open_world
from doctune.errors import UserError
from doctune.evaluation.pretraining_section import further_pretraining
from doctune.evaluation.schema import Report
from doctune.readers import sources
from doctune.report.finetuning import write_report
from doctune.runs import reporting
from doctune.runs.data import Documents, read, split
from doctune.runs.directory import begin, check_output, clean_up, environment, finished
from doctune.runs.fit import fit
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

    On bad input nothing half-written stays, but seeds that are finished do. With `resume`, finished seeds are not
    repeated, and the one that was killed goes on from its checkpoint. `documents` are those of the settings, if they
    have been read before. Of several processes that torchrun started the first one writes; all give the report.
    """
    with open_world(settings.training.device) as world:
        return _run(settings, command, resume, documents, world)


def _run(settings: FinetuneSettings, command: str, resume: bool, documents: Documents | None, world: World) -> Report:
    output = Path(settings.output).expanduser()
    world.broadcast_from_rank0(lambda: check_output(output, resume))
    settings, encoder_folder, tokenizer = world.rank0_first(lambda: resolve(settings))
    pretraining = further_pretraining(encoder_folder)
    training = settings.training
    device = world.all_or_raise(lambda: choose_device(world.device(training.device), training.precision))
    collator = make_collator(tokenizer, settings.truncation)
    found = world.all_or_raise(lambda: sources(settings.data))
    new = not output.exists()
    try:
        facts = environment(device, command, world.size)
        world.broadcast_from_rank0(lambda: begin(output, settings, encoder_folder, training.seeds, resume, facts))
        if documents is None:
            documents = read(settings.data, settings.target, found, tokenizer, output / "shards", world)
        first, count = training.seed, training.seeds
        seeds = range(first, first + count)
        folders = [output if count == 1 else output / f"seed-{seed}" for seed in seeds]
        # Every seed's data before any training: what is wrong with one of them must not cost the hours of the others.
        data = [split(settings, documents, seed) for seed in seeds]
        reports: list[Report] = []
        for seed, folder, prepared in zip(seeds, folders, data, strict=True):
            report = world.broadcast_from_rank0(partial(finished, folder))
            if report is None:
                if count > 1:
                    print(f"seed {seed} ({len(reports) + 1} of {count})", file=sys.stderr)
                fitted = fit(
                    settings, prepared, tokenizer, collator, encoder_folder, folder, seed, device, not reports, None,
                    world,
                )  # fmt: skip
                report = reporting.single(settings, prepared, tokenizer, collator, fitted, command, pretraining)
                if world.main:
                    write_report(folder, report)
            reports.append(report)
    except UserError:
        if world.main and (new or not resume):
            clean_up(output, new)
        raise
    if count == 1:
        return reports[0]
    report = reporting.several(reports, seeds, [folder.name for folder in folders])
    if world.main:
        best = folders[reporting.best_seed(reports)]
        link_model(best / "model", output / "model")
        shutil.copyfile(best / "predictions.jsonl", output / "predictions.jsonl")
        write_report(output, report)
    return report
