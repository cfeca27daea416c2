"""BERT-Feat: a BiLSTM on an encoder that stands still, from training to use."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

import doctune

Cli = Callable[..., Any]
SIZES = ("--lstm-hidden", 8, "--attention-hops", 2, "--attention-size", 6)


def test_bert_feat(
    finetune: Callable[..., Any], tiny_csv: Callable[..., Path], tiny_encoder: Path, cli: Cli, tmp_path: Path
) -> None:
    train = tiny_csv(rows=200)
    flags = ("--head", "bilstm", "--freeze-encoder", *SIZES, "--layers", "all", "--epochs", 6)
    done = finetune(train, "--test", tiny_csv("test.csv", 40), *flags)
    assert done.code == 0, done.err
    folder = tmp_path / "run" / "model"
    description = json.loads((folder / "doctune.json").read_text())
    assert description["head"] == "bilstm"
    assert description["token_pooling"] == "tokens"
    assert description["bilstm"] == {"lstm_hidden": 8, "attention_hops": 2, "attention_size": 6}
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["test"]["error_percent"] == 0
    assert (report["recipe"]["head"], report["recipe"]["learning_rate"]) == ("bilstm", 1e-3)

    trained, before = (load_file(at / "model.safetensors") for at in (folder / "encoder", tiny_encoder))
    moved = [name for name, value in before.items() if (trained.get(name, value) != value).any()]
    assert moved == []
    assert set(before) & set(trained)
    assert any(name.startswith("token_pooling.lstm.") for name in load_file(folder / "head.safetensors"))

    texts = ["the film is great and the", "the film is awful and a", "great"]
    model = doctune.load(tmp_path / "run", "cpu", "fp32")
    assert model.predict(texts[:2]) == ["pos", "neg"]
    alone = np.concatenate([model.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(model.predict_proba(texts), alone, atol=1e-5)
    assert cli("evaluate", folder, train).code == 0


def test_a_tuned_encoder_under_a_bilstm_keeps_its_own_rate(
    finetune: Callable[..., Any], tiny_csv: Callable[..., Path], tmp_path: Path
) -> None:
    assert finetune(tiny_csv(), "--head", "bilstm", *SIZES).code == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["recipe"]["learning_rate"] == 5e-4
    assert len(report["learning_rates"]) == 4


def test_the_bilstm_pools_itself(finetune: Callable[..., Any], tiny_csv: Callable[..., Path]) -> None:
    error = finetune(tiny_csv(), "--head", "bilstm", "--token-pooling", "mean").error
    assert "head = bilstm reads all tokens and pools them itself, found token_pooling = mean" in error


@pytest.mark.parametrize("missing", [("head", "bilstm"), ("bilstm",)])
def test_folders_from_before_there_was_a_choice_load(trained: Path, tmp_path: Path, missing: tuple[str, ...]) -> None:
    folder = Path(shutil.copytree(trained / "model", tmp_path / "model"))
    description = json.loads((folder / "doctune.json").read_text())
    for name in missing:
        del description[name]
    (folder / "doctune.json").write_text(json.dumps(description))
    texts = ["the film was great"]
    np.testing.assert_array_equal(doctune.load(folder).predict_proba(texts), doctune.load(trained).predict_proba(texts))
