"""Tokens from a cache of words are those of the tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from doctune.text import word_cache
from doctune.text.tokenizer import TextTokenizer
from doctune.text.word_cache import WordCache

ODD = [
    "", " ", "  a  b ", "a\tb\nc d", "Ünïcödé e\u0301 x\u0301\u0323", "我们 的图书馆, the", "\u200b", "a\u00a0b\u2003c",
    "[SEP] [MASK] [ CLS]", "x" * 300, "don't stop--now...", "ΣΑΣ ΟΔΟΣ", "\x00 \ufffd \x1c \x85", "a\x1fb c\x0bd",
    "é\u0301 \u0301 a", "İstanbul ǅ", "龥 ﹏ 。 ！", "~ ～ ｡",
    "a;b ; c\u037ed", ";", "\n", "a\n;\n b", "\r\n \n", ",\u0301a", "A\u030aB",
]  # fmt: skip


def _same(tokenizer: TextTokenizer, texts: list[str]) -> WordCache:
    cache = WordCache(tokenizer)
    expected = tokenizer.encode(texts)
    for _ in range(2):
        ids, lengths = cache.encode(texts)
        assert ids.dtype == np.int32
        assert lengths.tolist() == [len(row) for row in expected]
        assert np.array_equal(ids, np.concatenate([np.zeros(0, np.int32), *expected]))
    return cache


@pytest.mark.parametrize("lower", [True, False])
def test_words_have_the_same_tokens_wherever_they_come(
    lower: bool, word_piece_folder: Callable[[bool], Path], golden: Path
) -> None:
    tokenizer = TextTokenizer.load(word_piece_folder(lower))
    cases = json.loads((golden / "tokenization.json").read_text(encoding="utf-8"))
    found = _strings(cases)
    single = [token for token in tokenizer.tokenizer.get_vocab() if len(token) == 1]
    cache = _same(tokenizer, [*ODD, *filter(_encodable, found), *single])
    assert cache._separator is not None


def test_english_and_chinese_text(golden: Path, word_piece_folder: Callable[[bool], Path]) -> None:
    lines = (golden / "pretraining_instances" / "corpus.txt").read_text(encoding="utf-8").split("\n")
    _same(TextTokenizer.load(word_piece_folder(True)), lines)


def test_other_tokenizers_are_asked_for_every_text(byte_level_folder: Path) -> None:
    cache = _same(TextTokenizer.load(byte_level_folder), ["hello  world", " hello", "", "a bird"])
    assert cache._separator is None


def test_it_starts_anew_when_full(word_piece_folder: Callable[[bool], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_cache, "WORDS_KEPT", 3)
    monkeypatch.setattr(word_cache, "TEXTS_AT_ONCE", 2)
    monkeypatch.setattr(word_cache, "WORDS_AT_ONCE", 2)
    _same(TextTokenizer.load(word_piece_folder(True)), ["the cat of the", "one two three four", *ODD, "the cat"])


def test_no_text(tiny_encoder: Path) -> None:
    ids, lengths = WordCache(TextTokenizer.load(tiny_encoder)).encode([])
    assert len(ids) == len(lengths) == 0


def _strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
    return [text for child in children for text in _strings(child)]


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
