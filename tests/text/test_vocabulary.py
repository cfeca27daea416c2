"""A vocabulary learnt from texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from doctune.text.vocabulary import SPECIAL_TOKENS, train_vocabulary

TEXTS = [
    f"The {word} walks and the {word}s walked walking, {n} times"
    for n, word in enumerate(["cat", "dog", "bird", "fish", "wolf"] * 40)
]


def lines(folder: Path) -> list[str]:
    return (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()


def test_the_same_texts_give_the_same_file(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    words = ["".join(random.choice(list("abcdefgh"), size=random.integers(3, 8))) for _ in range(2000)]
    files = set()
    for attempt in range(12):
        train_vocabulary(iter(words), 800, tmp_path / str(attempt))
        files.add((tmp_path / str(attempt) / "vocab.txt").read_bytes())
    assert len(files) == 1


def test_special_tokens_come_first_and_the_size_is_kept(tmp_path: Path) -> None:
    tokenizer = train_vocabulary(TEXTS, 150, tmp_path)
    assert lines(tmp_path)[:5] == SPECIAL_TOKENS
    assert len(lines(tmp_path)) == len(set(lines(tmp_path))) == tokenizer.size <= 150
    assert tokenizer.template.prefix == (2,)
    assert tokenizer.template.suffix == (3,)


def test_frequent_words_are_whole(tmp_path: Path) -> None:
    tokenizer = train_vocabulary(TEXTS, 150, tmp_path)
    vocabulary = lines(tmp_path)
    tokens = [[vocabulary[i] for i in row] for row in tokenizer.encode(["The CAT walks"])]
    assert tokens == [["the", "cat", "walks"]]


def test_case_can_be_kept(tmp_path: Path) -> None:
    tokenizer = train_vocabulary(TEXTS, 150, tmp_path, lowercase=False)
    upper, lower = tokenizer.encode(["The", "the"])
    assert "The" in lines(tmp_path)
    assert upper.tolist() != lower.tolist()
