"""TensorFlow's V2 checkpoints ("tensor bundles"): an index that names every tensor, and its bytes in data files.

The index is a table (`table.py`). The empty key holds a header, every other key is a variable's name, and its value
says type, shape, data file, place and checksum. Formats: tensorflow/core/protobuf/tensor_bundle.proto and
tensorflow/core/util/tensor_bundle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from doctune.convert.checksum import masked_crc32c
from doctune.convert.sources import DAMAGED, INDEX, Bytes, Checkpoint
from doctune.convert.table import read_table, write_table
from doctune.convert.wire import DamagedError, field, fields, fixed32
from doctune.errors import CheckpointError

Array: TypeAlias = npt.NDArray[Any]

# TensorFlow's numbers for types, as far as variables of numbers go.
TYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 9: "int64", 10: "bool", 14: "bfloat16",
    17: "uint16", 19: "float16", 22: "uint32", 23: "uint64",
}  # fmt: skip
SIZES = {"bfloat16": 2, **{name: np.dtype(name).itemsize for name in TYPES.values() if name != "bfloat16"}}
OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
PRODUCER = 1  # the version that TensorFlow writes into the header


@dataclass(frozen=True, slots=True)
class Entry:
    """What the index says of a variable."""

    dtype: int
    shape: tuple[int, ...]
    shard: int
    offset: int
    size: int
    crc: int

    @property
    def type_name(self) -> str:
        """The type as NumPy calls it, or the number of one that is not numbers."""
        return TYPES.get(self.dtype, f"of type {self.dtype}")


@dataclass(frozen=True, slots=True)
class Index:
    """The index of a checkpoint: what it names, in the order of the names, and how many data files there are."""

    num_shards: int
    entries: dict[str, Entry]


def decode_index(data: bytes) -> Index:
    """Read an index file's bytes; `DamagedError` unless all of it is sound."""
    table = read_table(data)
    if not table or table[0][0] != b"":
        raise DamagedError("a table, but without the header of a checkpoint")
    header = dict(fields(table[0][1]))
    num_shards = header.get(1, 0)
    version = dict(fields(_message(header.get(3, b""))))
    if header.get(2, 0) != 0:
        raise DamagedError("written on a big-endian machine, which is not read")
    if version.get(2, 0) not in (0, PRODUCER):
        raise DamagedError(f"written for readers of version {version[2]!r}, this one is of version {PRODUCER}")
    if not isinstance(num_shards, int) or num_shards < 1:
        raise DamagedError(f"{num_shards!r} data files")
    entries = {}
    for key, value in table[1:]:
        name = key.decode("utf-8", "backslashreplace")
        entries[name] = _entry(name, value)
        if entries[name].shard >= num_shards:
            raise DamagedError(f"{name} lies in data file {entries[name].shard} of {num_shards}")
    return Index(num_shards, entries)


def _entry(name: str, value: bytes) -> Entry:
    numbers = {1: 0, 3: 0, 4: 0, 5: 0, 6: 0}
    shape: tuple[int, ...] = ()
    for number, content in fields(value):
        if number in numbers and isinstance(content, int):
            numbers[number] = content
        elif number == 2:
            dimensions = (_message(part) for kind, part in fields(_message(content)) if kind == 2)
            shape = tuple(_number(dict(fields(dimension)).get(1, 0)) for dimension in dimensions)
        elif number == 7:
            raise DamagedError(f"{name} is stored in slices (a partitioned variable); save it in one piece")
    entry = Entry(numbers[1], shape, numbers[3], numbers[4], numbers[5], numbers[6])
    if entry.dtype in TYPES and math.prod(shape) * SIZES[entry.type_name] != entry.size:
        raise DamagedError(f"{name}: shape {list(shape)} of {entry.type_name} does not make {entry.size} bytes")
    return entry


def _message(value: int | bytes) -> bytes:
    if isinstance(value, bytes):
        return value
    raise DamagedError("a number where a message should be")


def _number(value: int | bytes) -> int:
    if isinstance(value, int):
        return value
    raise DamagedError("a message where a number should be")


def encode_index(index: Index) -> bytes:
    """The bytes of the index file, as TensorFlow writes it."""
    header = field(1, index.num_shards) + field(3, field(1, PRODUCER))
    table = [(b"", header)]
    for name, entry in sorted(index.entries.items(), key=lambda item: item[0].encode()):
        shape = b"".join(field(2, field(1, length)) for length in entry.shape)
        value = field(1, entry.dtype) + field(2, shape) + field(3, entry.shard) + field(4, entry.offset)
        table.append((name.encode(), value + field(5, entry.size) + fixed32(6, entry.crc)))
    return write_table(table)


class Bundle:
    """A checkpoint that is being read.

    Opening it reads the index alone. Raises `CheckpointError`, which names the file, for all that is wrong with it.
    """

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint = checkpoint
        self._data: dict[int, Bytes] = {}
        name = checkpoint.name + INDEX
        try:
            index = decode_index(bytes(checkpoint.files.read(name)))
        except DamagedError as error:
            raise CheckpointError(f"{checkpoint.files.label(name)}: {error}; {DAMAGED}") from None
        self.entries = index.entries
        self.num_shards = index.num_shards
        if OBJECT_GRAPH in self.entries:
            raise CheckpointError(
                f"{checkpoint.label}: an object-based checkpoint of TensorFlow 2 ({OBJECT_GRAPH} is in it); only the "
                f"name-based ones of TensorFlow 1 are read, such as Google's bert_model.ckpt"
            )

    def verify(self) -> None:
        """Check that the data files are all there and whole, and that every variable matches its checksum."""
        for name in self.entries:
            entry, data = self.entries[name], self._bytes(name)
            if (found := masked_crc32c(data)) != entry.crc:
                raise CheckpointError(
                    f"{self._shard_label(entry.shard)}: {name} does not match its checksum (CRC-32C 0x{found:08x}, the "
                    f"index has 0x{entry.crc:08x}); {DAMAGED}"
                )

    def read(self, name: str) -> Array:
        """A variable, as a view of the file."""
        entry = self.entries[name]
        if entry.type_name not in SIZES or entry.type_name == "bfloat16":
            raise CheckpointError(f"{self.checkpoint.label}: {name} is {entry.type_name}, which is not read")
        return self._bytes(name).view(np.dtype(entry.type_name).newbyteorder("<")).reshape(entry.shape)

    def _bytes(self, name: str) -> Bytes:
        entry = self.entries[name]
        if entry.shard not in self._data:
            self._data[entry.shard] = self._open(entry.shard)
        data = self._data[entry.shard]
        if entry.dtype not in TYPES:
            raise CheckpointError(
                f"{self.checkpoint.label}: {name} is {entry.type_name}, not numbers; not a checkpoint of BERT"
            )
        if entry.offset + entry.size > len(data):
            needed = max(e.offset + e.size for e in self.entries.values() if e.shard == entry.shard)
            raise CheckpointError(
                f"{self._shard_label(entry.shard)}: cut off: {len(data):,} bytes, by the index there should be "
                f"{needed:,}; copy or download it again"
            )
        return data[entry.offset : entry.offset + entry.size]

    def _open(self, shard: int) -> Bytes:
        name = data_name(self.checkpoint.name, shard, self.num_shards)
        if name not in self.checkpoint.files.names():
            raise CheckpointError(
                f"{self._shard_label(shard)}: missing; the checkpoint has {self.num_shards} data "
                f"file{'s' if self.num_shards > 1 else ''}, which must lie beside its index"
            )
        return self.checkpoint.files.read(name)

    def _shard_label(self, shard: int) -> str:
        return self.checkpoint.files.label(data_name(self.checkpoint.name, shard, self.num_shards))


def data_name(prefix: str, shard: int, num_shards: int) -> str:
    """The name of a data file."""
    return f"{prefix}.data-{shard:05d}-of-{num_shards:05d}"


def write_bundle(folder: Path, prefix: str, *shards: Mapping[str, Array]) -> None:
    """Write a checkpoint whose data files hold these variables; usually there is one.

    The files are the ones that TensorFlow would write, byte for byte: variables lie in the order of their names.
    """
    numbers = {name: number for number, name in TYPES.items()}
    entries: dict[str, Entry] = {}
    for shard, variables in enumerate(shards):
        offset = 0
        with (folder / data_name(prefix, shard, len(shards))).open("wb") as file:
            for name in _sorted(variables):
                # ascontiguousarray would make a vector of a scalar.
                variable = np.asarray(variables[name], variables[name].dtype.newbyteorder("<"), order="C")
                data = variable.reshape(-1).view(np.uint8)
                crc = masked_crc32c(data)
                entries[name] = Entry(numbers[variable.dtype.name], variable.shape, shard, offset, len(data), crc)
                file.write(data.data)
                offset += len(data)
    (folder / f"{prefix}{INDEX}").write_bytes(encode_index(Index(len(shards), entries)))
    note = f'model_checkpoint_path: "{prefix}"\nall_model_checkpoint_paths: "{prefix}"\n'
    (folder / "checkpoint").write_text(note, encoding="utf-8")


def _sorted(names: Iterable[str]) -> list[str]:
    return sorted(names, key=str.encode)
