"""Files of features hold what was written, and other libraries open them."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from doctune.store.features import FeatureForm, FeatureRows, feature_writer

LENGTHS = ((3, 1, 4), (2,), (5, 1))
IDS = ("a", "é", "c", "日本", "e", "f")
LABELS = ("x", None, "y", "x", "z", "y")


def form(pooling: str = "tokens", labelled: bool = True) -> FeatureForm:
    return FeatureForm((2, 0), (-1, 0), 4, pooling, labelled, {"encoder": "any"})


def pieces(by_token: bool) -> list[FeatureRows]:
    """Six documents in three pieces."""
    random, found, done = np.random.default_rng(0), [], 0
    for lengths in LENGTHS:
        count = len(lengths)
        number = sum(lengths) if by_token else count
        layers = [random.normal(size=(number, 4)).astype(np.float32) for _ in range(2)]
        offsets = np.cumsum([0, *(lengths if by_token else [1] * count)])
        tokens = [f"w{i}" for i in range(number)] if by_token else None
        ids = np.arange(number) if by_token else None
        part = slice(done, done + count)
        found.append(FeatureRows(IDS[part], LABELS[part], layers, offsets, tokens, ids))
        done += count
    return found


def write(kind: str, path: Path, pooling: str, labelled: bool = True) -> list[FeatureRows]:
    rows = pieces(pooling == "tokens")
    with feature_writer(kind, path, form(pooling, labelled)) as writer:
        for piece in rows:
            writer.write(piece)
    return rows


def documents(rows: list[FeatureRows], layer: int) -> list[np.ndarray]:
    return [x for piece in rows for x in np.split(piece.layers[layer], piece.offsets[1:-1])]


@pytest.mark.parametrize("pooling", ["tokens", "mean"])
def test_parquet(tmp_path: Path, pooling: str) -> None:
    path = tmp_path / "f.parquet"
    rows = write("parquet", path, pooling)
    table = pq.read_table(path)
    words = ["tokens"] if pooling == "tokens" else []
    assert table.column_names == ["id", "label", *words, "layer_2", "layer_0"]
    assert table.column("id").to_pylist() == list(IDS)
    assert table.column("label").to_pylist() == list(LABELS)
    assert pq.ParquetFile(path).num_row_groups == 3
    assert table.schema.metadata[b"encoder"] == b"any"
    for layer, name in enumerate(("layer_2", "layer_0")):
        for value, expected in zip(table.column(name).to_pylist(), documents(rows, layer), strict=True):
            np.testing.assert_array_equal(np.float32(value), expected if words else expected[0])
    if words:
        assert [len(x) for x in table.column("tokens").to_pylist()] == [n for part in LENGTHS for n in part]


@pytest.mark.parametrize("pooling", ["tokens", "mean"])
def test_safetensors(tmp_path: Path, pooling: str) -> None:
    path = tmp_path / "f.safetensors"
    rows = write("safetensors", path, pooling)
    tensors = load_file(path)
    for layer, name in enumerate(("layer_2", "layer_0")):
        np.testing.assert_array_equal(tensors[name], np.concatenate([piece.layers[layer] for piece in rows]))
        np.testing.assert_array_equal(
            np.concatenate(np.split(tensors[name], tensors["offsets"][1:-1])), np.concatenate(documents(rows, layer))
        )
    lengths = [n if pooling == "tokens" else 1 for part in LENGTHS for n in part]
    assert np.diff(tensors["offsets"]).tolist() == lengths
    text, ends = tensors["ids"].tobytes(), tensors["id_offsets"].tolist()
    assert [text[a:b].decode() for a, b in itertools.pairwise(ends)] == list(IDS)
    with safe_open(path, "np") as file:
        names = json.loads(file.metadata()["label_names"])
    assert [None if i < 0 else names[i] for i in tensors["labels"].tolist()] == list(LABELS)
    assert ("input_ids" in tensors) == (pooling == "tokens")
    assert list(tmp_path.iterdir()) == [path]


def test_json_lines_are_those_of_extract_features(tmp_path: Path) -> None:
    path = tmp_path / "f.jsonl"
    rows = write("jsonl", path, "tokens")
    lines = path.read_text().splitlines()
    first = json.loads(lines[0])
    values = [[round(float(x), 6) for x in layer[0]] for layer in rows[0].layers]
    layers = [{"index": -1, "values": values[0]}, {"index": 0, "values": values[1]}]
    assert lines[0].startswith('{"linex_index": 0, "features": [{"token": "w0", "layers": [{"index": -1, "values": [')
    assert first["features"][0] == {"token": "w0", "layers": layers}
    assert [json.loads(line)["linex_index"] for line in lines] == list(range(6))
    assert [len(json.loads(line)["features"]) for line in lines] == [n for part in LENGTHS for n in part]


def test_json_lines_of_documents(tmp_path: Path) -> None:
    write("jsonl", tmp_path / "f.jsonl", "mean")
    for line in (tmp_path / "f.jsonl").read_text().splitlines():
        (feature,) = json.loads(line)["features"]
        assert feature["token"] == "mean"


def test_without_labels(tmp_path: Path) -> None:
    write("parquet", tmp_path / "f.parquet", "cls", labelled=False)
    write("safetensors", tmp_path / "f.safetensors", "cls", labelled=False)
    assert "label" not in pq.read_schema(tmp_path / "f.parquet").names
    assert "labels" not in load_file(tmp_path / "f.safetensors")


def test_nothing_stays_of_a_broken_safetensors(tmp_path: Path) -> None:
    with pytest.raises(ValueError), feature_writer("safetensors", tmp_path / "f", form()) as writer:
        writer.write(dataclasses.replace(pieces(True)[0], layers=[]))
    assert list(tmp_path.iterdir()) == []
