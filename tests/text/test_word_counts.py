"""Words are counted as the tokenizer itself would see them, and in bounded memory."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from doctune.text.tokenizer import TextTokenizer
from doctune.text.word_counts import WordCounts, WordSplitter, bert_rules, rules_of

TEXTS = [
    "The CAT's cat, the (cat)! naïve Naïve NAI\u0308VE \u200bxy\tand\nnew\r\nline",
    "价格 100元，the价格",
    "don't e-mail a/b x=1 ∑ über ﬁne Ⅳ",
    "",
    "the\u00a0cat\u2028sat half \ud800 an emoji",
] * 3


@pytest.mark.parametrize("lowercase", [True, False])
def test_counts_are_those_of_each_text_by_itself(lowercase: bool) -> None:
    splitter = WordSplitter(bert_rules(lowercase))
    texts = [text.encode("utf-8", "replace").decode() for text in TEXTS]
    assert splitter.count(TEXTS) == Counter(word for text in texts for word in splitter.words(text))
    assert splitter.count(["Cat cat"]) == ({"cat": 2} if lowercase else {"Cat": 1, "cat": 1})


def test_an_encoder_has_the_rules_of_its_own(tiny_encoder: Path, byte_level_folder: Path) -> None:
    rules = rules_of(TextTokenizer.load(tiny_encoder))
    assert rules is not None
    assert WordSplitter(rules).count(["The film's"]) == {"the": 1, "film": 1, "'": 1, "s": 1}
    assert rules_of(TextTokenizer.load(byte_level_folder)) is None


def test_addresses_are_no_words() -> None:
    splitter = WordSplitter(bert_rules(True))
    counts = splitter.count(
        ["see https://films.example/abc?d=e and (www.example.org) www.example.net/x", "www is a word"]
    )
    assert counts == {"see": 1, "and": 1, "(": 1, "www": 1, "is": 1, "a": 1, "word": 1}


def test_the_rarest_words_are_forgotten_but_not_their_letters() -> None:
    words = WordCounts(kept=10)
    everything: Counter[str] = Counter()
    for part in range(20):
        some = Counter({f"frequent{n}": 9 for n in range(5)}) + Counter({f"x{part}y{n}": 1 for n in range(8)})
        words.add(some)
        everything.update(some)
    assert len(words.counts) <= 20
    for word in words.counts:
        assert everything[word] - words.error <= words.counts[word] <= everything[word]
    assert all(words.counts[f"frequent{n}"] == 180 for n in range(5))
    exact = WordCounts()
    exact.add(everything)
    assert exact.error == 0
    assert words.letters() == exact.letters()
    assert exact.letters()["x"] == 160
    assert exact.letters()["##y"] == 160
    assert exact.letters()["y"] == 0
