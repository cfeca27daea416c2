"""Figures of a corpus against counts by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from doctune.settings import CorpusSettings
from doctune.store import corpus_stats
from doctune.store.corpus import Corpus
from doctune.store.corpus_build import build_corpus
from doctune.store.corpus_part import Document
from doctune.store.corpus_stats import measure
from doctune.text.tokenizer import TextTokenizer

TEXTS = ["The film was good. Cab!", "The cab, one two.\n\nbad cab", "good; Ünü 图", "the the"]


@pytest.fixture
def make(tmp_path: Path, tokenizer: TextTokenizer) -> Callable[[list[str]], Corpus]:
    def make(texts: list[str]) -> Corpus:
        tree = {"output": str(tmp_path / "corpus"), "encoder": "x", "sources": ["a"], "shard_bytes": 20}
        made = [Document(str(number), 0, text) for number, text in enumerate(texts)]
        return build_corpus(made, CorpusSettings.build(tree), tokenizer, 1)

    return make


def test_against_counts_by_hand(make: Callable[[list[str]], Corpus]) -> None:
    corpus = make(TEXTS)
    assert len(corpus.shards) > 1
    figures = measure(corpus)
    assert (figures.total.documents, figures.total.sentences) == (4, 6)
    # cab is c ##a ##b, ünü is u ##n ##u; 图 and ; are not in the vocabulary, and count as words; , and . do not.
    assert figures.unknown == 2
    assert figures.words_of_pieces == {1: 13, 3: 4}
    assert figures.words == 17
    assert figures.pieces_per_word == pytest.approx((13 + 3 * 4) / 17)
    assert (figures.share_broken(2), figures.share_broken(4)) == (4 / 17, 0.0)
    assert [(word.pieces, word.count) for word in figures.broken_words] == [
        (("c", "##a", "##b"), 3), (("u", "##n", "##u"), 1),
    ]  # fmt: skip
    assert figures.sentence_tokens.percentiles[100] == 8
    assert figures.document_tokens.mean == pytest.approx(figures.total.tokens / 4)
    assert figures.document_sentences.percentiles[50] == 1


def test_overlap_with_a_task(make: Callable[[list[str]], Corpus]) -> None:
    figures = measure(make(TEXTS), iter(["The cab was terrible", "terrible 图", "good"]))
    assert figures.overlap is not None
    assert figures.overlap.model_dump() == {"texts": 3, "types": 5, "types_found": 4, "words": 7, "words_found": 4}


def test_counts_in_little_memory_are_never_too_high(
    make: Callable[[list[str]], Corpus], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_stats, "BROKEN_WORDS", 3)
    rare = [f"{a}{b}x xyz" for a in "qkj" for b in "wvz"]
    figures = measure(make(rare))
    assert figures.count_error > 0
    best = figures.broken_words[0]
    assert best.pieces == ("x", "##y", "##z")
    assert best.count <= 9 <= best.count + figures.count_error
