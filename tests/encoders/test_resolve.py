from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoTokenizer, BertForPreTraining

from doctune.encoders.load import float32_size
from doctune.encoders.resolve import MINI, resolve_encoder
from doctune.errors import CheckpointError, ConfigError
from doctune.models.pretrained_folder import FACTS

MEGABYTE = 10**6


def test_names_are_folders_ids_or_what_comes_along(tmp_path: Path) -> None:
    assert resolve_encoder(str(tmp_path)) == tmp_path
    assert resolve_encoder(MINI).is_dir()
    with pytest.raises(ConfigError, match="doctune-mini is on this machine"):
        resolve_encoder(MINI, "main")
    with pytest.raises(CheckpointError, match="no such folder"):
        resolve_encoder("./nowhere")


def test_the_encoder_that_comes_along_is_small_and_says_what_it_is() -> None:
    folder = resolve_encoder(MINI)
    assert sum(file.stat().st_size for file in folder.iterdir()) < 25 * MEGABYTE
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        assert {file.get_tensor(name).dtype for name in file.keys()} == {torch.float16}  # noqa: SIM118
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    card = (folder / "README.md").read_text(encoding="utf-8")
    for figure in (facts["tokens"], facts["steps"], facts["corpus"]["documents"]):
        assert f"{figure:,}" in card
    assert f"{facts['held_out']['mlm_loss']:.4f}" in card
    for source in facts["corpus"]["sources"]:
        assert not Path(source["name"]).is_absolute()


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("he was born in the [MASK] of london .", {"city", "town", "county", "parish", "streets", "suburbs"}),
        ("the king and the [MASK] sat on their thrones .", {"queen", "prince", "princess", "duke"}),
        ("she opened the [MASK] and went out of the room .", {"door", "window", "gate"}),
        ("they went [MASK] the house .", {"to", "into", "toward", "towards", "through", "from"}),
    ],
)
def test_it_guesses_words_that_fit(sentence: str, expected: set[str]) -> None:
    folder = resolve_encoder(MINI)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model, info = BertForPreTraining.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
    assert not info["missing_keys"]
    batch = tokenizer(sentence, return_tensors="pt")
    with torch.no_grad():
        logits = model(**batch).prediction_logits[0]
    place = batch["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    assert expected & set(tokenizer.convert_ids_to_tokens(logits[place].topk(5).indices.tolist()))


def test_the_room_on_the_disk_is_that_of_float32(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(3, 5, dtype=torch.float16), "b": torch.zeros(7)}, path)
    assert float32_size(path) == 4 * (3 * 5 + 7)
    path.write_bytes(b"broken")
    assert float32_size(path) == 6
