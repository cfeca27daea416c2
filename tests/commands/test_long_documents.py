"""Documents longer than the encoder: read in windows, or by an encoder with room for them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from transformers import ModernBertConfig, ModernBertModel

import doctune
from doctune.encoders.packed import PackedEncoder
from doctune.errors import ConfigError
from doctune.tensors import Batch

Cli = Callable[..., Any]
TELLING = {"bad": "awful", "good": "great"}
FILLING = "the film and the food of this city was for you and we so with one two three"


def write_documents(path: Path, rows: int, seed: int, repeats: int = 12, short: int = 4) -> None:
    """Documents of a class that a single place in the middle tells; every `short`th is a short one."""
    random = np.random.default_rng(seed)
    lines = []
    for row in range(rows):
        label = ("bad", "good")[row % 2]
        parts = [FILLING] * (repeats if row % short else 1)
        parts.insert(int(random.integers(0, len(parts))), f"{TELLING[label]} " * 12)
        lines.append(json.dumps({"id": str(row), "text": " ".join(parts), "label": label}) + "\n")
    path.write_text("".join(lines))


@pytest.fixture(scope="module")
def windowed(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on windows, whose documents are longer than all that the encoder has positions for."""
    folder = tmp_path_factory.mktemp("windowed")
    write_documents(folder / "train.jsonl", 48, 0)
    write_documents(folder / "test.jsonl", 16, 1)
    doctune.finetune(
        train=str(folder / "train.jsonl"), test=str(folder / "test.jsonl"), encoder=str(tiny_encoder),
        output=str(folder / "run"), truncation="windows", max_seq_len=40, overlap=4, window_pooling="max",
        windows_per_pass=4, epochs=12, learning_rate=3e-3, batch_size=8, tokens_per_batch=600, token_pooling="mean",
        device="cpu", precision="fp32",
    )  # fmt: skip
    return folder / "run"


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_long_document_is_read_to_its_end(windowed: Path) -> None:
    """Its class is told at one place: a model that reads all of it learns it."""
    report = json.loads((windowed / "report.json").read_text())
    assert report["test"]["error_percent"] == 0
    assert report["data"]["truncated_percent"]["test"] == 0
    assert report["data"]["mean_tokens"]["test"] > 128
    assert report["recipe"]["window_pooling"] == "max"


def test_predictions_say_which_window_decided(windowed: Path) -> None:
    rows = rows_of(windowed / "predictions.jsonl")
    texts = [row["text"] for row in rows_of(windowed.parent / "test.jsonl")]
    several = [row for row in rows if "windows" in row]
    assert 0 < len(several) < len(rows)
    bias = load_file(windowed / "model" / "head.safetensors")["head.linear.bias"]
    hits = 0
    for row, text in zip(rows, texts, strict=True):
        words = text.split()
        if "windows" not in row:
            assert len(words) <= 38
            continue
        windows = row["windows"]
        starts = [window["start"] for window in windows]
        assert starts == [*(34 * place for place in range(len(windows) - 1)), len(words) - 38]
        assert {window["tokens"] for window in windows} == {38}
        best = max(windows, key=lambda window: window["weight"])
        hits += TELLING[row["label"]] in words[best["start"] : best["start"] + 38]
        # All windows and the bias make the logit of the answer, above the mean: of two classes half of the margin.
        own = bias[("bad", "good").index(row["label"])] - bias.mean()
        added = sum(window["weight"] for window in windows) + own
        assert row["probability"] == pytest.approx(1 / (1 + np.exp(-2 * added)), abs=1e-3)
    assert hits >= 0.8 * len(several)


def test_the_report_says_which_window_decided(windowed: Path) -> None:
    report = json.loads((windowed / "report.json").read_text())
    section = report["windows"]
    rows = {row["id"]: row for row in rows_of(windowed / "predictions.jsonl") if "windows" in row}
    assert section["documents"] == len(rows) == sum(section["decided"].values())
    assert len(section["examples"]) == 10
    for example in section["examples"]:
        assert example["windows"] == rows[example["id"]]["windows"]
        assert example["prediction"] == rows[example["id"]]["label"]
        assert set(example["text"].split()) <= set(FILLING.split()) | set(TELLING.values())
    page = (windowed / "report.html").read_text()
    assert "Which window decided" in page
    assert page.count('class="windows"') == 10 + sum("windows" in error for error in report["hardest"])


def test_the_saved_model_is_the_trained_one(windowed: Path, cli: Cli, tmp_path: Path) -> None:
    """Predict and evaluate give what the run gave, windows included."""
    rows = rows_of(windowed / "predictions.jsonl")
    test = windowed.parent / "test.jsonl"
    done = cli("evaluate", windowed, test, "--predictions", tmp_path / "again.jsonl", "--device", "cpu")
    assert done.code == 0, done.err
    for row, again in zip(rows, rows_of(tmp_path / "again.jsonl"), strict=True):
        assert row["label"] == again["label"]
        assert ("windows" in row) == ("windows" in again)
    predicted = doctune.predict(windowed, test, device="cpu")
    for row, again in zip(rows, predicted, strict=True):
        assert (row["label"], len(row.get("windows", ()))) == (again["label"], len(again.get("windows", ())))
        assert again["probability"] == pytest.approx(row["probability"], abs=0.05)
    done = cli("predict", windowed, test, "--output", tmp_path / "labels.csv", "--device", "cpu")
    assert done.code == 0, done.err
    assert "windows" not in (tmp_path / "labels.csv").read_text()
    description = json.loads((windowed / "model" / "doctune.json").read_text())
    assert description["window_pooling"] == "max"


def test_a_texts_windows_do_not_depend_on_its_neighbours(windowed: Path) -> None:
    predictor = doctune.load(windowed, device="cpu", precision="fp32")
    texts = [row["text"] for row in rows_of(windowed.parent / "test.jsonl")]
    together = predictor.predict_proba(texts)
    alone = np.concatenate([predictor.predict_proba([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_pairs_are_no_windows_and_the_report_says_so(tiny_encoder: Path, tmp_path: Path) -> None:
    lines = ["first,second,label"] + [f"{FILLING * 5},{FILLING},{row % 2}" for row in range(12)]
    (tmp_path / "pairs.csv").write_text("\n".join(lines) + "\n")
    report = doctune.finetune(
        train=str(tmp_path / "pairs.csv"), text=("first",), text_pair="second", encoder=str(tiny_encoder),
        output=str(tmp_path / "run"), truncation="windows", max_seq_len=40, epochs=1, device="cpu",
    )  # fmt: skip
    assert report["data"]["truncated_percent"]["train"] == 100
    assert any("Text pairs are not read in windows" in warning for warning in report["warnings"])
    assert "windows" not in report


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overlap": 4}, "overlap is for truncation = windows"),
        ({"window_pooling": "max"}, "window_pooling: max is for truncation = windows"),
        ({"truncation": "windows", "overlap": 30, "max_seq_len": 32}, "overlap: 30 is not less than the 30 tokens"),
    ],
)
def test_settings_that_do_not_fit(
    settings: dict[str, Any], message: str, tiny_encoder: Path, tiny_csv: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        doctune.finetune(train=str(tiny_csv()), encoder=str(tiny_encoder), output=str(tmp_path / "run"), **settings)
    assert not (tmp_path / "run").exists()


def test_an_encoder_of_8192_positions(tiny_encoder: Path, tmp_path: Path) -> None:
    """The third way: the same setting, one long sequence. Documents of some 4,000 tokens lose nothing."""
    folder = tmp_path / "modernbert"
    vocabulary = (tiny_encoder / "vocab.txt").read_text().splitlines()
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=len(vocabulary), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        max_position_embeddings=8192, local_attention=64, global_attn_every_n_layers=2, pad_token_id=0, bos_token_id=2,
        eos_token_id=3, cls_token_id=2, sep_token_id=3,
    )  # fmt: skip
    ModernBertModel(config).save_pretrained(folder)
    shutil.copy(tiny_encoder / "vocab.txt", folder)
    write_documents(tmp_path / "train.jsonl", 4, 0, repeats=260, short=100)
    write_documents(tmp_path / "validation.jsonl", 2, 1, repeats=260, short=100)
    files = {name: str(tmp_path / f"{name}.jsonl") for name in ("train", "validation")}
    given: dict[str, Any] = {**files, "encoder": str(folder), "epochs": 1, "device": "cpu"}
    report = doctune.finetune(**given, output=str(tmp_path / "run"), max_seq_len=8192, batch_size=2, learning_rate=1e-3)
    assert report["data"]["mean_tokens"]["train"] > 3000
    assert report["data"]["truncated_percent"] == {"train": 0, "validation": 0}
    with pytest.raises(ConfigError, match="8193 is more than the 8192 positions"):
        doctune.finetune(**given, output=str(tmp_path / "longer"), max_seq_len=8193)


@pytest.mark.parametrize("windows_per_pass", [2, 3])
def test_windows_per_pass_bounds_what_is_encoded_at_a_time(
    tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    windows_per_pass: int,
) -> None:  # fmt: skip
    """In training and in validation: no more full windows go through the encoder together than the setting says."""
    train = tiny_csv()
    lines = train.read_text().splitlines()
    train.write_text("\n".join([lines[0], *(line.replace("film", "film " + "was good " * 12) for line in lines[1:])]))
    encoded: list[float] = []
    forward = PackedEncoder.forward

    def spied(self: PackedEncoder, batch: Batch) -> Any:
        encoded.append(batch.num_tokens / 10)
        return forward(self, batch)

    monkeypatch.setattr(PackedEncoder, "forward", spied)
    doctune.finetune(
        train=str(train), encoder=str(tiny_encoder), output=str(tmp_path / "run"), truncation="windows",
        max_seq_len=10, windows_per_pass=windows_per_pass, epochs=1, batch_size=4, token_pooling="mean", device="cpu",
    )  # fmt: skip
    assert windows_per_pass - 1 < max(encoded) <= windows_per_pass
