"""Tokenizers in the formats that encoder folders have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import ByteLevelBPETokenizer, Tokenizer
from tokenizers.processors import RobertaProcessing

TEXTS = [
    "the cat sat on the mat",
    "a dog and a bird",
    "hello world, hello moon",
    "one two three four five",
    "žluťoučký kůň",
]


@pytest.fixture
def word_piece_folder(golden: Path, tmp_path: Path) -> Callable[[bool], Path]:
    """A folder with the golden vocabulary, lower-casing or not."""

    def make(lower: bool) -> Path:
        folder = tmp_path / ("lower" if lower else "cased")
        folder.mkdir()
        shutil.copy(golden / "vocab.txt", folder / "vocab.txt")
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
        return folder

    return make


@pytest.fixture(scope="session")
def byte_level_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with RoBERTa's kind of tokenizer, learnt from a few words."""
    folder = tmp_path_factory.mktemp("byte-level")
    made = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    made.train_from_iterator(TEXTS * 3, vocab_size=320, min_frequency=1, special_tokens=special, show_progress=False)
    tokenizer: Tokenizer = made._tokenizer
    tokenizer.post_processor = RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder
