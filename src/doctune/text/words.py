"""Where words begin, as far as a tokenizer's vocabulary tells."""

from __future__ import annotations

import json
from functools import cache

import numpy as np
import numpy.typing as npt

from doctune.text.tokenizer import Ids, TextTokenizer

Flags = npt.NDArray[np.bool_]

SENTENCE_PIECE = "▁"
BYTE_LEVEL = ("Ġ", "Ċ", "ĉ")  # space, line feed and tab as byte-level vocabularies write them
# Ideographs with their extensions, as BERT's tokenizer separates them, and kana.
OWN_WORDS = (
    (0x3040, 0x30FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x2FA1F),
)  # fmt: skip


def word_starts(tokenizer: TextTokenizer) -> Flags:
    """Whether each token id begins a word: [vocabulary].

    WordPiece marks what continues a word; byte-level and sentencepiece vocabularies mark what begins one. A Chinese
    character is a word. Special tokens, and ids that no token has, begin one. A sentence's first token begins a word
    whatever the vocabulary says; `shard_word_starts` sees to that.
    """
    begins = np.ones(tokenizer.size, np.bool_)
    model = json.loads(tokenizer.tokenizer.to_str())["model"]
    vocabulary = tokenizer.tokenizer.get_vocab(with_added_tokens=False)
    special = {token.content for token in tokenizer.tokenizer.get_added_tokens_decoder().values()}
    if model["type"] == "WordPiece":
        continuing = str(model["continuing_subword_prefix"])
        for token, number in vocabulary.items():
            begins[number] = not token.startswith(continuing) or token == continuing
        return begins
    byte_level = not any(token.startswith(SENTENCE_PIECE) for token in vocabulary)
    marks = BYTE_LEVEL if byte_level else (SENTENCE_PIECE,)
    for token, number in vocabulary.items():
        if token not in special:
            begins[number] = token.startswith(marks) or _is_own_word(_text(token) if byte_level else token)
    return begins


def shard_word_starts(input_ids: Ids, sentences: npt.NDArray[np.int64], starts: Flags) -> Flags:
    """Whether each token of a shard begins a word: [T].

    `sentences` is [S + 1] as in `CorpusShard`, `starts` what `word_starts` gives.
    """
    begins = starts[input_ids]
    firsts = sentences[:-1]
    begins[firsts[firsts < len(begins)]] = True
    return begins


def _is_own_word(token: str) -> bool:
    return any(low <= ord(character) <= high for character in token[:1] for low, high in OWN_WORDS)


def _text(token: str) -> str:
    """What a byte-level token stands for; nothing where it begins inside a character."""
    values = _bytes()
    known = bytes(values[character] for character in token if character in values)
    return known.decode("utf-8", errors="ignore") if known and known[0] & 0xC0 != 0x80 else ""


@cache
def _bytes() -> dict[str, int]:
    """The bytes that a byte-level vocabulary's characters stand for: printable ones themselves, the others from 256."""
    themselves = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in themselves]
    return {chr(byte): byte for byte in themselves} | {chr(0x100 + place): byte for place, byte in enumerate(others)}
