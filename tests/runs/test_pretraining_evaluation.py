"""Measurement on held-out sequences equals what the logits say, however the sequences are batched."""

from __future__ import annotations

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
