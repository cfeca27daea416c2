"""A vocabulary learnt from texts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from doctune.errors import ConfigError
from doctune.text.tokenizer import TextTokenizer
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


def chinese(count: int, rows: int, seed: int = 0) -> list[str]:
    """Texts of so many different characters, the first ones most frequent, as in a language."""
    random = np.random.default_rng(seed)
    characters = np.array([chr(0x4E00 + n) for n in range(count)])
    weights = 1 / np.arange(10, count + 10)
    return ["".join(random.choice(characters, 40, p=weights / weights.sum())) + "。" for _ in range(rows)]


def test_chinese_characters_each_take_one_place(tmp_path: Path) -> None:
    texts = chinese(3000, 3000)
    tokenizer = train_vocabulary(texts, 5000, tmp_path)
    vocabulary = set(lines(tmp_path))
    present = set("".join(texts))
    assert len(present) > 2900
    assert present <= vocabulary
    assert not any(f"##{letter}" in vocabulary for letter in present)
    assert tokenizer.encode([texts[0]])[0].tolist() == [tokenizer.tokenizer.token_to_id(c) for c in texts[0]]


def test_letters_that_have_no_room_are_an_error(tmp_path: Path) -> None:
    texts = chinese(3000, 3000)
    with pytest.raises(ConfigError, match=r"^a vocabulary of 1,000 has room for 745 of the 3,\d+ different") as error:
        train_vocabulary(texts, 1000, tmp_path)
    assert not (tmp_path / "vocab.txt").exists()
    enough = int(str(error.value).rpartition(" ")[2].replace(",", ""))
    unknown = train_vocabulary(texts, enough, tmp_path).tokenizer.token_to_id("[UNK]")
    ids = np.concatenate(TextTokenizer.load(tmp_path).encode(texts))
    assert 0 < (ids == unknown).mean() <= 0.01
    with pytest.raises(ConfigError, match="has room for"):
        train_vocabulary(texts, enough - 10, tmp_path)


def test_a_rare_letter_is_left_out_and_changes_nothing_else(tmp_path: Path) -> None:
    plain = train_vocabulary(TEXTS * 200, 150, tmp_path / "plain")
    rare = train_vocabulary([*TEXTS * 200, "caþ"], 150, tmp_path / "rare")
    assert lines(tmp_path / "rare") == lines(tmp_path / "plain")
    assert rare.hash == plain.hash


def test_marks_are_words_and_never_continue_one(tmp_path: Path) -> None:
    train_vocabulary(TEXTS, 150, tmp_path)
    assert "," in lines(tmp_path)
    assert "##," not in lines(tmp_path)


def test_of_very_many_words_the_counts_are_divided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = train_vocabulary([*TEXTS * 50, "rarities"], 150, tmp_path / "whole")
    monkeypatch.setattr("doctune.text.vocabulary.MOST_WORDS", 9000)
    divided = train_vocabulary([*TEXTS * 50, "rarities"], 150, tmp_path / "divided")
    assert divided.size <= 150
    assert {"the", "walked", "walks", "times"} <= set(lines(tmp_path / "divided")) & set(lines(tmp_path / "whole"))
    assert whole.encode(["The cat walked"])[0].size == divided.encode(["The cat walked"])[0].size == 3
