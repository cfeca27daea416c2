"""Batches of further pre-training: the same whatever happened before, and each document as often as it should be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from doctune.batches.sequences import Choice, Recipe, SequenceFeed, StagedFeed, hold_out
from doctune.errors import DataError
from doctune.settings import MaskingSettings, PairSettings
from doctune.store.corpus import Corpus
from doctune.tensors import MaskedBatch
from doctune.text.words import word_starts

FIELDS = ("input_ids", "token_type_ids", "position_ids", "cu_seqlens", "rows", "masked_positions", "masked_labels")


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Path) -> Corpus:
    return Corpus.open(tiny_corpus)


def recipe(corpus: Corpus, whole_words: bool = False, **settings: Any) -> Recipe:
    tokenizer = corpus.tokenizer()
    masking = MaskingSettings(masking="whole-word" if whole_words else "token")
    pairs = PairSettings.model_validate({"sequence_len": 32, **settings})
    starts = word_starts(tokenizer) if whole_words else None
    return Recipe(pairs, masking, tokenizer.template, tokenizer.mask_id, tokenizer.size, starts)


def everything(corpus: Corpus) -> Choice:
    return Choice(tuple(np.ones(len(shard)) for shard in corpus.shards))


def feed(corpus: Corpus, seed: int = 1, batch_size: int = 8, accumulation: int = 1, **settings: Any) -> SequenceFeed:
    return SequenceFeed(corpus.shards, everything(corpus), recipe(corpus, **settings), seed, batch_size, accumulation)


def same(first: MaskedBatch, second: MaskedBatch) -> bool:
    return all(torch.equal(getattr(first, name), getattr(second, name)) for name in FIELDS)


def test_a_batch_is_what_the_model_needs(corpus: Corpus) -> None:
    (batch,) = feed(corpus).window(0, 0.0)
    tokenizer = corpus.tokenizer()
    cls, sep = (tokenizer.tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    assert batch.num_documents == 8
    assert (batch.input_ids[batch.cu_seqlens[:-1]] == cls).all()
    assert (batch.input_ids[batch.cu_seqlens[1:] - 1] == sep).all()
    assert batch.max_seqlen == batch.cu_seqlens.diff().max() <= 32
    assert batch.lengths == tuple(batch.cu_seqlens.diff().tolist())
    assert batch.pair_labels is not None
    assert set(batch.pair_labels.tolist()) <= {0, 1}
    assert batch.token_type_ids.max() == 1
    masked = batch.input_ids[batch.masked_positions]
    assert 0.5 < float((masked == tokenizer.mask_id).float().mean()) <= 1.0
    starts = batch.cu_seqlens[:-1]
    assert torch.equal(batch.position_ids[starts], torch.zeros_like(starts))
    moved = batch.to(torch.device("meta"))
    assert {getattr(moved, name).device.type for name in (*FIELDS, "pair_labels")} == {"meta"}


def test_the_same_seed_gives_the_same_batches_and_the_next_pass_others(corpus: Corpus) -> None:
    first, second = feed(corpus), feed(corpus)
    steps = 3 * int(first.steps_per_epoch + 1)
    batches = [first.window(step, 0.0)[0] for step in range(steps)]
    assert all(same(batch, second.window(step, 0.5)[0]) for step, batch in enumerate(batches))
    assert first.position()["epoch"] >= 2
    assert len({batch.input_ids.numpy().tobytes() for batch in batches}) == steps
    assert not same(batches[0], feed(corpus, seed=2).window(0, 0.0)[0])


@pytest.mark.parametrize("stop", [1, 4, 9, 17])
def test_a_feed_goes_on_from_its_position(corpus: Corpus, stop: int) -> None:
    whole = feed(corpus, accumulation=2)
    for step in range(stop):
        whole.window(step, 0.0)
    position = whole.position()
    resumed = feed(corpus, accumulation=2)
    resumed.seek(position)
    for step in range(stop, stop + 8):
        assert all(map(same, whole.window(step, 0.0), resumed.window(step, 0.0)))


def test_static_data_repeats_after_its_number_of_passes(corpus: Corpus) -> None:
    """Pairs and masks of pass 2 are those of pass 0, in another order."""

    def passes(duplication: int | None) -> list[Counter[bytes]]:
        made = feed(corpus, batch_size=1, duplication=duplication)
        found: list[Counter[bytes]] = [Counter() for _ in range(4)]
        while (epoch := made.position()["epoch"]) < 4:
            batch = made.window(0, 0.0)[0]
            epoch = made.position()["epoch"]
            if epoch < 4:
                found[epoch][batch.input_ids.numpy().tobytes()] += 1
        return found

    static, dynamic = passes(2), passes(None)
    assert static[0] == static[2]
    assert static[1] == static[3]
    assert static[0] != static[1]
    assert dynamic[0] != dynamic[2]


def test_held_out_documents_are_never_trained_on_and_weights_say_how_often_others_are(corpus: Corpus) -> None:
    weights = corpus.weights.tolist()
    assert weights == [1.0, 1.5]
    train, held_out = hold_out(corpus.shards, weights, 3, seed=5)
    assert sum(int(copies.sum()) for copies in held_out.copies) == 3
    uses = [Counter[int]() for _ in corpus.shards]
    for epoch in range(400):
        for number in range(len(corpus.shards)):
            uses[number].update(train.of(number, 5, epoch).tolist())
    for number, shard in enumerate(corpus.shards):
        for document in range(len(shard)):
            used = uses[number][document] / 400
            if held_out.copies[number][document]:
                assert used == 0
            else:
                assert used == pytest.approx(weights[shard.sources[document]], abs=0.12)
    made = SequenceFeed(corpus.shards, train, recipe(corpus, objective="none"), 1, 4)
    first = np.concatenate([[0], np.cumsum([len(shard) for shard in corpus.shards])])
    kept_out = {int(first[n] + d) for n, c in enumerate(held_out.copies) for d in np.flatnonzero(c)}
    seen = {int(row) for step in range(60) for row in made.window(step, 0.0)[0].rows}
    assert not seen & kept_out
    assert len(seen) > 30


def test_a_small_corpus_keeps_at_most_a_tenth_out(corpus: Corpus) -> None:
    _, held_out = hold_out(corpus.shards, [1.0, 1.0], 500, seed=5)
    assert sum(int(copies.sum()) for copies in held_out.copies) == 4


def test_measurement_is_on_the_same_sequences_every_time(corpus: Corpus) -> None:
    made = feed(corpus)
    first, second = made.once(20), made.once(20)
    assert 20 <= sum(batch.num_documents for batch in first) < 28
    assert all(map(same, first, second))
    whole = made.once(10**6)
    assert {batch.num_documents for batch in whole[:-1]} == {8}


def test_rows_name_the_documents(corpus: Corpus) -> None:
    ids = [name for shard in corpus.shards for name in shard.ids()]
    assert len(corpus.shards) > 1
    assert feed(corpus).names([0, 35, 39]) == [ids[0], ids[35], ids[39]]


def test_whole_words_are_masked_as_one(corpus: Corpus) -> None:
    tokenizer = corpus.tokenizer()
    starts = word_starts(tokenizer)
    for batch in feed(corpus, whole_words=True).once(60):
        original = batch.input_ids.clone()
        original[batch.masked_positions] = batch.masked_labels
        chosen = torch.zeros(len(original), dtype=torch.bool)
        chosen[batch.masked_positions] = True
        for place in range(1, len(original)):
            if not starts[int(original[place])] and int(original[place]) > 4:
                assert chosen[place] == chosen[place - 1]


@pytest.mark.parametrize("objective", ["none", "sop"])
def test_other_objectives(corpus: Corpus, objective: str) -> None:
    (batch,) = feed(corpus, objective=objective).window(0, 0.0)
    if objective == "none":
        assert batch.pair_labels is None
        assert not batch.token_type_ids.any()
    else:
        assert batch.pair_labels is not None


def test_stages_follow_one_another_by_the_share_that_is_spent_and_resume(corpus: Corpus) -> None:
    def staged() -> StagedFeed:
        short = feed(corpus, batch_size=16, sequence_len=16)
        return StagedFeed([(0.5, short), (1.0, feed(corpus))])

    whole = staged()
    lengths = [whole.window(step, step / 10)[0].max_seqlen for step in range(10)]
    assert max(lengths[:5]) <= 16 < max(lengths[5:])
    for stop in (3, 7):
        first, second = staged(), staged()
        for step in range(stop):
            first.window(step, step / 10)
        second.seek(first.position())
        for step in range(stop, 10):
            assert same(first.window(step, step / 10)[0], second.window(step, step / 10)[0])


def test_documents_too_short_for_any_sequence_are_an_error(corpus: Corpus) -> None:
    none = Choice(tuple(np.zeros(len(shard)) for shard in corpus.shards))
    with pytest.raises(DataError, match="no sequence can be made"):
        SequenceFeed(corpus.shards, none, recipe(corpus), 1, 8).window(0, 0.0)
