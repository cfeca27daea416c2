"""Files of features, written piece by piece: Parquet, safetensors, and the JSON lines of BERT's extract_features.py."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

Vectors = npt.NDArray[np.float32]
Offsets = npt.NDArray[np.int64]
SAFETENSORS_TYPES = {"int64": "I64", "float32": "F32", "uint8": "U8"}


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """The features of D documents in their order.

    `layers`: for each layer [R, H], where R is D, or with token features T, the tokens of all documents end to end;
    `offsets` [D + 1] says where each document's rows begin. `tokens` and `input_ids` [T] are there for token features.
    """

    ids: Sequence[str]
    labels: Sequence[str | None]
    layers: Sequence[Vectors]
    offsets: Offsets
    tokens: Sequence[str] | None = None
    input_ids: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True, slots=True)
class FeatureForm:
    """What all rows of a file have in common.

    `layers` are numbers from 0, `asked` the same as the user gave them; `pooling` is "tokens" or a pooling's name.
    `facts` go into the file, as strings.
    """

    layers: tuple[int, ...]
    asked: tuple[int, ...]
    hidden_size: int
    pooling: str
    labelled: bool
    facts: dict[str, str]

    @property
    def names(self) -> list[str]:
        """The columns or tensors of the layers."""
        return [f"layer_{layer}" for layer in self.layers]


class FeatureWriter(Protocol):
    """Takes rows in order; nothing that was written stays in memory."""

    def write(self, rows: FeatureRows) -> None: ...


@contextlib.contextmanager
def feature_writer(kind: str, path: Path, form: FeatureForm) -> Iterator[FeatureWriter]:
    """A writer of "parquet", "safetensors" or "jsonl" to `path`, which is complete when the block ends."""
    make = {"parquet": _parquet, "safetensors": _safetensors, "jsonl": _json_lines}[kind]
    with make(path, form) as writer:
        yield writer


class _Parquet:
    def __init__(self, file: pq.ParquetWriter, schema: pa.Schema, form: FeatureForm) -> None:
        self.file, self.schema, self.form = file, schema, form

    def write(self, rows: FeatureRows) -> None:
        columns: list[Any] = [pa.array(rows.ids, pa.string())]
        if self.form.labelled:
            columns.append(pa.array(rows.labels, pa.string()))
        offsets = pa.array(rows.offsets.astype(np.int32))
        if rows.tokens is not None:
            columns.append(pa.ListArray.from_arrays(offsets, pa.array(rows.tokens, pa.string())))
        for layer in rows.layers:
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(layer.ravel()), self.form.hidden_size)
            columns.append(vectors if rows.tokens is None else pa.ListArray.from_arrays(offsets, vectors))
        self.file.write_table(pa.table(columns, schema=self.schema), row_group_size=max(len(rows.ids), 1))


@contextlib.contextmanager
def _parquet(path: Path, form: FeatureForm) -> Iterator[FeatureWriter]:
    """A row group for each piece; vectors are fixed-size lists of float32."""
    by_token = form.pooling == "tokens"
    vector = pa.list_(pa.float32(), form.hidden_size)
    fields = [("id", pa.string()), *([("label", pa.string())] if form.labelled else [])]
    fields += [("tokens", pa.list_(pa.string()))] if by_token else []
    fields += [(name, pa.list_(vector) if by_token else vector) for name in form.names]
    schema = pa.schema(fields, metadata=form.facts)
    words = ["label"] if form.labelled else []
    words += ["tokens.list.element"] if by_token else []
    # Numbers that are all different have no use for a dictionary, nor for a smallest and a largest one.
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=words, write_statistics=["id"]) as file:
        yield _Parquet(file, schema, form)


class _JsonLines:
    def __init__(self, file: IO[str], form: FeatureForm) -> None:
        self.file, self.form, self.count = file, form, 0

    def write(self, rows: FeatureRows) -> None:
        bounds = rows.offsets.tolist()
        for start, stop in itertools.pairwise(bounds):
            names = [self.form.pooling] if rows.tokens is None else rows.tokens[start:stop]
            layers = [np.round(layer[start:stop].astype(np.float64), 6).tolist() for layer in rows.layers]
            features = [
                {
                    "token": name,
                    "layers": [
                        {"index": index, "values": layer[place]}
                        for index, layer in zip(self.form.asked, layers, strict=True)
                    ],
                }
                for place, name in enumerate(names)
            ]
            self.file.write(json.dumps({"linex_index": self.count, "features": features}) + "\n")
            self.count += 1


@contextlib.contextmanager
def _json_lines(path: Path, form: FeatureForm) -> Iterator[FeatureWriter]:
    """A document a line, as extract_features.py has it; a pooled vector stands where a token's would."""
    with path.open("w", encoding="utf-8") as file:
        yield _JsonLines(file, form)


class _Safetensors:
    """Each tensor grows in a file of its own, because the header needs their sizes and stands before them."""

    def __init__(self, folder: Path, form: FeatureForm) -> None:
        self.folder, self.form = folder, form
        self.files: dict[str, IO[bytes]] = {}
        self.kinds: dict[str, tuple[str, int | None]] = {}
        self.numbers: dict[str, int] = {}
        self.ends = {"offsets": 0, "id_offsets": 0}
        for name in ("offsets", "id_offsets"):
            self._add(name, np.zeros(1, np.int64))

    def write(self, rows: FeatureRows) -> None:
        self._add_ends("offsets", np.diff(rows.offsets))
        ids = [identity.encode() for identity in rows.ids]
        self._add_ends("id_offsets", np.array([len(identity) for identity in ids], np.int64))
        if self.form.labelled:
            labels = [-1 if x is None else self.numbers.setdefault(x, len(self.numbers)) for x in rows.labels]
            self._add("labels", np.array(labels, np.int64))
        if rows.input_ids is not None:
            self._add("input_ids", rows.input_ids)
        for name, layer in zip(self.form.names, rows.layers, strict=True):
            self._add(name, layer)
        self._add("ids", np.frombuffer(b"".join(ids), np.uint8))

    def _add_ends(self, name: str, sizes: Offsets) -> None:
        ends = self.ends[name] + np.cumsum(sizes)
        self.ends[name] = int(ends[-1]) if len(ends) else self.ends[name]
        self._add(name, ends)

    def _add(self, name: str, values: npt.NDArray[Any]) -> None:
        if name not in self.files:
            self.files[name] = (self.folder / name).open("w+b")
            self.kinds[name] = (str(values.dtype), values.shape[1] if values.ndim == 2 else None)
        self.files[name].write(np.ascontiguousarray(values).data)

    def assemble(self, path: Path) -> None:
        """The header, then every tensor, those of the widest numbers first, so that all are aligned."""
        order = sorted(self.files, key=lambda name: list(SAFETENSORS_TYPES).index(self.kinds[name][0]))
        facts = {**self.form.facts, **({"label_names": json.dumps(list(self.numbers))} if self.numbers else {})}
        header: dict[str, Any] = {"__metadata__": facts}
        end = 0
        for name in order:
            kind, width = self.kinds[name]
            start, end = end, end + self.files[name].tell()
            rows = (end - start) // np.dtype(kind).itemsize
            shape = [rows] if width is None else [rows // width, width]
            header[name] = {"dtype": SAFETENSORS_TYPES[kind], "shape": shape, "data_offsets": [start, end]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with path.open("wb") as file:
            file.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                self.files[name].seek(0)
                shutil.copyfileobj(self.files[name], file, 1 << 20)
                self.files[name].close()
                (self.folder / name).unlink()


@contextlib.contextmanager
def _safetensors(path: Path, form: FeatureForm) -> Iterator[FeatureWriter]:
    """One file that every safetensors reader opens: `layer_N` [R, H], and who is who in `offsets`, `ids`, `labels`."""
    folder = path.with_name(f"{path.name}.parts")
    folder.mkdir()
    try:
        writer = _Safetensors(folder, form)
        try:
            yield writer
            writer.assemble(path)
        finally:
            for file in writer.files.values():
                file.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
