"""Where a run lives: its directory is begun, gone on with and cleaned up here, for all commands."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from doctune.config import Settings, Tree, read_toml, write_toml
from doctune.devices import Device
from doctune.encoders.load import float32_size
from doctune.errors import ConfigError, UserError
from doctune.evaluation.schema import Report
from doctune.evaluation.stored import read_report
from doctune.files import no_space_is_one_line, write_json
from doctune.version import __version__


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
    return read_report(path)


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


def clean_up(output: Path, new: bool) -> None:
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
        "doctune": __version__,
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
