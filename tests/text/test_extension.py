"""Words as new pieces: old ids stay, new ones follow, and words are broken less."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from doctune.text.extension import added_pieces, extend, fragmentation, most_broken
from doctune.text.tokenizer import TextTokenizer

COUNTS = Counter(
    {
        "film": 1000, "filmgoer": 10, "slapstick": 10, "h5n1": 8, "films": 30, "5th": 50, "2019": 90, "ab": 4, "'": 90,
        "þorn": 60, "foo_bar": 70,
    }
)  # fmt: skip


@pytest.fixture
def tokenizer(tiny_encoder: Path) -> TextTokenizer:
    return TextTokenizer.load(tiny_encoder)


def test_the_words_that_cost_most_tokens(tokenizer: TextTokenizer) -> None:
    """Of 9, 5 and 2 pieces; numbers, words with marks and unknown ones never."""
    assert most_broken(tokenizer, COUNTS, 2) == ["slapstick", "filmgoer"]
    assert most_broken(tokenizer, COUNTS, 99) == ["slapstick", "filmgoer", "films"]
    digits = extend(tokenizer, ["##5", "##1"])
    assert most_broken(digits, COUNTS, 99) == ["slapstick", "filmgoer", "films", "h5n1"]


def test_old_ids_stay_and_new_ones_follow(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    words = most_broken(tokenizer, COUNTS, 3)
    larger = extend(tokenizer, words)
    old = tokenizer.tokenizer.get_vocab(with_added_tokens=True)
    new = larger.tokenizer.get_vocab(with_added_tokens=True)
    assert old.items() <= new.items()
    assert larger.size == tokenizer.size + 3
    [ids] = larger.encode(["The Slapstick films , a filmgoer in one film"])
    assert [larger.tokenizer.id_to_token(i) for i in ids.tolist()] == [
        "the", "slapstick", "films", ",", "a", "filmgoer", "in", "one", "film",
    ]  # fmt: skip
    larger.save(tmp_path)
    assert TextTokenizer.load(tmp_path).hash == larger.hash != tokenizer.hash


def test_what_the_old_tokenizer_makes_of_new_pieces(tokenizer: TextTokenizer, tmp_path: Path) -> None:
    larger = extend(tokenizer, ["films", "slapstick"])
    expected = [ids.tolist() for ids in tokenizer.encode(["films", "slapstick"])]
    assert added_pieces(tokenizer, larger) == {tokenizer.size: expected[0], tokenizer.size + 1: expected[1]}
    assert added_pieces(tokenizer, tokenizer) == {}
    assert added_pieces(larger, tokenizer) is None


def test_another_tokenizer_is_no_extension(
    tokenizer: TextTokenizer, tiny_encoder: Path, byte_level_folder: Path, tmp_path: Path
) -> None:
    lines = (tiny_encoder / "vocab.txt").read_text().splitlines()
    for name, changed, config in (
        ("order", [*lines[:-2], lines[-1], lines[-2], "new"], "{}"),
        ("case", [*lines, "new"], '{"do_lower_case": false}'),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "vocab.txt").write_text("\n".join(changed) + "\n")
        (tmp_path / name / "tokenizer_config.json").write_text(config)
        assert added_pieces(tokenizer, TextTokenizer.load(tmp_path / name)) is None
    assert added_pieces(tokenizer, TextTokenizer.load(byte_level_folder)) is None
    assert added_pieces(TextTokenizer.load(byte_level_folder), tokenizer) is None


def test_fragmentation_is_counted_by_words(tokenizer: TextTokenizer) -> None:
    counts = Counter({"film": 6, "films": 3, "!": 50, "þorn": 1})
    before = fragmentation(tokenizer, counts)
    assert (before.words, before.pieces_per_word, before.broken) == (10, pytest.approx(1.3), pytest.approx(0.3))
    assert before.unknown == pytest.approx(0.1)
    after = fragmentation(extend(tokenizer, ["films"]), counts)
    assert (after.words, after.pieces_per_word, after.broken) == (10, pytest.approx(1.0), 0.0)
    assert fragmentation(tokenizer, Counter()).pieces_per_word == 0.0
