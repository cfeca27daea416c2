"""Words of Chinese text, so that whole words can be masked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from doctune.errors import ConfigError
from doctune.text.tokenizer import TEXTS_PER_CALL, TextTokenizer

Flags = npt.NDArray[np.bool_]


class Segmenter:
    """Jieba's words, by the rjieba library."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        try:
            import rjieba  # optional
        except ImportError:
            raise ConfigError(
                "sentences.segmenter: jieba needs the rjieba library: pip install 'doctune[chinese]'"
            ) from None
        self._cut: Any = rjieba.cut
        self._tokenizer = tokenizer.tokenizer

    def word_starts(self, sentences: Sequence[str]) -> Flags:
        """Whether each token of the sentences, end to end, begins a word: [T]."""
        starts: list[Flags] = [np.zeros(0, np.bool_)]
        for first in range(0, len(sentences), TEXTS_PER_CALL):
            some = list(sentences[first : first + TEXTS_PER_CALL])
            encodings = self._tokenizer.encode_batch(some, add_special_tokens=False)
            starts += [self._starts(s, e.offsets) for s, e in zip(some, encodings, strict=True)]
        return np.concatenate(starts)

    def _starts(self, sentence: str, offsets: Sequence[tuple[int, int]]) -> Flags:
        words = np.array([len(word) for word in self._cut(sentence)], np.int64)
        word_of = np.repeat(np.arange(len(words)), words)
        begins = np.array([begin for begin, _ in offsets], np.int64)
        own = word_of[np.minimum(begins, len(word_of) - 1)] if len(begins) else begins
        starts: Flags = np.diff(own, prepend=-1) != 0
        return starts
