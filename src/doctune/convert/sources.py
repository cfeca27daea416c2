"""Where the files of a TensorFlow checkpoint lie: beside each other in a folder, or in a zip archive as released."""

from __future__ import annotations

import re
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from doctune.convert.table import FOOTER, is_table
from doctune.errors import CheckpointError

Bytes: TypeAlias = npt.NDArray[np.uint8]

INDEX = ".index"
PART = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})$")
LATEST = re.compile(r'^model_checkpoint_path:\s*"(.*)"\s*$', re.MULTILINE)
FORMS = "a prefix such as .../bert_model.ckpt, its folder, its .index file or the released .zip"
DAMAGED = "damaged; copy or download it again"


class Files(Protocol):
    """A place with files in it."""

    def names(self) -> list[str]:
        """The names of its files, sorted."""
        ...

    def read(self, name: str) -> Bytes:
        """A file's bytes, from the disk only as they are used where that can be."""
        ...

    def label(self, name: str) -> str:
        """How messages call a file, or, for an empty name, the place."""
        ...


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder on disk; files are memory-mapped."""

    path: Path

    def names(self) -> list[str]:
        try:
            return sorted(file.name for file in self.path.iterdir() if file.is_file())
        except OSError as error:
            raise CheckpointError(f"{self.path}: cannot be read ({error.strerror})") from None

    def read(self, name: str) -> Bytes:
        file = self.path / name
        try:
            if file.stat().st_size == 0:
                return np.zeros(0, np.uint8)
            return np.asarray(np.memmap(file, np.uint8, mode="r"))
        except OSError as error:
            raise CheckpointError(f"{file}: cannot be read ({error.strerror})") from None

    def label(self, name: str) -> str:
        return str(self.path / name)


@dataclass(frozen=True, slots=True)
class Archive:
    """A folder in a zip archive; files are decompressed into memory, never onto the disk."""

    path: Path
    inside: str  # "" or a folder with a slash at its end

    def names(self) -> list[str]:
        with zipfile.ZipFile(self.path) as archive:
            names = archive.namelist()
        inside = (name.removeprefix(self.inside) for name in names if name.startswith(self.inside))
        return sorted(name for name in inside if name and "/" not in name)

    def read(self, name: str) -> Bytes:
        try:
            with zipfile.ZipFile(self.path) as archive:
                return np.frombuffer(archive.read(self.inside + name), np.uint8)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise CheckpointError(f"{self.label(name)}: {DAMAGED} ({error})") from None
        except (NotImplementedError, RuntimeError) as error:  # another compression; encrypted
            raise CheckpointError(f"{self.label(name)}: cannot be read ({error}); unpack the archive first") from None

    def label(self, name: str) -> str:
        return f"{self.path}/{self.inside}{name}".rstrip("/")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint's files and the name with which all of them begin."""

    files: Files
    name: str

    @property
    def label(self) -> str:
        """How messages call it."""
        return self.files.label(self.name)


def find_checkpoint(source: Path) -> Checkpoint:
    """The checkpoint that a path means, which may be a prefix, a folder, one of its files, or a zip archive.

    Raises `CheckpointError` where there is none, or more than one.
    """
    if source.is_dir():
        return _only(Folder(source))
    if source.with_name(source.name + INDEX).is_file():
        return Checkpoint(Folder(source.parent), source.name)
    if not source.is_file():
        parent = Folder(source.parent)
        beside = f"; {source.parent} holds {_holds(parent)}" if source.parent.is_dir() else ""
        raise CheckpointError(f"{source}: no such checkpoint; give {FORMS}{beside}")
    if PART.search(source.name):
        name = PART.sub("", source.name)
        if not source.with_name(name + INDEX).is_file():
            raise CheckpointError(f"{source}: its index {name}{INDEX} is missing beside it")
        return Checkpoint(Folder(source.parent), name)
    if zipfile.is_zipfile(source):
        return _in_archive(source)
    raise _foreign(source)


def _in_archive(path: Path) -> Checkpoint:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if not name.startswith("__MACOSX/")]
    except (zipfile.BadZipFile, OSError) as error:
        raise CheckpointError(f"{path}: {DAMAGED} ({error})") from None
    if any(name.endswith("data.pkl") for name in names):
        raise CheckpointError(f"{path}: a file of PyTorch, not of TensorFlow; its pickle is never opened")
    folders = sorted({name[: name.rfind("/") + 1] for name in names if name.endswith(INDEX)})
    if not folders:
        shown = ", ".join(sorted(names)[:6])
        raise CheckpointError(f"{path}: no TensorFlow checkpoint in this zip (no *{INDEX}); it holds {shown}")
    if len(folders) > 1:
        raise CheckpointError(f"{path}: checkpoints in {', '.join(folders)}; unpack it and give one of them")
    return _only(Archive(path, folders[0]))


def _only(files: Folder | Archive) -> Checkpoint:
    """The checkpoint of a folder: the only one, or of several the one that TensorFlow's note `checkpoint` names."""
    names = files.names()
    found = [name.removesuffix(INDEX) for name in names if name.endswith(INDEX)]
    if len(found) > 1 and "checkpoint" in names:
        latest = LATEST.search(bytes(files.read("checkpoint")).decode("utf-8", "replace"))
        found = [name for name in found if latest and name == latest[1].rpartition("/")[2]] or found
    if len(found) == 1:
        return Checkpoint(files, found[0])
    if found:
        raise CheckpointError(f"{files.label('')}: several checkpoints, {', '.join(found)}; give one as a prefix")
    raise CheckpointError(
        f"{files.label('')}: neither a TensorFlow checkpoint (*{INDEX}) nor a Hugging Face folder "
        f"(config.json and *.safetensors); it holds {_holds(files)}"
    )


def _holds(files: Folder | Archive) -> str:
    names = files.names()
    pickled = "; pickled weights (*.bin) are never opened" if any(name.endswith(".bin") for name in names) else ""
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    return f"{', '.join(names[:8]) or 'no files'}{more}{pickled}"


def _foreign(path: Path) -> CheckpointError:
    """What a file is that is not part of a checkpoint that can be read."""
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(max(path.stat().st_size - FOOTER, 0))
        tail = file.read()
    if is_table(tail):
        found = "a V1 checkpoint of TensorFlow, all in one file; save it in the V2 form (tf.train.Saver's default)"
    elif path.suffix == ".safetensors":
        found = "weights of transformers; give the folder, with its config.json"
    elif head[:1] == b"\x80":
        found = "a pickle, as PyTorch's; pickles are never opened"
    elif head == b"\x89HDF\r\n\x1a\n":
        found = "an HDF5 file, as Keras's"
    else:
        found = "not a file of a TensorFlow checkpoint"
    return CheckpointError(f"{path}: {found}; what can be read: {FORMS}")
