"""Data sets of documents with given lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from doctune.examples import Example
from doctune.store.build import build_shard
from doctune.store.splits import Dataset, make_dataset
from doctune.targets import SingleTarget
from doctune.text.tokenizer import TextTokenizer


@pytest.fixture(scope="session")
def tokenizer(tiny_encoder: Path) -> TextTokenizer:
    return TextTokenizer.load(tiny_encoder)


@pytest.fixture
def dataset_of(tmp_path: Path, tokenizer: TextTokenizer) -> Callable[..., Dataset]:
    """A data set of texts or (text, second text) pairs; labels are 0, 1, 0, 1, ..."""

    def make(texts: Sequence[str | tuple[str, str]]) -> Dataset:
        pairs = [(text, None) if isinstance(text, str) else text for text in texts]
        examples = [Example(str(i), a, str(i % 2), text_pair=b) for i, (a, b) in enumerate(pairs)]
        shard = build_shard(examples, tokenizer, tmp_path / "shards", "train").shard
        return make_dataset("train", shard, SingleTarget(("0", "1")))

    return make
