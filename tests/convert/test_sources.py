"""Finding a checkpoint from whatever path a user has, and saying what a foreign file is."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from doctune.convert.bundle import Bundle, write_bundle
from doctune.convert.sources import find_checkpoint
from doctune.convert.table import write_table
from doctune.errors import CheckpointError

NAME = "bert_model.ckpt"


def zipped(folder: Path, target: Path, inside: str = "", method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(target, "w", method) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, inside + file.name)
    return target


@pytest.mark.parametrize(
    "given", ["", NAME, f"{NAME}.index", f"{NAME}.data-00000-of-00001"], ids=["folder", "prefix", "index", "data"]
)
def test_every_way_to_name_it(checkpoint: Path, given: str) -> None:
    found = find_checkpoint(checkpoint / given)
    assert (found.label, found.name) == (str(checkpoint / NAME), NAME)


@pytest.mark.parametrize("inside", ["", "uncased_L-2_H-8_A-2/", "a/b/"])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_inside_a_zip(checkpoint: Path, tmp_path: Path, inside: str, method: int) -> None:
    path = zipped(checkpoint, tmp_path / "released.zip", inside, method)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(f"__MACOSX/{inside}._{NAME}.index", b"x")
    found = find_checkpoint(path)
    assert found.label == f"{path}/{inside}{NAME}"
    bundle, plain = Bundle(found), Bundle(find_checkpoint(checkpoint))
    bundle.verify()
    assert all(np.array_equal(bundle.read(name), plain.read(name)) for name in plain.entries)


def test_of_several_the_one_that_tensorflow_would_take(tmp_path: Path) -> None:
    for step in (10, 20):
        write_bundle(tmp_path, f"model.ckpt-{step}", {"x": np.zeros(1, np.float32)})
    (tmp_path / "checkpoint").write_text(
        'model_checkpoint_path: "/elsewhere/model.ckpt-10"\nall_model_checkpoint_paths: "model.ckpt-20"\n'
    )
    assert find_checkpoint(tmp_path).name == "model.ckpt-10"
    assert find_checkpoint(tmp_path / "model.ckpt-20").name == "model.ckpt-20"
    (tmp_path / "checkpoint").unlink()
    with pytest.raises(CheckpointError, match=r"several checkpoints, model.ckpt-10, model.ckpt-20; give one"):
        find_checkpoint(tmp_path)


def test_a_zip_with_several(checkpoint: Path, tmp_path: Path) -> None:
    path = zipped(checkpoint, tmp_path / "all.zip", "small/")
    with zipfile.ZipFile(path, "a") as archive:
        archive.write(checkpoint / f"{NAME}.index", f"large/{NAME}.index")
    with pytest.raises(CheckpointError, match=r"checkpoints in large/, small/; unpack it"):
        find_checkpoint(path)


def test_a_damaged_zip(checkpoint: Path, tmp_path: Path) -> None:
    path = zipped(checkpoint, tmp_path / "released.zip", method=zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    place = data.index((checkpoint / f"{NAME}.data-00000-of-00001").read_bytes())
    data[place + 100] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=rf"{NAME}.data-00000-of-00001: damaged; copy or download it again"):
        Bundle(find_checkpoint(path)).verify()
    data[data.index(b"PK\x01\x02")] ^= 1  # the table of contents
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=r"released.zip: damaged; copy or download it again \(Bad magic"):
        find_checkpoint(path)
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match="not a file of a TensorFlow checkpoint"):
        find_checkpoint(path)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("pytorch_model.bin", b"\x80\x02\x8a\nl\xfc\x9cF", "a pickle, as PyTorch's; pickles are never opened"),
        ("bert_model.ckpt", write_table([(b"", b"x"), (b"bert", b"y")]), "V1 checkpoint of TensorFlow"),
        ("model.h5", b"\x89HDF\r\n\x1a\n....", "an HDF5 file"),
        ("model.safetensors", b"\x00" * 20, "give the folder, with its config.json"),
        ("notes.txt", b"hello", "not a file of a TensorFlow checkpoint"),
        ("empty", b"", "not a file of a TensorFlow checkpoint"),
        ("broken.zip", b"PK\x03\x04 and no more", "not a file of a TensorFlow checkpoint"),
        ("bert_model.ckpt.meta", b"graph", "its index bert_model.ckpt.index is missing"),
        ("bert_model.ckpt.data-00000-of-00001", b"1234", "its index bert_model.ckpt.index is missing"),
    ],
)
def test_foreign_files_are_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        find_checkpoint(tmp_path / name)


def test_a_pytorch_file_in_zip_form(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "pytorch_model.bin", "w") as archive:
        archive.writestr("archive/data.pkl", b"x")
    with pytest.raises(CheckpointError, match="a file of PyTorch, not of TensorFlow; its pickle is never opened"):
        find_checkpoint(tmp_path / "pytorch_model.bin")


def test_a_zip_without_a_checkpoint(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("texts/readme.txt", b"x")
    with pytest.raises(CheckpointError, match=r"no TensorFlow checkpoint in this zip .* it holds texts/readme.txt"):
        find_checkpoint(tmp_path / "a.zip")


def test_nothing_there(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"bert.ckpt: no such checkpoint; give .* holds bert_config.json, .*"):
        find_checkpoint(checkpoint / "bert.ckpt")
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        find_checkpoint(tmp_path / "no" / "such" / "folder")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="it holds no files"):
        find_checkpoint(tmp_path / "empty")
    (tmp_path / "empty" / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match=r"pickled weights \(\*.bin\) are never opened"):
        find_checkpoint(tmp_path / "empty")


def test_two_data_files_in_a_zip(checkpoint: Path, tmp_path: Path) -> None:
    bundle = Bundle(find_checkpoint(checkpoint))
    values = {name: bundle.read(name) for name in bundle.entries}
    names = sorted(values)
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()
    write_bundle(checkpoint, NAME, {n: values[n] for n in names[::2]}, {n: values[n] for n in names[1::2]})
    read = Bundle(find_checkpoint(zipped(checkpoint, tmp_path / "two.zip", "x/")))
    read.verify()
    assert all(np.array_equal(read.read(name), values[name]) for name in names)
