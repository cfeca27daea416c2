"""Checkpoints as TensorFlow writes them: read bit for bit, and written byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctune.convert.bundle import OBJECT_GRAPH, Bundle, Entry, Index, decode_index, encode_index, write_bundle
from doctune.convert.sources import find_checkpoint
from doctune.convert.wire import DamagedError
from doctune.errors import CheckpointError

NAME = "bert_model.ckpt"
GENUINE = [
    "models/tf1-pretraining-fixture", "models/tf1-index-only/chinese_L-12_H-768_A-12",
    "models/tf1-index-only/uncased_L-4_H-256_A-4", "models/tf1-index-only/uncased_L-8_H-512_A-8",
    "golden/tf1_checkpoint", "golden/tf1_checkpoint/two_shards",
]  # fmt: skip
VARIABLES: dict[str, np.ndarray] = {
    "a/kernel": np.arange(12, dtype=np.float32).reshape(3, 4),
    "a/bias": np.float32([[1.5]]),
    "count": np.array(7, np.int64),
    "empty": np.zeros((0, 3), np.float32),
    "flag": np.array([True, False]),
    "half": np.float16([1, 2]),
}


def written(folder: Path, *shards: dict[str, Any]) -> Path:
    folder.mkdir(exist_ok=True)
    write_bundle(folder, NAME, *(shards or (VARIABLES,)))
    return folder


def opened(folder: Path) -> Bundle:
    return Bundle(find_checkpoint(folder))


@pytest.mark.parametrize("num_shards", [1, 2, 3])
def test_round_trip(tmp_path: Path, num_shards: int) -> None:
    names = list(VARIABLES)
    shards = [{name: VARIABLES[name] for name in names[part::num_shards]} for part in range(num_shards)]
    bundle = opened(written(tmp_path / "c", *shards))
    bundle.verify()
    assert bundle.num_shards == num_shards
    assert list(bundle.entries) == sorted(names)
    for name, value in VARIABLES.items():
        read = bundle.read(name)
        assert (read.dtype, read.shape, read.tobytes()) == (value.dtype, value.shape, value.tobytes())


def test_a_transposed_array_is_written_in_its_own_order(tmp_path: Path) -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert np.array_equal(opened(written(tmp_path / "c", {"x": value})).read("x"), value)


@pytest.mark.parametrize("folder", GENUINE)
def test_index_files_come_out_as_tensorflow_wrote_them(shared: Path, folder: str) -> None:
    data = (shared / folder / f"{NAME}.index").read_bytes()
    assert encode_index(decode_index(data)) == data


@pytest.mark.parametrize("folder", [GENUINE[0], *GENUINE[4:]])
def test_checkpoints_come_out_as_tensorflow_wrote_them(shared: Path, folder: str, tmp_path: Path) -> None:
    """With slots and counters, in one data file and in two: index, data and note are byte-equal."""
    bundle = opened(shared / folder)
    bundle.verify()
    parts = [
        {name: bundle.read(name) for name, entry in bundle.entries.items() if entry.shard == shard}
        for shard in range(bundle.num_shards)
    ]
    written(tmp_path / "c", *parts)
    for file in (tmp_path / "c").iterdir():
        if file.name != "checkpoint" or (shared / folder / "checkpoint").is_file():
            assert file.read_bytes() == (shared / folder / file.name).read_bytes(), file.name


@pytest.mark.parametrize(("index", "data"), [("one_shard", "."), ("two_shards", "two_shards")])
def test_compressed_indexes_say_the_same(golden: Path, index: str, data: str, tmp_path: Path) -> None:
    folder = golden / "tf1_checkpoint"
    for file in (folder / data).glob(f"{NAME}.data-*"):
        shutil.copy(file, tmp_path)
    shutil.copy(folder / "compressed_index" / f"{index}.ckpt.index", tmp_path / f"{NAME}.index")
    bundle, plain = opened(tmp_path), opened(folder / data)
    assert bundle.entries == plain.entries
    bundle.verify()


def test_every_flipped_bit_of_the_data_shows(tmp_path: Path) -> None:
    folder = written(tmp_path / "c")
    data = folder / f"{NAME}.data-00000-of-00001"
    sound = data.read_bytes()
    for place in range(8 * len(sound)):
        damaged = bytearray(sound)
        damaged[place // 8] ^= 1 << place % 8
        data.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="does not match its checksum"):
            opened(folder).verify()


def test_every_cut_of_the_data_shows(tmp_path: Path) -> None:
    folder = written(tmp_path / "c")
    data = folder / f"{NAME}.data-00000-of-00001"
    sound = data.read_bytes()
    for length in range(len(sound)):
        data.write_bytes(sound[:length])
        with pytest.raises(
            CheckpointError, match=rf"cut off: {length} bytes, by the index there should be {len(sound)}"
        ):
            opened(folder).verify()


def test_a_missing_data_file(tmp_path: Path) -> None:
    folder = written(tmp_path / "c", {"x": VARIABLES["a/kernel"]}, {"y": VARIABLES["a/kernel"]})
    (folder / f"{NAME}.data-00001-of-00002").unlink()
    with pytest.raises(CheckpointError, match=r"data-00001-of-00002: missing; the checkpoint has 2 data files"):
        opened(folder).verify()


def test_a_checkpoint_of_tensorflow_2(tmp_path: Path) -> None:
    folder = written(tmp_path / "c", {OBJECT_GRAPH: np.zeros(3, np.uint8), "model/kernel": np.zeros(2, np.float32)})
    with pytest.raises(CheckpointError, match="object-based checkpoint of TensorFlow 2"):
        opened(folder)


def index_with(**changes: Any) -> bytes:
    entry = {"dtype": 1, "shape": (2,), "shard": 0, "offset": 0, "size": 8, "crc": 1, **changes}
    return encode_index(Index(1, {"x": Entry(**entry)}))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (index_with(size=12), r"x: shape \[2\] of float32 does not make 12 bytes"),
        (index_with(shape=(2**63, 2)), "does not make 8 bytes"),
        (index_with(shard=1), "data file 1 of 1"),
        (encode_index(Index(0, {})), "0 data files"),
    ],
)
def test_an_index_that_contradicts_itself(data: bytes, message: str) -> None:
    with pytest.raises(DamagedError, match=message):
        decode_index(data)


@pytest.mark.parametrize("dtype", [7, 23 + 100])
def test_variables_that_are_not_numbers(tmp_path: Path, dtype: int) -> None:
    written(tmp_path / "c")
    (tmp_path / "c" / f"{NAME}.index").write_bytes(index_with(dtype=dtype))
    with pytest.raises(CheckpointError, match=f"x is of type {dtype}, not numbers"):
        opened(tmp_path / "c").verify()


def test_random_bytes_in_place_of_the_values_never_crash() -> None:
    from doctune.convert.table import write_table

    random = np.random.default_rng(0)
    header = b"\x08\x01"
    for _ in range(3000):
        value = random.integers(0, 256, random.integers(0, 20), np.uint8).tobytes()
        for table in ([(b"", header), (b"x", value)], [(b"", value)]):
            try:
                decode_index(write_table(table))
            except DamagedError:
                continue


def test_a_foreign_table_is_named(make_checkpoint: Callable[..., Path]) -> None:
    from doctune.convert.table import write_table

    folder = make_checkpoint()
    (folder / f"{NAME}.index").write_bytes(write_table([(b"key", b"value")]))
    with pytest.raises(CheckpointError, match="without the header of a checkpoint"):
        opened(folder)
