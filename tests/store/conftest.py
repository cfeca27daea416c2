"""Examples and a tokenizer for shards."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from doctune.examples import Example
from doctune.store.build import build_shard
from doctune.store.shards import Shard
from doctune.text.tokenizer import TextTokenizer


@pytest.fixture(scope="session")
def tokenizer(tiny_encoder: Path) -> TextTokenizer:
    return TextTokenizer.load(tiny_encoder)


@pytest.fixture
def shard_of(tmp_path: Path, tokenizer: TextTokenizer) -> Callable[..., Shard]:
    """A shard of documents with these labels, and with these groups where they are given."""

    def make(labels: Sequence[str], groups: Sequence[str | None] | None = None) -> Shard:
        examples = [
            Example(f"d{i}", f"the film {i}", label, group=None if groups is None else groups[i])
            for i, label in enumerate(labels)
        ]
        return build_shard(examples, tokenizer, tmp_path / "shards", "train").shard

    return make


class Flat(NamedTuple):
    """A corpus as a shard has it, with its tokenizer."""

    input_ids: np.ndarray
    sentences: np.ndarray
    documents: np.ndarray
    tokenizer: TextTokenizer


@pytest.fixture(scope="session")
def flatten(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Flat]:
    """Tokenises a text of sentences, one a line, with blank lines between documents, with the golden vocabulary."""
    folder = tmp_path_factory.mktemp("golden-vocabulary")
    shutil.copy(golden / "vocab.txt", folder / "vocab.txt")
    (folder / "tokenizer_config.json").write_text('{"do_lower_case": true}')
    tokenizer = TextTokenizer.load(folder)

    def make(text: str) -> Flat:
        found: list[list[np.ndarray]] = [[]]
        for line in text.split("\n"):
            if not line.strip():
                found.append([])
            else:
                found[-1] += [ids for ids in tokenizer.encode([line.strip()]) if len(ids)]
        kept = [document for document in found if document]
        rows = [ids for document in kept for ids in document]
        return Flat(
            np.concatenate([np.zeros(0, np.int32), *rows]),
            np.cumsum([0, *(len(ids) for ids in rows)]),
            np.cumsum([0, *(len(document) for document in kept)]),
            tokenizer,
        )

    return make
