"""Where a run lives: its directory is begun, gone on with and cleaned up here, for all commands.

Nothing else removes what a run made. After an error only what this very start made is removed, file by file, and
nothing at all once there is a checkpoint, a model or a report: then the error says what was kept and how to go on.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import shutil
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import torch

from doctune.config import Settings, Tree, read_toml, to_toml, write_toml
from doctune.devices import Device
from doctune.distributed import World
from doctune.encoders.load import float32_size
from doctune.errors import ConfigError, UserError
from doctune.evaluation.multitask import MULTITASK_FILE
from doctune.evaluation.schema import Report
from doctune.evaluation.stored import read_report
from doctune.files import disk_is_full, no_space_is_one_line, write_json
from doctune.runs.context import RunContext
from doctune.runs.identity import FILE as IDENTITY
from doctune.runs.identity import PLACES, Free, Identity, without, written
from doctune.version import __version__

CONFIG, ENVIRONMENT, REPORT, PROBE = "config.toml", "environment.json", "report.json", "probe.json"
MODEL, CHECKPOINT, SNAPSHOTS = "model", "checkpoint", "snapshots"
WARMED_UP, WARMING_UP = "warmed-up", "checkpoint-heads"
SHARDS, TOKENISED, UNTRAINED = "shards", "tokenised", "untrained"
# How an error says that something outlived it.
KEPT = "; kept in "
MOST_NAMED = 6


@dataclass(frozen=True, slots=True)
class Kind:
    """What the run directory of a command holds.

    `last` is the file that is written last; `made` are patterns of all files that there may be before anything is worth
    keeping; `free` are the settings that may differ between a run and its continuation.
    """

    last: str
    made: tuple[str, ...]
    free: Free = field(default_factory=dict)
    resumable: bool = True


def _tokenised(folder: str) -> tuple[str, ...]:
    """The files of tokenised documents in a folder."""
    name = "[0-9a-f]" * 16
    splits = [f"{folder}/{split}-{name}{end}" for split in ("train", "validation", "test")
              for end in (".arrow", ".empty", ".lock")]  # fmt: skip
    return (*splits, f"{folder}/documents-{name}.json")


def _trained(folder: str) -> tuple[str, ...]:
    """The files of one training in a folder, before its model is there."""
    names = ("metrics.jsonl", "metrics-heads.jsonl", "predictions.jsonl", IDENTITY, "tensorboard/events.out.tfevents.*",
             "tensorboard/heads/events.out.tfevents.*")  # fmt: skip
    return tuple(f"{folder}{name}" for name in names)


_DATA = dict.fromkeys(PLACES, True)
_ENCODER = {"encoder": True, "revision": True}
_BEGUN = (CONFIG, ENVIRONMENT, *_trained(""))
FINETUNE = Kind(
    REPORT, (*_BEGUN, *_tokenised(SHARDS), *_trained("seed-*/")),
    {"output": True, "data": _DATA, "encoder": _ENCODER,
     "training": dict.fromkeys(("seeds", "checkpoint_minutes", "device"), True)},
)  # fmt: skip
MULTITASK = Kind(
    MULTITASK_FILE,
    (*_BEGUN, "leaks.jsonl", *_tokenised(f"{SHARDS}/*"), *_trained("joint/*/")),
    {"output": True, "tasks": {"*": {"data": _DATA}}, "encoder": _ENCODER,
     "training": dict.fromkeys(("checkpoint_minutes", "device"), True)},
)  # fmt: skip
# The budget, too, may differ: a run can be prolonged.
PRETRAIN = Kind(
    REPORT,
    (*_BEGUN, f"{UNTRAINED}/config.json", f"{UNTRAINED}/model.safetensors", f"{UNTRAINED}/tokenizer.json",
     f"{UNTRAINED}/tokenizer_config.json"),
    {"output": True, "corpus": True, "start": _ENCODER,
     "training": dict.fromkeys(("checkpoint_minutes", "device", "steps", "tokens", "minutes", "evaluations",
                                "snapshots", "save_dtype"), True)},
)  # fmt: skip
PROBING = Kind(CONFIG, (CONFIG, *_tokenised(SHARDS)), resumable=False)
# These are made of run directories, which clean up after themselves.
COMPARE = Kind("compare.json", _tokenised(TOKENISED))
CURVE = Kind("curve.json", _tokenised(f"runs/{TOKENISED}"), resumable=False)


class RunDirectory:
    """The directory of one start of a command; `going_on` if an earlier start of the same run has begun it.

    Of several processes in `world` the first one touches the disk, and all raise what it finds wrong.
    """

    def __init__(self, output: str | Path, kind: Kind, resume: bool, world: World) -> None:
        self.output, self.kind, self.resume, self.world = Path(output).expanduser(), kind, resume, world
        self.new = not self.output.exists()
        self.there = frozenset(self.output.rglob("*")) if self.output.is_dir() else frozenset()
        self.going_on = self.kind.resumable and resume and (self.output / CONFIG).is_file()
        self.begun = False

    @classmethod
    @contextlib.contextmanager
    def open(cls, output: str | Path, kind: Kind, resume: bool, world: World) -> Iterator[RunDirectory]:
        """The directory for as long as the run lasts; `ConfigError` if it is in use.

        An error of the user's inside the block cleans up; so does a full disk, which becomes one line.
        """
        place = cls(output, kind, resume, world)
        world.broadcast_from_rank0(place.check)
        with place.cleaned_up():
            yield place

    @contextlib.contextmanager
    def cleaned_up(self) -> Iterator[None]:
        """After an error inside the block remove what this start made, or say what is kept."""
        try:
            yield
        except Exception as error:
            if not (isinstance(error, UserError) or disk_is_full(error)):
                raise
            if isinstance(error, UserError):
                told = error
            else:
                where = getattr(error, "filename", None) or self.output
                told = UserError(f"{where}: no space left on the disk; nothing half-written was kept")
            final = self._after(told) if self.begun and self.world.main else told
            if final is error:
                raise
            raise final from error

    def check(self) -> None:
        """The directory must be new or empty, or hold a killed run to go on with."""
        if self.output.is_file():
            raise ConfigError(f"output: {self.output} is a file; give a new or empty directory")
        # A start that was killed while it wrote its first file has left nothing else.
        if self.going_on or all(path.name.startswith(f".{CONFIG}.") for path in self.there):
            return
        begun = self.kind.resumable and (self.output / CONFIG).is_file()
        unfinished = begun and not (self.output / self.kind.last).is_file()
        raise not_empty(self.output, "run" if unfinished else None)

    def make(self, settings: Settings | None = None) -> None:
        """Make the directory, and let it say at once what run it is; one to go on with must have these settings."""
        self.world.broadcast_from_rank0(lambda: self._make(settings))

    def _make(self, settings: Settings | None) -> None:
        self.begun = not self.going_on  # until it is known to be the same run nothing is said of it
        with no_space_is_one_line(self.output):
            self.output.mkdir(parents=True, exist_ok=True)
        if settings is not None and self.going_on:
            check_same(settings, self.output / CONFIG, self.kind.free)
        elif settings is not None:
            write_toml(self.output / CONFIG, settings)

    def begin(self, settings: Settings, identity: Identity, copies: int, context: RunContext) -> None:
        """Begin the run, or go on with it: it must be the same by its settings and by its content.

        Checks that so many copies of the weights fit, and writes what the run is before the documents are tokenised: a
        run that is killed then must be known as one, too.
        """
        facts = environment(context.device, context.command, self.world.size)
        self.make(settings)
        self.world.broadcast_from_rank0(lambda: self._begin(settings, identity, copies, context.encoder, facts))

    def _begin(self, settings: Settings, identity: Identity, copies: int, encoder: Path, facts: Tree) -> None:
        known = self.going_on and (written(self.output) or bool(self.kept()))
        if known:
            identity.check(self.output)
        check_space(self.output, encoder, copies)
        write_toml(self.output / CONFIG, settings)
        write_json(self.output / ENVIRONMENT, facts)
        if not known:
            identity.write(self.output)
        self.begun = True

    def kept(self) -> dict[Path, str]:
        """What there is that is worth keeping, and how a message names it."""
        names: dict[Path, str] = {}
        for path in sorted(self.output.rglob("*")):
            place = path.relative_to(self.output)
            if any(part.startswith(".") for part in place.parts):
                continue
            folder = path.name in (MODEL, WARMED_UP) or path.parent.name == SNAPSHOTS
            if path.name == "state.json" and path.parent.name.startswith(CHECKPOINT):
                names[path] = f"{place.parent} of step {_step(path)}"
            elif path.name in (REPORT, MULTITASK_FILE, PROBE) or (folder and path.is_dir()):
                names[path] = str(place)
        return names

    def _after(self, error: UserError) -> UserError:
        """The error with what was kept, or the error itself once what this start made is removed."""
        kept = self.kept()
        if not kept and not self.going_on:
            self._remove()
        # What a run inside this one has said already, and what was there before another run was tried, is not said.
        if not kept or KEPT in str(error) or (not self.going_on and self.there.issuperset(kept)):
            return error
        names = list(kept.values())
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        go_on = "" if not self.kind.resumable else "; the same command with --resume goes on"
        return type(error)(f"{error}{KEPT}{self.output}: {', '.join(names[:MOST_NAMED])}{more}{go_on}")

    def _remove(self) -> None:
        """Remove the files that this start made, and the folders that are empty then; anything else stays."""
        folders = {self.output} if self.new else set[Path]()
        for pattern in self.kind.made:
            for path in self.output.glob(pattern):
                if path not in self.there and path.is_file():
                    path.unlink()
            above = pattern.rpartition("/")[0]
            for folder in self.output.glob(above) if above else ():
                folders |= {place for place in (folder, *folder.parents) if self.output in place.parents}
        for folder in sorted(folders - self.there, key=lambda place: len(place.parts), reverse=True):
            with contextlib.suppress(OSError):  # something else is in it
                folder.rmdir()


def finished(folder: Path, identity: Identity) -> Report | None:
    """The report of a seed or task that an earlier, killed run finished; `ConfigError` if it is of something else."""
    path = folder / REPORT
    if not path.is_file() or not (folder / MODEL).is_dir():
        return None
    identity.check(folder)
    return read_report(path)


def remove_checkpoint(folder: Path, name: str = CHECKPOINT) -> None:
    """Remove the checkpoint of what is finished; its report, or what else it gives, must be written."""
    shutil.rmtree(folder / name, ignore_errors=True)


def remove_warm_up(output: Path) -> None:
    """Remove what a pre-training keeps of the warming up of its heads; its encoder must be written."""
    shutil.rmtree(output / WARMED_UP, ignore_errors=True)


def remove_models(folder: Path) -> None:
    """Remove the models of a run of which only the figures are wanted."""
    for model in list(folder.rglob(MODEL)):
        shutil.rmtree(model)


def not_empty(output: Path, begun: str | None) -> ConfigError:
    """The error for an output directory that is in use, with what to do; `begun`: what could be gone on with in it."""
    go_on = "" if begun is None else f", or go on with the {begun} in it with --resume"
    ways = f"{'' if begun else 'or '}remove what is there{go_on}"
    return ConfigError(f"output: {output} is not empty; give a new directory, {ways}")


def check_same(settings: Settings, path: Path, free: Free, instead: str | None = None) -> None:
    """A run that is gone on with must have the settings that it began with, but for those that are `free` to change.

    Both are compared as plain values: nothing that a file names is loaded. `instead` is what the error tells to do.
    """
    instead = instead or f"resume with the same settings (--config {path}), or give a new --output"
    old, new = without(read_toml(path), free), without(tomllib.loads(to_toml(settings)), free)
    for section in dict.fromkeys((*new, *old)):
        before, now = old.get(section), new.get(section)
        if not (isinstance(before, dict) and isinstance(now, dict)):
            if before != now:
                raise ConfigError(f"{section}: not those of the run in {path.parent}; {instead}")
            continue
        for name in dict.fromkeys((*now, *before)):
            if before.get(name) != now.get(name):
                raise ConfigError(
                    f"{section}.{name}: {now.get(name)!r}, but the run in {path.parent} has {before.get(name)!r}; "
                    f"{instead}"
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


def _step(state: Path) -> str:
    """The step of a checkpoint, for a message."""
    try:
        return f"{json.loads(state.read_text(encoding='utf-8'))['state']['step']:,}"
    except (OSError, ValueError, KeyError, TypeError):
        return "unknown"


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
