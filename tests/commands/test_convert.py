"""`doctune convert`: there and back, what it prints, and one line for whatever cannot be converted."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctune.convert.bundle import OBJECT_GRAPH, Bundle, write_bundle
from doctune.convert.sources import find_checkpoint
from doctune.convert.table import write_table

Cli = Callable[..., Any]
Fails = Callable[..., str]
NAME = "bert_model.ckpt"
INDEX, DATA = f"{NAME}.index", f"{NAME}.data-00000-of-00001"


@pytest.fixture
def tf1(cli: Cli, tiny_encoder: Path, tmp_path: Path) -> Path:
    """The tiny encoder as a TensorFlow checkpoint."""
    assert cli("convert", tiny_encoder, tmp_path / "tf1").code == 0
    return tmp_path / "tf1"


@pytest.fixture
def fails(cli: Cli, tmp_path: Path) -> Fails:
    """The error of converting this source, which must leave nothing behind."""

    def run(source: object, *flags: object) -> str:
        before = sorted(tmp_path.iterdir())
        error: str = cli("convert", source, tmp_path / "out", *flags).error
        assert sorted(tmp_path.iterdir()) == before
        return error

    return run


def flip(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 4
    path.write_bytes(data)


def test_there_and_back(cli: Cli, tiny_encoder: Path, tf1: Path, tmp_path: Path) -> None:
    names = {"bert_config.json", INDEX, DATA, "checkpoint", "vocab.txt"}
    assert {file.name for file in tf1.iterdir()} == names
    done = cli("convert", tf1 / NAME, tmp_path / "hf")
    assert done.code == 0, done.err
    names = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "vocab.txt"}
    assert {file.name for file in (tmp_path / "hf").iterdir()} == names
    assert {file.stat().st_mode & 0o777 for file in (tmp_path / "hf").iterdir()} == {0o644}
    assert cli("convert", tmp_path / "hf", tmp_path / "again").code == 0
    for file in tf1.iterdir():
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes(), file.name
    assert (tf1 / "vocab.txt").read_bytes() == (tiny_encoder / "vocab.txt").read_bytes()


def test_the_summary_says_what_to_do_next(cli: Cli, tf1: Path, tmp_path: Path) -> None:
    bundle = Bundle(find_checkpoint(tf1))
    variables = {name: bundle.read(name) for name in bundle.entries}
    more = {"output_bias": np.zeros(4, np.float32), "global_step": np.array(9, np.int64)}
    slots = {f"{name}/adam_m": value for name, value in variables.items()}
    (tmp_path / "trained").mkdir()
    write_bundle(tmp_path / "trained", "model.ckpt-9", {**variables, **slots, **more})
    flags = ("--config", tf1 / "bert_config.json", "--vocab", tf1 / "vocab.txt", "--uncased")
    done = cli("convert", tmp_path / "trained", tmp_path / "hf", *flags)
    assert done.out.splitlines() == [
        f"read         {tmp_path}/trained/model.ckpt-9",
        f"weights      {sum(v.size for v in variables.values()):,} parameters in {len(variables)} tensors, float32",
        f"model        BertModel: 2 layers, hidden 32, vocabulary {bundle.entries[WORDS].shape[0]:,}",
        "heads        pooler",
        "text         lower-cased",
        f"skipped      of the optimiser: {len(variables)} adam_m, 1 global_step",
        "left out     output_bias [4]: neither encoder nor pre-training heads",
        f"written to   {tmp_path}/hf",
        f"next         doctune finetune --encoder {tmp_path}/hf --train FILE --text COLUMN --label COLUMN --output DIR",
    ]
    back = cli("convert", tmp_path / "hf", tmp_path / "back").out
    assert f"--init_checkpoint={tmp_path}/back/{NAME} --bert_config_file={tmp_path}/back/bert_config.json" in back
    assert "--do_lower_case=true" in back


WORDS = "bert/embeddings/word_embeddings"


def test_finetuning_takes_the_result(
    cli: Cli, finetune: Cli, tiny_encoder: Path, tf1: Path, tiny_csv: Callable[..., Path], tmp_path: Path
) -> None:
    cli("convert", tf1, tmp_path / "hf")
    for number, encoder in enumerate((tiny_encoder, tmp_path / "hf")):
        done = finetune(tiny_csv(), encoder=encoder, output=tmp_path / f"run{number}")
        assert done.code == 0, done.err
    first, second = ((tmp_path / f"run{number}" / "model" / "model.safetensors").read_bytes() for number in (0, 1))
    assert first == second


def test_a_released_zip(cli: Cli, tf1: Path, tmp_path: Path) -> None:
    path = tmp_path / "uncased_L-2_H-32_A-1.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in tf1.iterdir():
            archive.write(file, f"uncased_L-2_H-32_A-1/{file.name}")
    assert f"read         {path}/uncased_L-2_H-32_A-1/{NAME}\n" in cli("convert", path, tmp_path / "a").out
    cli("convert", tf1, tmp_path / "b")
    for file in (tmp_path / "b").iterdir():
        assert (tmp_path / "a" / file.name).read_bytes() == file.read_bytes(), file.name


def test_an_empty_destination_is_filled(cli: Cli, tf1: Path, tmp_path: Path) -> None:
    (tmp_path / "hf").mkdir()
    assert cli("convert", tf1, tmp_path / "hf").code == 0


@pytest.mark.parametrize("make", ["folder", "file"])
def test_a_destination_that_is_there(cli: Cli, tf1: Path, tmp_path: Path, make: str) -> None:
    there = tmp_path / "there"
    if make == "folder":
        there.mkdir()
        (there / "mine.txt").write_text("x")
    else:
        there.write_text("x")
    assert cli("convert", tf1, there).error == f"{there}: is not empty; name a new folder as DESTINATION"
    assert there.is_file() or [file.name for file in there.iterdir()] == ["mine.txt"]


def test_damaged_files(fails: Fails, tf1: Path) -> None:
    sound = {name: (tf1 / name).read_bytes() for name in (INDEX, DATA)}
    for name, place, said in (
        (INDEX, 50, f"{tf1 / INDEX}: the block at byte 0 does not match its checksum; damaged; copy or download it"),
        (INDEX, -1, f"{tf1 / INDEX}: no table's footer at its end: cut off, or not an index file; damaged"),
        (DATA, 4, f"{tf1 / DATA}: bert/embeddings/LayerNorm/beta does not match its checksum (CRC-32C 0x"),
        (DATA, -1, f"{tf1 / DATA}: bert/pooler/dense/kernel does not match its checksum"),
    ):
        flip(tf1 / name, place)
        assert fails(tf1).startswith(said)
        (tf1 / name).write_bytes(sound[name])
    (tf1 / INDEX).write_bytes(sound[INDEX][:-100])
    assert "cut off, or not an index file" in fails(tf1)
    (tf1 / INDEX).write_bytes(b"")
    assert "cut off, or not an index file" in fails(tf1)
    (tf1 / INDEX).write_bytes(sound[INDEX])
    (tf1 / DATA).write_bytes(sound[DATA][:-1])
    size = len(sound[DATA])
    assert f"{DATA}: cut off: {size - 1:,} bytes, by the index there should be {size:,}; copy" in fails(tf1)
    (tf1 / DATA).write_bytes(b"")
    assert f"{DATA}: cut off: 0 bytes" in fails(tf1)
    (tf1 / DATA).unlink()
    assert f"{tf1 / DATA}: missing; the checkpoint has 1 data file, which must lie beside its index" in fails(tf1)


def test_what_must_lie_beside_it(fails: Fails, tf1: Path, tmp_path: Path) -> None:
    (tf1 / "vocab.txt").rename(tf1 / "words.txt")
    assert fails(tf1) == f"{tf1}: no vocab.txt beside the checkpoint; say where it is with --vocab FILE"
    assert fails(tf1, "--vocab", tmp_path / "no.txt") == f"--vocab {tmp_path}/no.txt: no such file"
    (tf1 / "bert_config.json").rename(tf1 / "config.txt")
    assert fails(tf1) == f"{tf1}: no bert_config.json beside the checkpoint; say where it is with --config FILE"


def test_a_config_that_does_not_fit(fails: Fails, tf1: Path) -> None:
    path = tf1 / "bert_config.json"
    config = json.loads(path.read_text())
    size = config["vocab_size"]
    for changes, said in (
        ({"hidden_size": 64}, f"{WORDS} has shape [{size}, 32], by the config it should have [{size}, 64]; the config"),
        ({"num_hidden_layers": 3}, "16 of 53 weights of the encoder part are missing, for instance bert/encoder/layer"),
        ({"num_hidden_layers": 1}, "does the config belong to it (num_hidden_layers)?"),
        ({"num_attention_heads": 5}, f"{path}: hidden_size 32 is no multiple of num_attention_heads 5"),
        ({"type_vocab_size": 0}, f"{path}: type_vocab_size is 0; a whole number of at least 1 is allowed"),
        ({"hidden_act": "swish"}, f"{path}: hidden_act is 'swish'; the TensorFlow 1 code of BERT knows gelu, relu"),
    ):
        path.write_text(json.dumps({**config, **changes}))
        assert said in fails(tf1)
    path.write_text(json.dumps({"hidden_size": 32}))
    assert f"{path}: no vocab_size, num_hidden_layers, " in fails(tf1)
    for text, said in (("[]", "not a JSON object"), ("{", "not JSON"), ("\xff", "not JSON")):
        path.write_text(text, encoding="latin-1")
        assert f"{path}: {said}" in fails(tf1)


def test_a_vocabulary_that_does_not_fit(fails: Fails, tf1: Path) -> None:
    path = tf1 / "vocab.txt"
    text = path.read_text()
    size = len(text.splitlines())
    path.write_text(text + "more\n")
    assert f"{path}: {size + 1:,} entries, but the checkpoint has {size:,} word embeddings; give the" in fails(tf1)
    path.write_text(text.replace("[CLS]", "[cls]"))
    assert fails(tf1) == f"{path}: no [CLS]; this is not a BERT vocabulary"
    path.write_bytes(b"\xff\xfe")
    assert f"{path}: not UTF-8" in fails(tf1)


def test_checkpoints_of_another_kind(fails: Fails, tf1: Path, tmp_path: Path) -> None:
    write_bundle(tf1, NAME, {OBJECT_GRAPH: np.zeros(1, np.uint8), "model/x": np.zeros(1, np.float32)})
    assert "an object-based checkpoint of TensorFlow 2" in fails(tf1)
    write_bundle(tf1, NAME, {"electra/embeddings/word_embeddings": np.zeros((3, 2), np.float32)})
    assert "37 of 37 weights of the encoder part are missing" in fails(tf1)
    (tmp_path / "v1.ckpt").write_bytes(write_table([(b"", b"x"), (b"bert", b"y")]))
    assert "a V1 checkpoint of TensorFlow, all in one file" in fails(tmp_path / "v1.ckpt")
    (tf1 / INDEX).write_bytes((tmp_path / "v1.ckpt").read_bytes())
    assert fails(tf1).startswith(f"{tf1 / INDEX}: ")


def test_foreign_files(fails: Fails, tf1: Path, tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x02\x8a")
    assert "pickles are never opened; what can be read: a prefix" in fails(tmp_path / "pytorch_model.bin")
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("readme.txt", "x")
    assert "data.zip: no TensorFlow checkpoint in this zip (no *.index); it holds readme.txt" in fails(
        tmp_path / "data.zip"
    )
    assert "model.safetensors: weights of transformers; give the folder" in fails(tiny_encoder / "model.safetensors")
    assert "no such checkpoint; give a prefix such as .../bert_model.ckpt" in fails(tf1 / "bert.ckpt")
    shutil.copy(tiny_encoder / "config.json", tf1)
    shutil.copy(tiny_encoder / "model.safetensors", tf1)
    assert "holds a TensorFlow checkpoint and weights of transformers; give the checkpoint's prefix" in fails(tf1)


@pytest.mark.parametrize("flags", [("--config", "x"), ("--cased",), ("--uncased",)])
def test_flags_that_are_for_the_other_direction(fails: Fails, tiny_encoder: Path, flags: tuple[str, ...]) -> None:
    assert f"only for TensorFlow checkpoints; {tiny_encoder} has its own config and tokenizer" in fails(
        tiny_encoder, *flags
    )


def test_cased_and_uncased_exclude_each_other(fails: Fails, tf1: Path) -> None:
    assert "not allowed with" in fails(tf1, "--cased", "--uncased")


def test_a_killed_or_failing_run_leaves_nothing(
    cli: Cli, tf1: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("doctune.convert.bert.save_file", full)
    before = sorted(tmp_path.iterdir())
    assert "no space left on the disk" in cli("convert", tf1, tmp_path / "out").error
    assert sorted(tmp_path.iterdir()) == before


def test_help_and_converting_do_not_reach_torch(tf1: Path, tmp_path: Path) -> None:
    for arguments in (["convert", "--help"], ["convert", str(tf1), str(tmp_path / "hf")]):
        code = (
            "import atexit, sys\n"
            "atexit.register(lambda: print('reached', sorted({'torch', 'transformers'} & set(sys.modules))))\n"
            f"from doctune.cli import main; main({arguments!r})"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.endswith("reached []\n")
