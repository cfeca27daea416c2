"""What a run is made of, as hashes: it is known by what its files hold and not by where they lie, and reused so."""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from doctune.config import Settings, Tree
from doctune.distributed import World
from doctune.errors import ConfigError
from doctune.files import content_hash, stem, write_json
from doctune.readers import Source
from doctune.readers.pydocs import INSTALLED, PACKAGES
from doctune.settings import DataSettings
from doctune.settings.implementations import own_files
from doctune.text.tokenizer import TextTokenizer
from doctune.version import __version__

LENGTH = 16
FILE = "identity.json"
FORMAT = 1
SINCE = "since"
PLACES = frozenset({"train", "validation", "test", "data", "cache"})
"""Settings of data that say where documents lie, and not what they are."""
# Settings of data that are of a run: the same tokenised documents serve them all.
_OF_THE_RUN = frozenset({"train_examples", "test_examples", "validation_fraction"})
Free = Mapping[str, Any]
"""Settings by name: True leaves one out, a mapping leaves out some of a section, "*" stands for each item of a list."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The hash of each part of a piece of work, and for some parts what a message calls them.

    Parts are `train`, `validation`, `test`, `reading` (before them `TASK/` where there are several tasks), `corpus`,
    `tokenizer`, `encoder` and `recipe`.
    """

    parts: Mapping[str, str]
    names: Mapping[str, str] = field(default_factory=dict)

    def key(self, *own: str | int) -> str:
        """One hash of all parts; `own` tells works on the same parts from one another: a seed, a task, a stage."""
        return key_of(dict(self.parts), list(own))

    def documents(self) -> dict[str, str]:
        """The parts that are documents, and how they are read."""
        return {name: value for name, value in self.parts.items() if _kind(name) in (*_SPLITS, "reading")}

    def write(self, folder: Path) -> None:
        """Leave it in the folder of what is begun with it, unless it is there already."""
        there = _read(folder)
        if there is not None and there["parts"] == dict(self.parts):
            return
        content = {
            "format": FORMAT, "doctune": __version__, SINCE: time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "parts": dict(self.parts), "names": dict(self.names),
        }  # fmt: skip
        write_json(folder / FILE, content)

    def check(self, folder: Path, instead: str = "give a new --output") -> None:
        """Raise `ConfigError`, in one line, where the folder's work is of something else or does not say of what.

        `instead` is what the line tells to do about it.
        """
        content = _read(folder)
        if content is None and (folder / FILE).is_file():
            raise ConfigError(
                f"{folder / FILE}: damaged, or of another version, so nobody knows which data the work in {folder} is "
                f"of, and it cannot be used or gone on with; {instead}"
            )
        if content is None:
            raise ConfigError(
                f"{folder}: holds work of an older doctune that does not say of which data it is ({FILE} is missing), "
                f"so it cannot be used or gone on with; {instead}"
            )
        what = self._difference(content["parts"], content["names"])
        if what is not None:
            raise ConfigError(
                f"{what} since {folder} was begun ({content[SINCE]}), so what is there cannot be used or gone on with; "
                f"put back what was there then, or {instead}"
            )

    def _difference(self, old: Mapping[str, str], names: Mapping[str, str]) -> str | None:
        """The first part that differs, with the files that it was then and is now; None if all are the same."""
        for part in sorted({*old, *self.parts}, key=_order):
            if old.get(part) == self.parts.get(part):
                continue
            if part not in old or part not in self.parts:
                return f"{_said(part)} {'are new' if part not in old else 'are gone'}"
            now, then = self.names.get(part), names.get(part)
            files = "" if now is None else f" ({now})" if then in (now, None) else f" (now {now}, then {then})"
            return f"{_said(part)}{files} {'has' if _kind(part) in _ONE else 'have'} changed"
        return None


def written(folder: Path) -> bool:
    """Whether the folder says what its work is of."""
    return _read(folder) is not None


def documents_in(folder: Path) -> dict[str, str]:
    """The parts of a folder's identity that are documents, and how they were read."""
    content = _read(folder)
    return Identity(content["parts"] if content else {}).documents()


def _read(folder: Path) -> dict[str, Any] | None:
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    whole = isinstance(content, dict) and content.get("format") == FORMAT
    return content if whole and {"parts", "names", SINCE} <= content.keys() else None


_SPLITS = ("train", "validation", "test")
_SAID = {
    "train": "the training documents", "validation": "the validation documents", "test": "the test documents",
    "reading": "the settings of how documents are read", "corpus": "the corpus", "tokenizer": "the encoder's tokenizer",
    "encoder": "the encoder's files", "recipe": "the settings", "own code": "classes of your own",
}  # fmt: skip
_ONE = ("corpus", "tokenizer")


def _kind(part: str) -> str:
    return part.rpartition("/")[2]


def _order(part: str) -> tuple[int, str]:
    kinds = list(_SAID)
    return kinds.index(_kind(part)) if _kind(part) in kinds else len(kinds), part


def _said(part: str) -> str:
    task = part.rpartition("/")[0]
    return _SAID.get(_kind(part), part) + (f" of task {task}" if task else "")


Documents = Mapping[str, tuple[DataSettings, Mapping[str, Source]]]
"""The sources of each task, by split, and how they are read; those of a run without tasks are under ""."""


def run_identity(
    world: World, settings: Settings, free: Free, encoder: Path, tokenizer: str, documents: Documents
) -> Identity:
    """The identity of a fine-tuning; `free` are the settings that change nothing in the result, `tokenizer` is a hash.

    Of several processes the first one reads the files.
    """

    def make() -> Identity:
        parts: dict[str, str] = {}
        names: dict[str, str] = {"encoder": str(encoder)}
        for task, (data, found) in documents.items():
            before = f"{task}/" if task else ""
            parts |= {f"{before}{part}": value for part, value in documents_parts(data, found).items()}
            names |= {f"{before}{split}": source.name for split, source in found.items()}
        return Identity({**parts, **_common(settings, free, weights_content(encoder), tokenizer)}, names)

    return _from_rank0(world, make)


def pretraining_identity(
    world: World, settings: Settings, free: Free, encoder: Path, tokenizer: str, corpus: Path,
    shards: Sequence[str],
) -> Identity:  # fmt: skip
    """The identity of a further pre-training on a corpus, of which the hashes of its shards are given."""
    names = {"encoder": str(encoder), "corpus": str(corpus)}
    return _from_rank0(
        world,
        lambda: Identity(
            {"corpus": key_of(list(shards)), **_common(settings, free, encoder_content(encoder), tokenizer)}, names
        ),
    )


def _common(settings: Settings, free: Free, encoder: str, tokenizer: str) -> dict[str, str]:
    recipe = key_of(without(settings.model_dump(mode="json", exclude_none=True), free))
    own = own_files(settings)
    parts = {"tokenizer": tokenizer, "encoder": encoder, "recipe": recipe}
    return {**parts, "own code": key_of(own)} if own else parts


def _from_rank0(world: World, make: Callable[[], Identity]) -> Identity:
    return Identity(**world.broadcast_from_rank0(lambda: asdict(make())))


def documents_parts(data: DataSettings, found: Mapping[str, Source]) -> dict[str, str]:
    """The hash of each split's documents, and of how they are read."""
    reading: Tree = data.model_dump(mode="json", exclude={*PLACES, *_OF_THE_RUN})
    if data.dataset is None and data.format == "auto":
        reading["endings"] = {split: stem(Path(source.name))[1] for split, source in found.items()}
    elif data.dataset is not None and ".py:" in data.dataset:
        reading["reader"] = file_content(Path(data.dataset.rpartition(":")[0]))
    return {split: source_content(source) for split, source in found.items()} | {"reading": key_of(reading)}


def without(value: Any, free: Any) -> Any:
    """A plain value without what is `free`."""
    if isinstance(value, dict):
        return {key: without(item, free.get(key, {})) for key, item in value.items() if free.get(key) is not True}
    if isinstance(value, list):
        return [without(item, free.get("*", {})) for item in value]
    return value


def key_of(*parts: Any) -> str:
    """A short hash of values that JSON can hold."""
    return content_hash(json.dumps(parts, sort_keys=True, ensure_ascii=False))[:LENGTH]


def source_content(source: Source) -> str:
    """The content of a source of documents: of its files, or of the documents where it has none (a hub's)."""
    path = Path(source.path)
    if str(path) == INSTALLED:
        return key_of({name: _version(name) for name in PACKAGES})
    if path.is_file():
        return file_content(path)
    if path.is_dir():
        return folder_content(path)
    digest = hashlib.sha256()
    for example in source.read():
        row = (example.id, example.text, example.text_pair, example.label, example.group)
        digest.update(json.dumps(row).encode() + b"\n")
    return digest.hexdigest()[:LENGTH]


def path_content(path: str) -> str:
    """The content of a file or a folder; another kind of source (a hub's data set) is known by its name."""
    place = Path(path)
    return file_content(place) if place.is_file() else folder_content(place) if place.is_dir() else path


def file_content(path: Path) -> str:
    """The hash of a file."""
    return _file_content(str(path.resolve()), _state(path))


def folder_content(folder: Path) -> str:
    """The hash of the names and contents of all files of a folder but hidden ones."""
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    shown = [file for file in files if not any(part.startswith(".") for part in file.parts)]
    return _folder_content(str(folder.resolve()), tuple((str(file), _state(folder / file)) for file in shown))


def encoder_content(folder: Path) -> str:
    """The hash of an encoder's weights, config and tokenizer."""
    return key_of(*_weights(folder), TextTokenizer.load(folder).hash)


def weights_content(folder: Path) -> str:
    """The hash of an encoder's weights and config."""
    return key_of(*_weights(folder))


def _weights(folder: Path) -> tuple[list[str], str]:
    return [file_content(path) for path in sorted(folder.glob("*.safetensors"))], file_content(folder / "config.json")


# A file is read once as long as its size, its times and its number on the disk stay what they are.
_State = tuple[int, int, int, int]


def _state(path: Path) -> _State:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


@functools.lru_cache(maxsize=4096)
def _file_content(path: str, state: _State) -> str:
    return _hash_file(path)


@functools.lru_cache(maxsize=64)
def _folder_content(folder: str, files: tuple[tuple[str, _State], ...]) -> str:
    return key_of([(name, _hash_file(f"{folder}/{name}")) for name, _ in files])


def _hash_file(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:LENGTH]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
