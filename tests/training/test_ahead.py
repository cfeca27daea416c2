"""Batches made before their turn are those of the feed, and a checkpoint does not know of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from doctune.batches.sequences import Choice, Recipe, SequenceFeed
from doctune.settings import MaskingSettings, PairSettings
from doctune.store.corpus import Corpus
from doctune.training.ahead import Ahead


def feed(folder: Path) -> SequenceFeed:
    corpus = Corpus.open(folder)
    tokenizer, choice = corpus.tokenizer(), Choice(tuple(np.ones(len(shard)) for shard in corpus.shards))
    pairs = PairSettings(sequence_len=32)
    recipe = Recipe(pairs, MaskingSettings(), tokenizer.template, tokenizer.mask_id, tokenizer.size)
    return SequenceFeed(corpus.shards, choice, recipe, seed=1, batch_size=8)


def test_a_feed_made_ahead_stands_where_it_was_taken(tiny_corpus: Path) -> None:
    plain, ahead = feed(tiny_corpus), Ahead(feed(tiny_corpus))
    for step in range(6):
        assert torch.equal(ahead.take(step, 0.0)[0].input_ids, plain.window(step, 0.0)[0].input_ids)
        ahead.make(step + 1, 0.0)
        assert ahead.position == plain.position()
    again = feed(tiny_corpus)
    again.seek(ahead.position)
    assert torch.equal(again.window(6, 0.0)[0].input_ids, plain.window(6, 0.0)[0].input_ids)
