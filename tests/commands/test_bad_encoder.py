"""Encoders that are incomplete, unsafe or do not fit, and what must not happen to a loss."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from doctune.batches.plan import epoch_plan
from doctune.training import loop

Cli = Callable[..., Any]
MakeCsv = Callable[..., Path]
Fails = Callable[..., str]


@pytest.fixture
def fails(finetune: Cli, tiny_csv: MakeCsv, tmp_path: Path) -> Fails:
    """The error of fine-tuning this encoder, which must leave no output directory."""

    def run(encoder: object, *flags: object) -> str:
        error: str = finetune(tiny_csv(), *flags, encoder=encoder).error
        assert not (tmp_path / "run").exists()
        return error

    return run


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_no_such_encoder(fails: Fails, tiny_csv: MakeCsv, tmp_path: Path) -> None:
    assert "no such folder, and not a hub id" in fails("./nowhere")
    assert "is a file; give the encoder's folder" in fails(tiny_csv("file.csv"))
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/empty: no config.json" in fails(tmp_path / "empty")


def test_vocabulary_that_does_not_fit(fails: Fails, encoder_copy: Path) -> None:
    size = json.loads((encoder_copy / "config.json").read_text())["vocab_size"]
    with (encoder_copy / "vocab.txt").open("a") as file:
        file.write("surplus\n")
    error = fails(encoder_copy)
    assert f"the tokenizer gives ids up to {size}, the encoder's embeddings have {size} rows" in error


def test_too_long_sequences(fails: Fails, encoder_copy: Path) -> None:
    error = fails(encoder_copy, "--max-seq-len", 129)
    assert "truncation.max_seq_len: 129 is more than the 128 positions" in error
    assert error.endswith("set --max-seq-len 128 or less")


def test_pickled_weights_are_not_loaded(fails: Fails, encoder_copy: Path) -> None:
    (encoder_copy / "model.safetensors").unlink()
    assert "no model.safetensors" in fails(encoder_copy)
    marker = encoder_copy / "ran"
    code = f"cposix\nsystem\n(S'touch {marker}'\ntR."
    (encoder_copy / "pytorch_model.bin").write_bytes(code.encode())
    assert "pytorch_model.bin: pickled weights can run code and are not loaded" in fails(encoder_copy)
    assert not marker.exists()


def test_code_from_the_folder_is_not_run(fails: Fails, encoder_copy: Path) -> None:
    change_config(encoder_copy, auto_map={"AutoModel": "modeling_mine.Mine"})
    marker = encoder_copy / "ran"
    (encoder_copy / "modeling_mine.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
    assert "config.json: this encoder needs Python code from its folder (auto_map), which is never run" in fails(
        encoder_copy
    )
    assert not marker.exists()


def test_damaged_weights(fails: Fails, encoder_copy: Path) -> None:
    weights = encoder_copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    assert f"{encoder_copy}: the weights do not load" in fails(encoder_copy)
    weights.write_bytes(b"")
    assert f"{encoder_copy}: the weights do not load" in fails(encoder_copy)


def test_missing_tensors(fails: Fails, encoder_copy: Path) -> None:
    weights = encoder_copy / "model.safetensors"
    tensors = load_file(weights)
    del tensors["encoder.layer.1.output.dense.weight"]
    save_file(tensors, weights, metadata={"format": "pt"})
    error = fails(encoder_copy)
    assert "1 of the encoder's tensors are missing" in error
    assert "encoder.layer.1.output.dense.weight" in error


def test_damaged_config(fails: Fails, encoder_copy: Path) -> None:
    change_config(encoder_copy, model_type="gpt2")
    assert "model_type 'gpt2' is not of the BERT family; there is albert, bert" in fails(encoder_copy)
    (encoder_copy / "config.json").write_text("{")
    assert "config.json: not JSON" in fails(encoder_copy)


@pytest.mark.parametrize("content", ["[1, 2]", '{"model_type": "bert"}'])
def test_config_without_what_is_needed(fails: Fails, encoder_copy: Path, content: str) -> None:
    (encoder_copy / "config.json").write_text(content)
    assert "config.json" in fails(encoder_copy)


def test_layers_that_do_not_exist(fails: Fails, encoder_copy: Path) -> None:
    for layer in (2, -3):
        error = fails(encoder_copy, "--layers", layer)
        assert f"features.layers: layer {layer} does not exist: there are 2, 0 to 1 or -1 to -2" in error


def poison(encoder: Path, word: str) -> None:
    """NaN in the embedding of one word."""
    vocabulary = (encoder / "vocab.txt").read_text().splitlines()
    weights = encoder / "model.safetensors"
    tensors = load_file(weights)
    tensors["embeddings.word_embeddings.weight"][vocabulary.index(word)] = math.nan
    save_file(tensors, weights, metadata={"format": "pt"})


@pytest.mark.parametrize("poisoned", [{7}, {3, 11, 12}])
def test_a_loss_that_is_not_a_number_stops_before_the_step(
    finetune: Cli, encoder_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, poisoned: set[int]
) -> None:
    poison(encoder_copy, "war")
    rows = [f"the film is {'war' if i in poisoned else 'good'},{'pos' if i % 2 else 'neg'}" for i in range(24)]
    train, validation = tmp_path / "train.csv", tmp_path / "validation.csv"
    train.write_text("text,label\n" + "\n".join(rows) + "\n")
    validation.write_text("text,label\n" + "the food is good,pos\nthe food is bad,neg\n" * 4)
    steps = []
    original = loop.set_rates  # right before each step; a patched `step` would stay on the optimiser's class for ever
    monkeypatch.setattr(loop, "set_rates", lambda *args: (steps.append(1), original(*args))[1])
    error = finetune(train, "--validation", validation, "--batch-size", 4, "--seed", 1, encoder=encoder_copy).error

    plan = [set(places.tolist()) for places in epoch_plan(np.full(24, 6), 1, 0, 4)]
    first = next(number for number, places in enumerate(plan) if places & poisoned)
    assert f"the loss is not a finite number in step {first + 1}; stopped before it. Documents: " in error
    named = set(error.split("Documents: ")[1].split(". Try")[0].split(", "))
    assert named == {f"train.csv:{place + 1}" for place in plan[first] & poisoned}
    assert len(steps) == first
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("split", ["validation", "test"])
def test_not_a_number_outside_training_is_one_line_too(
    finetune: Cli, tiny_csv: MakeCsv, encoder_copy: Path, tmp_path: Path, split: str
) -> None:
    poison(encoder_copy, "war")
    other = tmp_path / "other.csv"
    other.write_text("text,label\n" + "the war is bad,neg\nthe food is good,pos\n" * 4)
    error = finetune(tiny_csv(), f"--{split}", other, encoder=encoder_copy).error
    assert "other.csv:1" in error
