"""A job: one run of a command, known by what goes into it; done once, whichever studies want it."""

from __future__ import annotations

import contextlib
import functools
import json
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import filelock

from doctune.commands import finetune, multitask, pretrain
from doctune.config import Tree
from doctune.errors import DataError, UserError
from doctune.files import no_space_is_one_line, write_json
from doctune.readers import sources
from doctune.runs import corpus
from doctune.runs.data import Documents, documents_key, read
from doctune.runs.directory import CONFIG, KEPT, TOKENISED, remove_models
from doctune.runs.identity import key_of, source_content
from doctune.runs.resolve import resolve
from doctune.settings import CorpusSettings, DataSettings, FinetuneSettings, MultitaskSettings, PretrainSettings
from doctune.targets import TargetSettings
from doctune.text.tokenizer import TextTokenizer
from doctune.version import __version__

Kind = Literal["corpus", "pretrain", "finetune", "multitask"]
DONE = "job.json"
LOG = "log.txt"
CACHED = "cache:"


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a command. `settings` may name what other jobs made as `cache:KIND/KEY/...`; those are `needs`.

    `key` is a hash of the settings in which files and encoders are known by their content. `documents` are the contents
    by task (one without a name where there are no tasks) and split, as the plan found them.
    """

    kind: Kind
    key: str
    settings: Tree
    about: str
    needs: tuple[str, ...] = field(default=())
    documents: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @property
    def place(self) -> str:
        """The run's folder inside the cache."""
        return f"{self.kind}/{self.key}"


@dataclass(frozen=True, slots=True)
class Done:
    """How a job ended: seconds of work (0 if it was there already), and what went wrong if anything did."""

    key: str
    seconds: float = 0.0
    error: str | None = None


def make_job(
    kind: Kind, settings: Tree, contents: Any, about: str, needs: tuple[str, ...] = (),
    documents: Mapping[str, Mapping[str, str]] | None = None,
) -> Job:  # fmt: skip
    """A job; `contents` stand for the files and encoders, and the settings should not name their paths."""
    return Job(kind, key_of(kind, __version__, contents), settings, about, needs, documents or {})


def finished(job: Job, cache: Path) -> bool:
    """Whether the job's run is there."""
    return (cache / job.place / DONE).is_file()


def execute(job: Job, cache: Path, keep_models: bool = False, quiet: bool = False) -> Done:
    """Do the job unless it is done; go on with it if it was killed. What goes wrong is told, not raised.

    Two processes that want the same job do it once: one waits for the other. `quiet` sends the progress to the run's
    log, too, where several jobs would write over one another.
    """
    folder = cache / job.place
    with no_space_is_one_line(cache):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if finished(job, cache):
            return Done(job.key)
        started = time.monotonic()
        with (folder.parent / f"{job.key}.log").open("a", encoding="utf-8") as log, contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.redirect_stdout(log))
            if quiet:
                stack.enter_context(contextlib.redirect_stderr(log))
            try:
                _run(job, folder, cache)
            except UserError as error:
                # What it kept is gone on with by itself.
                return Done(job.key, time.monotonic() - started, str(error).partition(KEPT)[0])
            except Exception as error:
                traceback.print_exc(file=log)
                return Done(job.key, time.monotonic() - started, f"{type(error).__name__}: {error} (see {log.name})")
        seconds = time.monotonic() - started
        if job.kind in ("finetune", "multitask") and not keep_models:
            remove_models(folder)
        write_json(folder / DONE, {"kind": job.kind, "key": job.key, "about": job.about, "seconds": seconds})
        return Done(job.key, seconds)


def _run(job: Job, folder: Path, cache: Path) -> None:
    tree, resume = located(job.settings, cache), (folder / CONFIG).is_file()
    tree["output"] = str(folder)
    command = f"doctune {job.kind} --config {folder / 'config.toml'}"
    match job.kind:
        case "corpus":
            corpus.run(CorpusSettings.build(tree))
        case "pretrain":
            pretrain.run(PretrainSettings.build(tree), command, resume)
        case "multitask":
            for task in tree["tasks"]:
                task["data"]["cache"] = str(cache / TOKENISED)
            tasks = MultitaskSettings.build(tree)
            _check_documents(job, {task.name: task.data for task in tasks.tasks})
            multitask.run(tasks, command, resume)
        case "finetune":
            if tree["data"].get("cache") is None:
                tree["data"]["cache"] = str(cache / TOKENISED)
            settings = FinetuneSettings.build(tree)
            _check_documents(job, {"": settings.data})
            resolved, _, tokenizer = resolve(settings)
            finetune.run(settings, command, resume, read_documents(resolved.data, resolved.target, tokenizer))


def _check_documents(job: Job, data: Mapping[str, DataSettings]) -> None:
    """The documents must be those that the job is known by; a file may have been replaced since it was planned."""
    for task, planned in job.documents.items():
        for split, source in sources(data[task]).items():
            if planned.get(split) != source_content(source):
                raise DataError(f"{source.name}: changed since the study was planned; start it again")


def located(value: Any, cache: Path) -> Any:
    """The settings with the paths of what other jobs made in the place of their names.

    `cache:pretrain/KEY/snapshots#2` is the second of the encoders that a pre-training kept on the way.
    """
    if isinstance(value, dict):
        return {key: located(item, cache) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [located(item, cache) for item in value]
    if not isinstance(value, str) or not value.startswith(CACHED):
        return value
    place, _, number = value.removeprefix(CACHED).partition("#")
    return str(sorted((cache / place).glob("step-*"))[int(number) - 1] if number else cache / place)


def read_documents(data: DataSettings, target: TargetSettings, tokenizer: TextTokenizer) -> Documents:
    """The tokenised documents; runs in the same process that differ in other settings share them."""
    few = {"train_examples", "test_examples", "validation_fraction"}
    content = documents_key(data, sources(data), tokenizer)
    return _read(data.model_dump_json(exclude=few), target, content, _Unhashed(tokenizer))


class _Unhashed:
    """Carries a tokenizer past the cache's key, in which its hash already is."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self.tokenizer = tokenizer

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unhashed)

    def __hash__(self) -> int:
        return 0


@functools.lru_cache(maxsize=16)
def _read(data: str, target: TargetSettings, content: str, tokenizer: _Unhashed) -> Documents:
    settings = DataSettings.build(json.loads(data))
    assert settings.cache is not None
    return read(settings, target, sources(settings), tokenizer.tokenizer, Path(settings.cache))
