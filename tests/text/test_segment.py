"""Words of Chinese text on the tokens of a sentence."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from doctune.errors import ConfigError
from doctune.text.segment import Segmenter
from doctune.text.tokenizer import TextTokenizer


def test_characters_of_a_word_belong_together(word_piece_folder: Callable[[bool], Path]) -> None:
    pytest.importorskip("rjieba")
    tokenizer = TextTokenizer.load(word_piece_folder(True))
    sentences = ["我们在图书馆。", "the neighbours", ""]
    ids = np.concatenate(tokenizer.encode(sentences))
    starts = Segmenter(tokenizer).word_starts(sentences)
    assert len(starts) == len(ids)
    assert starts[:7].tolist() == [True, False, True, True, False, False, True]
    tokens = [tokenizer.tokenizer.id_to_token(int(number)) for number in ids[7:]]
    assert starts[7:].tolist() == [not token.startswith("##") for token in tokens]


def test_it_is_an_extra(word_piece_folder: Callable[[bool], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rjieba", None)
    with pytest.raises(ConfigError, match=r"pip install 'doctune\[chinese\]'"):
        Segmenter(TextTokenizer.load(word_piece_folder(True)))
