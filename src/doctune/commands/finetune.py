"""`doctune finetune`: labelled documents in, a tested and usable classifier out."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import doctune
from doctune.commands import reporting
from doctune.commands.fit import fit
from doctune.commands.prepare import Documents, check_fit, make_collator, read, split
from doctune.config import Settings, Tree, merge, read_toml, write_toml
from doctune.devices import Device, choose_device
from doctune.distributed import World, open_world
from doctune.encoders.load import asked_layers, float32_size, read_shape
from doctune.encoders.resolve import resolve_encoder
from doctune.errors import ConfigError, UserError
from doctune.evaluation.pretraining_section import further_pretraining
from doctune.evaluation.report import write_report
from doctune.evaluation.schema import Report
from doctune.files import no_space_is_one_line, write_json
from doctune.models.folder import link_model
from doctune.readers import sources
from doctune.settings import FinetuneSettings, from_flat
from doctune.text.tokenizer import TextTokenizer
from doctune.training.layerwise import default_learning_rate


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
    world.from_main(lambda: check_output(output, resume))
    settings, encoder_folder, tokenizer = world.main_first(lambda: resolve(settings))
    pretraining = further_pretraining(encoder_folder)
    training = settings.training
    device = world.together(lambda: choose_device(world.device(training.device), training.precision))
    collator = make_collator(tokenizer, settings.truncation)
    found = world.together(lambda: sources(settings.data))
    new = not output.exists()
    try:
        facts = environment(device, command, world.size)
        world.from_main(lambda: begin(output, settings, encoder_folder, training.seeds, resume, facts))
        if documents is None:
            documents = read(settings.data, found, tokenizer, output / "shards", world)
        first, count = training.seed, training.seeds
        seeds = range(first, first + count)
        folders = [output if count == 1 else output / f"seed-{seed}" for seed in seeds]
        # Every seed's data before any training: what is wrong with one of them must not cost the hours of the others.
        data = [split(settings, documents, seed) for seed in seeds]
        reports: list[Report] = []
        for seed, folder, prepared in zip(seeds, folders, data, strict=True):
            report = world.from_main(partial(finished, folder))
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
            _clean_up(output, new)
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


def begin(
    output: Path, settings: Settings, encoder_folder: Path, copies: int, resume: bool, facts: Tree,
    free: Mapping[str, Any] | None = None,
) -> None:  # fmt: skip
    """Make the run directory, check that so many copies of the weights fit, and write what the run is.

    That is before the documents are tokenised: a run that is killed then must be known as one, too.
    """
    with no_space_is_one_line(output):
        output.mkdir(parents=True, exist_ok=True)
    check_space(output, encoder_folder, copies)
    if resume:
        check_same(settings, output / "config.toml", FREE_TO_CHANGE if free is None else free)
    write_toml(output / "config.toml", settings)
    write_json(output / "environment.json", facts)


def finished(folder: Path) -> Report | None:
    """The report of a seed that an earlier, killed run finished."""
    path = folder / "report.json"
    if not path.is_file() or not (folder / "model").is_dir():
        return None
    report: Report = json.loads(path.read_text(encoding="utf-8"))
    return report


def resolve(settings: FinetuneSettings) -> tuple[FinetuneSettings, Path, TextTokenizer]:
    """Fill in what depends on the encoder (learning rate, token pooling) and check that everything fits."""
    folder = resolve_encoder(settings.encoder.encoder, settings.encoder.revision)
    shape = read_shape(folder)
    tokenizer = TextTokenizer.load(folder)
    tree = settings.model_dump()
    if "max_seq_len" not in settings.truncation.model_fields_set:
        # The default is the paper's, or all that a smaller encoder has.
        tree["truncation"]["max_seq_len"] = min(settings.truncation.max_seq_len, shape.max_seq_len)
    check_fit(tokenizer, shape, tree["truncation"]["max_seq_len"], str(folder))
    asked_layers(settings.features.layers, shape.num_layers)  # told before hours of reading
    if settings.optimizer.learning_rate is None:
        on_fixed_states = settings.features.head == "bilstm" and settings.layerwise.freeze_encoder
        tree["optimizer"]["learning_rate"] = default_learning_rate(shape.hidden_size, on_fixed_states)
    if settings.features.token_pooling == "auto" and settings.features.head == "linear":
        tree["features"]["token_pooling"] = "mean" if _pools_by_mean(folder) else "pooler"
    return FinetuneSettings.build(tree), folder, tokenizer


def _pools_by_mean(folder: Path) -> bool:
    """Whether the folder is a sentence-transformers model that was trained with mean pooling."""
    path = folder / "1_Pooling" / "config.json"
    try:
        return bool(json.loads(path.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens"))
    except (OSError, ValueError, AttributeError):
        return False


def check_output(output: Path, resume: bool = False, last: str = "report.json") -> None:
    """The output directory must be new or empty, or hold a killed run to resume, without the file written `last`."""
    if output.is_file():
        raise ConfigError(f"output: {output} is a file; give a new or empty directory")
    if output.is_dir() and any(output.iterdir()):
        unfinished = (output / "config.toml").is_file() and not (output / last).is_file()
        if resume and (output / "config.toml").is_file():
            return
        raise not_empty(output, "run" if unfinished else None)


def not_empty(output: Path, begun: str | None) -> ConfigError:
    """The error for an output directory that is in use, with what to do; `begun`: what could be gone on with in it."""
    go_on = "" if begun is None else f", or go on with the {begun} in it with --resume"
    ways = f"{'' if begun else 'or '}remove what is there{go_on}"
    return ConfigError(f"output: {output} is not empty; give a new directory, {ways}")


# What may differ between a run and its continuation.
FREE_TO_CHANGE = {"output": True, "data": {"cache"}, "training": {"seeds", "checkpoint_minutes", "device"}}


def check_same(settings: Settings, path: Path, free: Mapping[str, Any] = FREE_TO_CHANGE) -> None:
    """A resumed run must have the settings that it began with, but for those that are `free` to change."""
    if not path.is_file():
        return
    old = type(settings).build(read_toml(path)).model_dump(mode="json", exclude=dict(free))
    new = settings.model_dump(mode="json", exclude=dict(free))
    for section, values in new.items():
        for name, value in values.items() if isinstance(values, dict) else ():
            if old[section][name] != value:
                raise ConfigError(
                    f"{section}.{name}: {value!r}, but the run in {path.parent} has {old[section][name]!r}; "
                    f"resume with the same settings (--config {path}), or give a new --output"
                )
        if not isinstance(values, dict) and old[section] != values:
            raise ConfigError(
                f"{section}: not those of the run in {path.parent}; resume with the same settings (--config {path}), "
                f"or give a new --output"
            )


def check_space(output: Path, encoder_folder: Path, copies: int) -> None:
    """Refuse to train what could not be saved: so many copies of the encoder's weights in float32."""
    size = sum(map(float32_size, encoder_folder.glob("*.safetensors")))
    needed, free = int(1.1 * size * copies), shutil.disk_usage(output).free
    if free < needed:
        raise UserError(
            f"{output}: no space left on the disk for the model: {needed / 2**20:,.0f} MiB are needed, "
            f"{free / 2**20:,.0f} MiB are free"
        )


def _clean_up(output: Path, new: bool) -> None:
    """Remove an unfinished run; a model that was trained stays, whatever went wrong behind it."""
    if (output / "model").is_dir():
        return
    finished = {path.parent for path in output.glob("seed-*/model")}
    if not finished:
        shutil.rmtree(output, ignore_errors=True)
        if not new:
            output.mkdir(exist_ok=True)
        return
    for folder in output.glob("seed-*"):
        if folder not in finished:
            shutil.rmtree(folder, ignore_errors=True)


def environment(device: Device, command: str, processes: int = 1) -> Tree:
    """What a run depended on besides its settings."""
    packages = ("torch", "transformers", "tokenizers", "safetensors", "pyarrow", "numpy")
    return {
        "doctune": doctune.__version__,
        "command": command,
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "device": str(device.torch),
        "gpu": torch.cuda.get_device_name(device.torch) if device.torch.type == "cuda" else None,
        "precision": device.precision,
        "packages": {name: version(name) for name in packages},
    }
