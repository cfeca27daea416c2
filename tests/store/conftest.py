"""Examples and a tokenizer for shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

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
