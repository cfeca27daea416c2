"""New pieces for an encoder's WordPiece vocabulary: the words of a domain that it breaks most, as they are."""

from __future__ import annotations

import json
import unicodedata
from collections import Counter
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from doctune.config import Settings
from doctune.text.tokenizer import Ids, TextTokenizer
from doctune.text.word_cache import WordCache
from doctune.text.word_counts import INSIDE

FEWEST = 5
"""Times that a word must occur: of a rarer one, training would not learn its piece."""


class Fragmentation(Settings):
    """How far a tokenizer breaks the words of texts; only words with a letter or digit are counted.

    `broken` is the share in two or more pieces, `unknown` the share that has [UNK].
    """

    words: int
    pieces_per_word: float
    broken: float
    unknown: float


def fragmentation(tokenizer: TextTokenizer, counts: Counter[str]) -> Fragmentation:
    """How far the words are broken, each as often as it was counted."""
    words = [word for word in counts if any(character.isalnum() for character in word)]
    times = np.array([counts[word] for word in words], np.int64)
    ids, pieces = WordCache(tokenizer).encode(words)
    total = int(times.sum())
    figures = ((times * pieces).sum(), times[pieces > 1].sum(), times[_unknown(tokenizer, ids, pieces)].sum())
    pieces_per_word, broken, unknown = (float(figure) / max(total, 1) for figure in figures)
    return Fragmentation(words=total, pieces_per_word=pieces_per_word, broken=broken, unknown=unknown)


def most_broken(tokenizer: TextTokenizer, counts: Counter[str], number: int) -> list[str]:
    """At most so many words whose breaking makes the most tokens, the costliest first.

    Only ordinary words (letters, and digits after the first letter) that occur `FEWEST` times, and have no [UNK].
    """
    words = [word for word, count in counts.items() if count >= FEWEST and _is_ordinary(word)]
    ids, pieces = WordCache(tokenizer).encode(words)
    unknown = _unknown(tokenizer, ids, pieces)
    costs = [
        ((size - 1) * counts[word], word)
        for word, size, strange in zip(words, pieces.tolist(), unknown.tolist(), strict=True)
        if size > 1 and not strange
    ]
    return [word for _, word in sorted(costs, key=lambda pair: (-pair[0], pair[1]))[:number]]


def extend(tokenizer: TextTokenizer, words: list[str]) -> TextTokenizer:
    """The WordPiece tokenizer with the words as pieces after its own, which keep their ids."""
    made = json.loads(tokenizer.tokenizer.to_str())
    made["model"]["vocab"] |= {word: tokenizer.size + place for place, word in enumerate(words)}
    return TextTokenizer(Tokenizer.from_str(json.dumps(made)), tokenizer.config)


def added_pieces(old: TextTokenizer, new: TextTokenizer) -> dict[int, list[int]] | None:
    """The ids of the pieces that `new` has after those of `old`, with what `old` makes of each.

    None if the tokenizers differ in anything else.
    """
    if old.hash == new.hash:
        return {}
    before, after = (json.loads(tokenizer.tokenizer.to_str()) for tokenizer in (old, new))
    if before["model"].get("type") != "WordPiece" or after["model"].get("type") != "WordPiece":
        return None
    own: dict[str, int] = before["model"].pop("vocab")
    all_pieces: dict[str, int] = after["model"].pop("vocab")
    if before != after or any(all_pieces.get(piece) != number for piece, number in own.items()):
        return None
    added = sorted((number, piece) for piece, number in all_pieces.items() if piece not in own)
    if [number for number, _ in added] != list(range(old.size, new.size)):
        return None
    ids = old.encode([piece.removeprefix(INSIDE) for _, piece in added])
    pieces = {number: row.tolist() for (number, _), row in zip(added, ids, strict=True)}
    return pieces if all(pieces.values()) else None


def _is_ordinary(word: str) -> bool:
    """Letters with their marks, and digits after the first letter."""
    kinds = [unicodedata.category(character)[0] for character in word]
    return kinds[0] == "L" and all(
        kind in "LM" or character.isdigit() for kind, character in zip(kinds, word, strict=True)
    )


def _unknown(tokenizer: TextTokenizer, ids: Ids, pieces: Any) -> Any:
    """Whether each word has [UNK] among its pieces."""
    token = getattr(tokenizer.tokenizer.model, "unk_token", None)
    number = tokenizer.tokenizer.token_to_id(token) if token else None
    found = np.zeros(len(pieces), np.bool_)
    found[np.repeat(np.arange(len(pieces)), pieces)[ids == (-1 if number is None else number)]] = True
    return found
