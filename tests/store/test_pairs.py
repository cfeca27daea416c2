"""Sequences from random corpora: what holds for every one of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from doctune.settings.pretraining import PairSettings
from doctune.store import pairs
from doctune.store.pairs import Instances, assemble, gather, plan_instances
from doctune.text.tokenizer import Template

BERT = Template((1,), (2,), (2,), 1)
ROBERTA = Template((0,), (2, 2), (2,), 0)
Corpus = tuple[np.ndarray, np.ndarray, np.ndarray]


def _corpus(seed: int, num_documents: int = 12, longest: int = 40) -> Corpus:
    """Documents of 0 to 9 sentences of 1 to `longest` tokens; every token is another number."""
    rng = np.random.default_rng(seed)
    documents = np.cumsum([0, *rng.integers(0, 10, num_documents)])
    sentences = np.cumsum([0, *rng.integers(1, longest + 1, documents[-1])])
    return np.arange(100, 100 + sentences[-1], dtype=np.int32), sentences, documents


def _plan(corpus: Corpus, chosen: Any = None, seed: int = 0, epoch: int = 0, **settings: Any) -> Instances:
    _, sentences, documents = corpus
    chosen = np.arange(len(documents) - 1) if chosen is None else np.asarray(chosen, np.int64)
    made = PairSettings.model_validate({"sequence_len": 32, **settings})
    return plan_instances(sentences, documents, chosen, made, BERT, seed, epoch, 0)


def _rows(instances: Instances) -> list[tuple[int, ...]]:
    columns = (instances.a_start, instances.a_end, instances.b_start, instances.b_end, instances.label)
    return list(zip(*(column.tolist() for column in (*columns, instances.document, instances.key)), strict=True))


def _document_of(corpus: Corpus, tokens: np.ndarray) -> np.ndarray:
    _, sentences, documents = corpus
    return np.searchsorted(documents, np.searchsorted(sentences, tokens, side="right") - 1, side="right") - 1


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("objective", ["nsp", "sop"])
def test_pairs_are_two_parts_that_fit(seed: int, objective: str) -> None:
    corpus = _corpus(seed)
    made = _plan(corpus, seed=seed, objective=objective, short_seq_prob=0.3)
    assert len(made)
    assert (made.a_end > made.a_start).all()
    assert (made.b_end > made.b_start).all()
    assert made.lengths(BERT).max() <= 32
    for first, last in ((made.a_start, made.a_end), (made.b_start, made.b_end)):
        assert np.array_equal(_document_of(corpus, first), _document_of(corpus, last - 1))
    assert np.array_equal(_document_of(corpus, made.a_start), made.document)
    assert len(np.unique(made.key)) == len(made)
    assert set(made.label.tolist()) == {0, 1}


@pytest.mark.parametrize("seed", range(20))
def test_an_actual_second_part_follows_and_a_random_one_is_of_another_document(seed: int) -> None:
    corpus = _corpus(seed)
    made = _plan(corpus, seed=seed)
    other = _document_of(corpus, made.b_start)
    follows = made.label == 0
    assert (other[follows] == made.document[follows]).all()
    assert (other[~follows] != made.document[~follows]).all()
    uncut = follows & (made.lengths(BERT) < 32)
    assert np.array_equal(made.a_end[uncut], made.b_start[uncut])
    assert (made.a_end[follows] <= made.b_start[follows]).all()
    # Whole sentences, where nothing was cut.
    uncut = made.lengths(BERT) < 32
    for bound in (made.a_start, made.a_end, made.b_start, made.b_end):
        assert np.isin(bound[uncut], corpus[1]).all()


def test_a_single_sentence_gets_a_random_second_part_and_others_in_half_of_the_cases() -> None:
    sentences, documents = np.arange(0, 4001, 10), np.arange(0, 401, 2)
    made = _plan((np.zeros(0), sentences, documents), sequence_len=23, short_seq_prob=0.0)
    # Each document is a chunk of two sentences; where a random part comes, the second is read again, alone.
    again = np.bincount(made.document) == 2
    assert 0.35 < again.mean() < 0.65
    assert made.label.sum() == 2 * again.sum()


def test_of_a_single_document_the_random_part_comes_from_itself() -> None:
    corpus = _corpus(3)
    document = int(np.argmax(np.diff(corpus[2])))
    made = _plan(corpus, chosen=[document])
    assert made.label.any()
    assert (_document_of(corpus, made.b_start) == document).all()


def test_random_parts_come_from_chosen_documents_only() -> None:
    corpus = _corpus(4, num_documents=30)
    chosen = np.flatnonzero(np.diff(corpus[2]))[::3]
    made = _plan(corpus, chosen=chosen)
    assert set(_document_of(corpus, made.b_start).tolist()) <= set(chosen.tolist())


@pytest.mark.parametrize("seed", range(20))
def test_one_part_loses_nothing(seed: int) -> None:
    corpus = _corpus(seed, longest=80)
    made = _plan(corpus, seed=seed, objective="none", short_seq_prob=0.2)
    assert np.array_equal(made.b_start, made.b_end)
    assert not made.label.any()
    assert (made.a_end > made.a_start).all()
    assert made.lengths(BERT).max() <= 32
    # One after another they are the corpus.
    assert made.a_start[0] == 0
    assert made.a_end[-1] == corpus[1][-1]
    assert np.array_equal(made.a_end[:-1], made.a_start[1:])
    # Cut inside a sentence only where it is longer than a sequence.
    within = ~np.isin(made.a_end, corpus[1])
    assert (made.a_end - made.a_start)[within].tolist() == [30] * within.sum()
    assert np.array_equal(_document_of(corpus, made.a_start), _document_of(corpus, made.a_end - 1))


@pytest.mark.parametrize("seed", range(20))
def test_parts_in_order_or_swapped(seed: int) -> None:
    corpus = _corpus(seed)
    made = _plan(corpus, seed=seed, objective="sop")
    first = np.where(made.label == 1, made.b_start, made.a_start), np.where(made.label == 1, made.b_end, made.a_end)
    second = np.where(made.label == 1, made.a_start, made.b_start)
    assert (first[1] <= second).all()
    uncut = made.lengths(BERT) < 32
    assert np.array_equal(first[1][uncut], second[uncut])


def test_a_document_of_one_token_has_no_order() -> None:
    corpus = np.zeros(0), np.array([0, 1, 3]), np.array([0, 1, 2])
    made = _plan(corpus, objective="sop")
    assert made.document.tolist() == [1]
    assert sorted([made.a_start[0], made.b_start[0]]) == [1, 2]


@pytest.mark.parametrize("objective", ["nsp", "sop", "none"])
def test_nothing_to_plan(objective: str) -> None:
    for corpus, chosen in ((_corpus(0, num_documents=0), []), (_corpus(1), []), (_corpus(0, 3, 1), [])):
        made = _plan(corpus, chosen, objective=objective)
        assert len(made) == 0
        packed = assemble(corpus[0], made, np.arange(0), BERT)
        assert packed.cu_seqlens.tolist() == [0]
    empty = np.zeros(0, np.int32), np.array([0, 3]), np.array([0, 0, 1, 1])
    assert set(_plan(empty, objective=objective, chosen=[0, 1, 2]).document.tolist()) == {1}


@pytest.mark.parametrize("objective", ["nsp", "sop", "none"])
def test_passes_differ_and_repeat(objective: str) -> None:
    corpus = _corpus(5)
    plan = [_rows(_plan(corpus, epoch=epoch, objective=objective, short_seq_prob=0.5)) for epoch in range(4)]
    assert plan[0] == _rows(_plan(corpus, objective=objective, short_seq_prob=0.5))
    keys = [{row[-1] for row in rows} for rows in plan]
    assert not keys[0] & keys[1]
    assert plan[0] != plan[1]
    assert plan[0] != _rows(_plan(corpus, seed=1, objective=objective, short_seq_prob=0.5))
    static = [
        _rows(_plan(corpus, epoch=epoch, objective=objective, short_seq_prob=0.5, duplication=2)) for epoch in range(4)
    ]
    assert static[:2] == static[2:] == plan[:2]


def test_a_document_used_twice_is_read_in_two_ways() -> None:
    corpus = _corpus(6)
    document = int(np.argmax(np.diff(corpus[2])))
    made = _plan(corpus, chosen=[document] * 5, objective="sop", short_seq_prob=0.5)
    assert len(np.unique(made.key)) == len(made)
    starts = np.flatnonzero(np.diff(made.a_start, prepend=10**9) < 0)
    assert len(starts) >= 5


@pytest.mark.parametrize("objective", ["sop", "none"])
def test_a_document_is_read_alike_whatever_stands_beside_it(objective: str) -> None:
    corpus = _corpus(7)
    number = len(corpus[2]) - 1
    everything = set(_rows(_plan(corpus, objective=objective)))
    backwards = set(_rows(_plan(corpus, chosen=np.arange(number)[::-1], objective=objective)))
    apart = [row for document in range(number) for row in _rows(_plan(corpus, [document], objective=objective))]
    assert everything == backwards == set(apart)


def test_too_long_pairs_are_cut_as_one_would_token_by_token() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(1, 60, (2, 3000))
    num = len(a)
    starts = np.arange(num) * 1000
    chunks = pairs._Chunks(*([starts] * 3), np.zeros(num, bool), starts, starts, rng.integers(0, 2**63, num, np.uint64))
    made = pairs._cut(chunks, starts.copy(), starts + a, starts + 500, starts + 500 + b, np.zeros(num, bool), 29)
    for row in range(num):
        left_a, left_b = int(a[row]), int(b[row])
        while left_a + left_b > 29:
            left_a, left_b = (left_a - 1, left_b) if left_a > left_b else (left_a, left_b - 1)
        assert made.a_end[row] - made.a_start[row] == left_a
        assert made.b_end[row] - made.b_start[row] == left_b
    for off, front in (
        (a - made.a_end + made.a_start, made.a_start - starts),
        (b - made.b_end + made.b_start, made.b_start - starts - 500),
    ):
        assert (front <= off).all()
        assert abs((front - off / 2).sum()) < 4 * np.sqrt(off.sum() / 4)


@pytest.mark.parametrize("template", [BERT, ROBERTA, Template((), (5,), (6, 7), 1), Template((), (), (), 0)])
@pytest.mark.parametrize("objective", ["nsp", "none"])
def test_packed_rows_are_the_template_of_each(template: Template, objective: str) -> None:
    corpus = _corpus(8)
    settings = PairSettings.model_validate({"sequence_len": 32, "objective": objective})
    made = plan_instances(corpus[1], corpus[2], np.arange(12), settings, template, 0, 0, "a name")
    places = np.random.default_rng(0).permutation(len(made))
    packed = assemble(corpus[0], made, places, template)
    assert packed.input_ids.dtype == np.int32
    assert np.array_equal(np.diff(packed.cu_seqlens), made.lengths(template)[places])
    assert made.lengths(template).max() <= 32
    odd = gather(corpus[0] % 2 == 1, made, places, template)
    for row, place in enumerate(places):
        part = slice(packed.cu_seqlens[row], packed.cu_seqlens[row + 1])
        first = corpus[0][made.a_start[place] : made.a_end[place]]
        second = corpus[0][made.b_start[place] : made.b_end[place]]
        ids, types = template.assemble(first, second)
        assert np.array_equal(packed.input_ids[part], ids)
        assert np.array_equal(packed.token_type_ids[part], types)
        # Tokens are numbered from 100, special ones below.
        assert np.array_equal(packed.special[part], ids < 100)
        assert np.array_equal(odd[part][ids >= 100], ids[ids >= 100] % 2 == 1)


def test_shards_can_be_joined() -> None:
    corpora = [_corpus(seed) for seed in (9, 10)]
    made = [_plan(corpus) for corpus in corpora]
    together = Instances.joined([made[0], made[1].shifted(len(corpora[0][0]))])
    ids = np.concatenate([corpora[0][0], corpora[1][0]])
    places = np.arange(len(made[0]), len(together))
    packed = assemble(ids, together, places, BERT)
    alone = assemble(corpora[1][0], made[1], places - len(made[0]), BERT)
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(packed, alone, strict=True))
    assert _rows(together.take(together.label == 1)) == [row for row in _rows(together) if row[4] == 1]
