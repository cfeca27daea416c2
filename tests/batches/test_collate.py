"""Packed batches against the same documents one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertTokenizer

from doctune.batches.collate import Collator
from doctune.store.splits import Dataset
from doctune.tensors import Batch
from doctune.text.tokenizer import TextTokenizer
from doctune.text.truncation import HeadOnly, HeadTail, TailOnly, Truncation, Windows

DatasetOf = Callable[..., Dataset]
SENTENCE = "the film is great and the food was awful but we like this city "
TEXTS = ["the film", SENTENCE, SENTENCE * 3, "a", SENTENCE * 10, "bad match!", SENTENCE * 2]
PAIRS = [
    ("the film", "a book"), (SENTENCE * 4, "a"), ("a", SENTENCE * 4), (SENTENCE * 3, SENTENCE * 3), "alone",
    ("", "b c"),
]  # fmt: skip


def sequences(batch: Batch, values: torch.Tensor) -> list[list[int]]:
    bounds = batch.cu_seqlens.tolist()
    return [values[start:end].tolist() for start, end in itertools.pairwise(bounds)]


def everything(dataset: Dataset) -> np.ndarray[Any, Any]:
    return np.arange(len(dataset))


@pytest.mark.parametrize("max_seq_len", [3, 16, 64])
def test_head_only_equals_transformers(
    dataset_of: DatasetOf, tokenizer: TextTokenizer, tiny_encoder: Path, max_seq_len: int
) -> None:
    dataset = dataset_of(TEXTS)
    places = np.array([4, 0, 6, 2, 1, 5, 3])
    batch = Collator(tokenizer.template, HeadOnly(), max_seq_len)(dataset, places)
    theirs = BertTokenizer.from_pretrained(tiny_encoder)
    expected = theirs([TEXTS[place] for place in places], truncation=True, max_length=max_seq_len)
    assert sequences(batch, batch.input_ids) == expected["input_ids"]
    assert sequences(batch, batch.token_type_ids) == expected["token_type_ids"]
    assert batch.rows.tolist() == places.tolist()
    assert batch.labels is not None
    assert batch.labels.tolist() == [place % 2 for place in places]


def test_pairs_equal_transformers(dataset_of: DatasetOf, tokenizer: TextTokenizer, tiny_encoder: Path) -> None:
    dataset = dataset_of(PAIRS)
    batch = Collator(tokenizer.template, HeadOnly(), 128)(dataset, everything(dataset))
    theirs = BertTokenizer.from_pretrained(tiny_encoder)
    expected = [theirs(p) if isinstance(p, str) else theirs(*p) for p in PAIRS]
    assert sequences(batch, batch.input_ids) == [e["input_ids"] for e in expected]
    assert sequences(batch, batch.token_type_ids) == [e["token_type_ids"] for e in expected]


def test_long_pairs_share_the_places(dataset_of: DatasetOf, tokenizer: TextTokenizer) -> None:
    dataset = dataset_of(PAIRS)
    batch = Collator(tokenizer.template, TailOnly(), 20)(dataset, everything(dataset))
    types = sequences(batch, batch.token_type_ids)
    # Of 17 places the longer text gives way until both are equally long, then the second one first.
    assert [(row.count(0) - 2, row.count(1) - 1) for row in types[:4]] == [(2, 2), (16, 1), (1, 16), (9, 8)]
    heads = [dataset.shard.tokens(row)[0].tolist() for row in range(4)]
    for ids, head, row in zip(sequences(batch, batch.input_ids), heads, types, strict=False):
        assert ids[1 : row.count(0) - 1] == head[: row.count(0) - 2]


@pytest.mark.parametrize("truncation", [HeadOnly(), TailOnly(), HeadTail(), HeadTail(0), HeadTail(2)])
@pytest.mark.parametrize("max_seq_len", [8, 17, 100])
def test_the_parts_of_a_batch_fit_together(
    dataset_of: DatasetOf, tokenizer: TextTokenizer, truncation: Truncation, max_seq_len: int
) -> None:
    dataset = dataset_of([*TEXTS, *PAIRS])
    collator = Collator(tokenizer.template, truncation, max_seq_len)
    places = np.array([10, 3, 0, 12, 4, 7, 9])
    batch = collator(dataset, places)
    lengths = batch.cu_seqlens.diff().tolist()
    assert tuple(lengths) == batch.lengths
    assert lengths == collator.lengths(dataset)[places].tolist()
    assert batch.max_seqlen == max(lengths) <= max_seq_len
    assert sequences(batch, batch.position_ids) == [list(range(length)) for length in lengths]
    assert batch.window_of.tolist() == list(range(len(places)))
    assert batch.num_tokens == sum(lengths) == len(batch.token_type_ids)
    assert batch.num_documents == len(places)
    assert (batch.cu_seqlens.dtype, batch.input_ids.dtype, batch.window_of.dtype) == (torch.int64,) * 3
    for place, ids in zip(places, sequences(batch, batch.input_ids), strict=True):
        assert ids == collator(dataset, np.array([place])).input_ids.tolist()


def test_truncation_keeps_what_it_says(dataset_of: DatasetOf, tokenizer: TextTokenizer) -> None:
    dataset = dataset_of([SENTENCE * 10])
    whole = dataset.shard.tokens(0)[0].tolist()
    kept = {
        name: Collator(tokenizer.template, truncation, 12)(dataset, np.array([0])).input_ids.tolist()[1:-1]
        for name, truncation in (("head", HeadOnly()), ("tail", TailOnly()), ("both", HeadTail(3)))
    }
    assert kept == {"head": whole[:10], "tail": whole[-10:], "both": whole[:3] + whole[-7:]}


def test_rows_are_places_in_the_data_set_and_not_in_the_shard(dataset_of: DatasetOf, tokenizer: TextTokenizer) -> None:
    whole = dataset_of(TEXTS)
    part = whole.take(np.array([5, 2]))
    collator = Collator(tokenizer.template, HeadOnly(), 64)
    batch = collator(part, np.array([1, 0]))
    assert batch.rows.tolist() == [1, 0]
    assert sequences(batch, batch.input_ids) == [
        collator(whole, np.array([place])).input_ids.tolist() for place in (2, 5)
    ]
    assert part.ids(batch.rows.numpy()) == ["2", "5"]


@pytest.mark.parametrize("max_seq_len", [3, 4, 10, 40, 128])
def test_share_of_truncated_documents(dataset_of: DatasetOf, tokenizer: TextTokenizer, max_seq_len: int) -> None:
    dataset = dataset_of([*TEXTS, *PAIRS])
    collator = Collator(tokenizer.template, HeadOnly(), max_seq_len)
    free = Collator(tokenizer.template, HeadOnly(), 10_000).lengths(dataset)
    assert collator.truncated(dataset) == pytest.approx(np.mean(free > max_seq_len))
    assert (collator.lengths(dataset) <= free).all()


@pytest.mark.parametrize("max_seq_len", [4, 5, 7])
def test_lengths_where_a_pair_loses_its_second_text(
    dataset_of: DatasetOf, tokenizer: TextTokenizer, max_seq_len: int
) -> None:
    dataset = dataset_of([("the film is great", "a"), ("the film", "a book"), ("a", "the film is great")])
    collator = Collator(tokenizer.template, HeadOnly(), max_seq_len)
    batch = collator(dataset, everything(dataset))
    assert max(batch.lengths) <= max_seq_len
    planned = collator.lengths(dataset)
    assert np.all(planned - batch.lengths <= 1)
    assert np.all(planned >= batch.lengths)


def test_lengths_of_the_original_truncation(dataset_of: DatasetOf, tokenizer: TextTokenizer) -> None:
    dataset = dataset_of([SENTENCE * 10])
    collator = Collator(tokenizer.template, HeadTail(0, original_truncation=True), 13)
    assert (collator(dataset, np.array([0])).lengths, collator.lengths(dataset).tolist()) == ((12,), [13])


@pytest.mark.parametrize("truncation", [Windows(), Windows(3), Windows(0, 2), Windows(5, 3)])
@pytest.mark.parametrize("max_seq_len", [8, 17, 100])
def test_windows_of_a_batch(
    dataset_of: DatasetOf, tokenizer: TextTokenizer, truncation: Windows, max_seq_len: int
) -> None:
    dataset = dataset_of([*TEXTS, *PAIRS])
    collator = Collator(tokenizer.template, truncation, max_seq_len)
    places = np.array([10, 3, 0, 12, 4, 7, 9])
    batch = collator(dataset, places)
    lengths = np.array(batch.lengths)
    assert batch.cu_seqlens.diff().tolist() == lengths.tolist()
    assert batch.max_seqlen == max(lengths) <= max_seq_len
    assert batch.num_documents == len(places)
    assert batch.num_windows == len(lengths)
    of = batch.window_of.numpy()
    assert np.bincount(of, lengths).tolist() == collator.lengths(dataset)[places].tolist()
    assert set(of.tolist()) == set(range(len(places)))
    assert of.tolist() == sorted(of.tolist())
    parts = sequences(batch, batch.input_ids)
    for document, place in enumerate(places):
        first, second = dataset.shard.tokens(int(place))
        mine = [parts[number] for number in np.flatnonzero(of == document)]
        where = collator.places(dataset, int(place))
        if second is not None or len(mine) == 1:
            assert (len(mine), where) == (1, [])
            alone = Collator(tokenizer.template, HeadOnly(), max_seq_len)(dataset, np.array([place]))
            assert mine == [alone.input_ids.tolist()]
            continue
        assert [ids[1:-1] for ids in mine] == [first[start : start + count].tolist() for start, count in where]
        assert all((ids[0], ids[-1]) == (mine[0][0], mine[0][-1]) for ids in mine)
    cut = [is_cut(collator, dataset, place) for place in range(len(dataset))]
    assert collator.truncated(dataset) == pytest.approx(np.mean(cut))


def is_cut(collator: Collator, dataset: Dataset, place: int) -> bool:
    """Whether a document loses tokens, counted from what its windows reach."""
    first, second = dataset.shard.tokens(place)
    where = collator.places(dataset, place)
    if where:
        return bool(sum(where[-1]) < len(first))
    special = collator.template.special_tokens(second is not None)
    return len(first) + (0 if second is None else len(second)) + special > collator.max_seq_len


def test_pieces_of_a_batch_are_its_windows(dataset_of: DatasetOf, tokenizer: TextTokenizer) -> None:
    dataset = dataset_of(TEXTS)
    batch = Collator(tokenizer.template, Windows(2), 16)(dataset, np.array([4, 0, 3, 2]))
    whole, rows = sequences(batch, batch.input_ids), batch.rows[batch.window_of].tolist()
    for budget in (1, 16, 40, 10_000):
        found = list(batch.pieces(budget))
        assert [ids for piece in found for ids in sequences(piece, piece.input_ids)] == whole
        assert [row for piece in found for row in piece.rows.tolist()] == rows
        for piece in found:
            assert piece.num_tokens <= budget or piece.num_windows == 1
            assert piece.window_of.tolist() == list(range(piece.num_documents))
            assert piece.cu_seqlens.tolist() == [0, *itertools.accumulate(piece.lengths)]
            assert piece.max_seqlen == max(piece.lengths)
            assert sequences(piece, piece.position_ids) == [list(range(length)) for length in piece.lengths]
            assert len(piece.token_type_ids) == piece.num_tokens
            assert piece.labels is None
    assert len(list(batch.pieces(16))) == batch.num_windows - 1  # the two short texts go together
