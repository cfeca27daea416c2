"""A larger vocabulary: new rows are means of old ones, all else stays, and what is saved loads in transformers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMaskedLM

from doctune.encoders.embedding import RowEmbedding
from doctune.models.pretrained_folder import save_pretrained
from doctune.models.pretraining import PretrainingLoaded, load_pretraining
from doctune.settings import EncoderSettings

PIECES = {100: [7, 8, 9], 101: [5], 102: [7, 7]}


class NoTokenizer:
    """In place of a tokenizer, which these folders lack."""

    def save(self, folder: Path) -> None:
        """Write nothing."""

    def word_pieces(self) -> None:
        """No vocab.txt."""


def load(folder: Path, new_pieces: dict[int, list[int]] | None = None) -> PretrainingLoaded:
    torch.manual_seed(0)
    return load_pretraining(folder, EncoderSettings(encoder=str(folder)), "none", new_pieces)


def rows(loaded: PretrainingLoaded) -> dict[str, Any]:
    mlm = loaded.model.mlm
    decoder: Any = mlm.get_submodule(mlm.decoder_name.rpartition(".")[0])
    table = loaded.model.encoder.model.get_input_embeddings()
    assert decoder.weight is table.weight
    assert decoder.out_features == table.num_embeddings == len(table.weight) == len(decoder.bias)
    return {"table": table, "weight": table.weight, "bias": decoder.bias}


@pytest.mark.parametrize("kind", ["bert", "electra", "distilbert", "mpnet", "roberta"])
def test_new_rows_are_means_and_the_others_stay(kind: str, family_folder: Callable[..., Path], tmp_path: Path) -> None:
    folder = family_folder(kind, "AutoModelForMaskedLM")
    loaded = load(folder, PIECES)
    old, new = rows(load(folder)), rows(loaded)
    assert isinstance(new["table"], RowEmbedding)
    for name in ("weight", "bias"):
        assert torch.equal(new[name][:100], old[name])
        assert len(new[name]) == 103
        for number, pieces in PIECES.items():
            assert torch.equal(new[name][number], old[name][pieces].mean(0))
    assert any(p is new["weight"] for p in loaded.model.parameters())
    with torch.no_grad():
        hidden = torch.randn(4, 32)
        logits = loaded.model.mlm(hidden)
        torch.testing.assert_close(logits[:, :100], load(folder).model.mlm(hidden))
        torch.testing.assert_close(logits[:, 101], logits[:, 5])

    save_pretrained(loaded.model, loaded.config, NoTokenizer(), {}, None, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["vocab_size"] == 103
    theirs, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "saved", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["mismatched_keys"]
    assert torch.equal(theirs.get_output_embeddings().weight, new["weight"])
    assert torch.equal(theirs.get_output_embeddings().bias, new["bias"])


def test_rows_beyond_the_tokenizer_are_taken_first(family_folder: Callable[..., Path]) -> None:
    """A model may have more rows than its tokenizer has ids; the new pieces follow the ids."""
    folder = family_folder("bert", "AutoModelForMaskedLM")
    old, new = rows(load(folder)), rows(load(folder, {98: [5, 6], 99: [7], 100: [8]}))
    assert len(new["weight"]) == 101
    assert torch.equal(new["weight"][:98], old["weight"][:98])
    assert torch.equal(new["weight"][98], old["weight"][[5, 6]].mean(0))
    assert len(rows(load(folder, {98: [5]}))["weight"]) == 100


def test_new_rows_learn(family_folder: Callable[..., Path]) -> None:
    loaded = load(family_folder("bert", "AutoModelForMaskedLM"), PIECES)
    table = rows(loaded)["table"]
    loaded.model.mlm(table(torch.tensor([101, 3]))).logsumexp(1).sum().backward()
    assert table.weight.grad.shape == (103, 32)
    assert table.weight.grad[101].abs().sum() > 0
