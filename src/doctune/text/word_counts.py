"""How often each word occurs, as BERT's tokenizer sees words: normalised, and split at white space and marks.

Counting is fast because what stands between two spaces is normalised once for many texts, not wherever it comes.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer, Normalizer
from tokenizers.pre_tokenizers import BertPreTokenizer, PreTokenizer

from doctune.text.tokenizer import TextTokenizer
from doctune.text.word_cache import MARKS

WORDS_KEPT = 2**20
"""Different words that are counted at a time; when there are more, the rarest are forgotten."""
TEXTS_AT_ONCE = 1024
INSIDE = "##"
_WHITE_SPACE = bytes.maketrans(b"\n\t\r", b"   ")
_ADDRESS = re.compile(r"(?:https?://|www\.)\S+", re.IGNORECASE)


class WordSplitter:
    """Counts the words of texts; `rules` says how a tokenizer splits them (`bert_rules`, `rules_of`)."""

    def __init__(self, rules: str) -> None:
        self._rules = Tokenizer.from_str(rules)
        self._lower = bool((json.loads(rules)["normalizer"] or {}).get("lowercase"))

    def count(self, texts: Iterable[str]) -> Counter[str]:
        """The words of the texts, and how often each occurs; addresses on the web are left out."""
        raw: Counter[bytes] = Counter()
        remaining = iter(texts)
        while some := list(islice(remaining, TEXTS_AT_ONCE)):
            raw.update(self._split(some))
        by_count: dict[int, list[str]] = {}
        for chunk, times in raw.items():
            by_count.setdefault(times, []).append(chunk.decode())
        counts: Counter[str] = Counter()
        for times, words in by_count.items():
            # All that occurs equally often is looked at as one text.
            for word in self.words(" ".join(words)):
                counts[word] += times
        return counts

    def words(self, text: str) -> list[str]:
        """The words of a text in their order."""
        assert self._rules.normalizer is not None
        assert self._rules.pre_tokenizer is not None
        normal = self._rules.normalizer.normalize_str(text)
        return [word for word, _ in self._rules.pre_tokenizer.pre_tokenize_str(normal)]

    def _split(self, texts: Sequence[str]) -> list[bytes]:
        joined = "\n".join(_ADDRESS.sub(" ", text) if _may_have_address(text) else text for text in texts).encode(
            "utf-8", "replace"
        )
        joined = joined.translate(_WHITE_SPACE)
        if self._lower:
            joined = joined.lower()  # the letters of ASCII only, the others are left to the normaliser
        for mark in MARKS:
            joined = joined.replace(mark, b" " + mark + b" ")
        return joined.split(b" ")


class WordCounts:
    """Words and their counts in bounded memory; letters are counted of all words, also of those that are forgotten.

    `error`: a count may be too low by so much. Without more than `WORDS_KEPT` different words it is 0.
    """

    def __init__(self, kept: int = WORDS_KEPT) -> None:
        self.counts: Counter[str] = Counter()
        self.error = 0
        self._kept = kept
        self._forgotten: Counter[str] = Counter()

    def add(self, counts: Mapping[str, int]) -> None:
        """Add counts of some texts."""
        self.counts.update(counts)
        if len(self.counts) > 2 * self._kept:
            least = sorted(self.counts.values(), reverse=True)[self._kept]
            rare = [word for word, count in self.counts.items() if count <= least]
            self._forgotten.update(_letters((word, self.counts.pop(word)) for word in rare))
            self.error += least

    def letters(self) -> Counter[str]:
        """How often each letter or mark begins a word, and, with ## before it, how often it stands inside one."""
        return _letters(self.counts.items()) + self._forgotten


def bert_rules(lowercase: bool) -> str:
    """How BERT's own tokenizer splits texts into words."""
    return _rules(BertNormalizer(lowercase=lowercase), BertPreTokenizer())


def rules_of(tokenizer: TextTokenizer) -> str | None:
    """How this tokenizer splits texts into words; None for one that is not of BERT's kind."""
    made = json.loads(tokenizer.tokenizer.to_str())
    kinds = [(made.get(part) or {}).get("type") for part in ("normalizer", "pre_tokenizer", "model")]
    if kinds != ["BertNormalizer", "BertPreTokenizer", "WordPiece"]:
        return None
    return _rules(tokenizer.tokenizer.normalizer, tokenizer.tokenizer.pre_tokenizer)


def _rules(normalizer: Normalizer | None, pre_tokenizer: PreTokenizer | None) -> str:
    rules = Tokenizer(WordPiece(unk_token="[UNK]"))
    rules.normalizer = normalizer
    rules.pre_tokenizer = pre_tokenizer
    return str(rules.to_str())


def _letters(words: Iterable[tuple[str, int]]) -> Counter[str]:
    letters: Counter[str] = Counter()
    for word, count in words:
        letters[word[0]] += count
        for letter in word[1:]:
            letters[INSIDE + letter] += count
    return letters


def _may_have_address(text: str) -> bool:
    return "://" in text or "www." in text or "WWW." in text
