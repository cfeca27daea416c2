"""Measurement on held-out sequences equals what the logits say, however the sequences are batched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from doctune.batches.sequences import Choice, Recipe, SequenceFeed
from doctune.devices import choose_device
from doctune.models.pretraining import load_pretraining
from doctune.runs.pretraining_evaluation import measure
from doctune.settings import EncoderSettings, MaskingSettings, PairSettings
from doctune.store.corpus import Corpus

CPU = choose_device("cpu", "fp32")


def test_figures_by_hand(tiny_corpus: Path, tiny_encoder: Path) -> None:
    corpus = Corpus.open(tiny_corpus)
    tokenizer = corpus.tokenizer()
    recipe = Recipe(
        PairSettings(sequence_len=32), MaskingSettings(), tokenizer.template, tokenizer.mask_id, tokenizer.size
    )
    choice = Choice(tuple(torch.ones(len(shard)).numpy() for shard in corpus.shards))
    torch.manual_seed(0)
    model = load_pretraining(tiny_encoder, EncoderSettings(encoder="x"), "nsp").model.train()
    small, large = (SequenceFeed(corpus.shards, choice, recipe, 1, size).once(40) for size in (5, 40))
    figures = measure(model, small, CPU)
    assert model.training
    assert figures == pytest.approx(measure(model, large, CPU), rel=1e-5)
    model.eval()
    (batch,) = large
    with torch.no_grad():
        words, pairs = model(batch)
    assert batch.pair_labels is not None
    assert pairs is not None
    assert figures["mlm_loss"] == pytest.approx(torch.nn.functional.cross_entropy(words, batch.masked_labels).item())
    assert figures["mlm_accuracy"] == pytest.approx((words.argmax(1) == batch.masked_labels).float().mean().item())
    assert figures["pair_accuracy"] == pytest.approx((pairs.argmax(1) == batch.pair_labels).float().mean().item())
    share = batch.pair_labels.float().mean().item()
    assert figures["pair_majority"] == pytest.approx(max(share, 1 - share))
    assert figures["held_out_loss"] == pytest.approx(figures["mlm_loss"] + figures["pair_loss"])


def test_the_majority_is_that_of_either_answer(tiny_corpus: Path, tiny_encoder: Path) -> None:
    """Whichever answer is the more frequent one: what the accuracy must be above for pairs to be told apart."""
    corpus = Corpus.open(tiny_corpus)
    tokenizer = corpus.tokenizer()
    recipe = Recipe(
        PairSettings(sequence_len=32), MaskingSettings(), tokenizer.template, tokenizer.mask_id, tokenizer.size
    )
    choice = Choice(tuple(torch.ones(len(shard)).numpy() for shard in corpus.shards))
    model = load_pretraining(tiny_encoder, EncoderSettings(encoder="x"), "nsp").model
    (batch,) = SequenceFeed(corpus.shards, choice, recipe, 1, 40).once(40)
    assert batch.pair_labels is not None
    random = [int(number) for number in batch.pair_labels.bincount(minlength=2)]
    assert random[0] != random[1]
    turned = replace(batch, pair_labels=1 - batch.pair_labels)
    here, there = measure(model, [batch], CPU), measure(model, [turned], CPU)
    assert here["pair_majority"] == there["pair_majority"] == pytest.approx(max(random) / sum(random))
    assert here["pair_accuracy"] == pytest.approx(1 - there["pair_accuracy"])
