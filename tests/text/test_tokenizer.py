"""The tokenizer against the original's, against transformers, and against itself after a round trip."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, BertTokenizer

from doctune.errors import CheckpointError
from doctune.text.tokenizer import TextTokenizer

TEXTS = [
    "The quick brown fox.", "naïve café", "今天 good", "state-of-the-art", "x" * 150, "", "tab\tand\nline",
    "emoji 😀 here",
]  # fmt: skip
PAIRS = [("the fox", "a dog"), ("dog", "the quick brown fox jumps"), (".", "!")]


@pytest.fixture
def strings(golden: Path) -> list[dict[str, Any]]:
    loaded: list[dict[str, Any]] = json.loads((golden / "tokenization.json").read_text(encoding="utf-8"))["strings"]
    return loaded


def ids(tokenizer: TextTokenizer, texts: list[str]) -> list[list[int]]:
    return [row.tolist() for row in tokenizer.encode(texts)]


def assembled(tokenizer: TextTokenizer, first: str, second: str | None = None) -> tuple[list[int], list[int]]:
    parts = tokenizer.encode([first] if second is None else [first, second])
    input_ids, types = tokenizer.template.assemble(*parts)
    return input_ids.tolist(), types.tolist()


@pytest.mark.parametrize(("kind", "least"), [("lower", 75), ("cased", 76)])
def test_as_the_original(
    word_piece_folder: Callable[[bool], Path], strings: list[dict[str, Any]], kind: str, least: int
) -> None:
    tokenizer = TextTokenizer.load(word_piece_folder(kind == "lower"))
    agreeing = [s for s in strings if s[kind]["agrees"]["fast"] is True]
    assert len(agreeing) >= least
    ours = ids(tokenizer, [s["text"] for s in agreeing])
    wrong = [(s["text"], got, s[kind]["ids"]) for s, got in zip(agreeing, ours, strict=True) if got != s[kind]["ids"]]
    assert not wrong


@pytest.mark.parametrize("kind", ["lower", "cased"])
def test_special_tokens_in_a_text_are_text(
    word_piece_folder: Callable[[bool], Path], strings: list[dict[str, Any]], kind: str
) -> None:
    tokenizer = TextTokenizer.load(word_piece_folder(kind == "lower"))
    written = [s for s in strings if any(t in s["text"] for t in ("[MASK]", "[SEP]", "[CLS]", "[PAD]", "[UNK]"))]
    assert written
    assert ids(tokenizer, [s["text"] for s in written]) == [s[kind]["ids"] for s in written]
    special = {tokenizer.tokenizer.token_to_id(t) for t in ("[MASK]", "[SEP]", "[CLS]")}
    assert not special & {token for row in ids(tokenizer, [s["text"] for s in written]) for token in row}


def test_many_texts_keep_their_order(word_piece_folder: Callable[[bool], Path]) -> None:
    tokenizer = TextTokenizer.load(word_piece_folder(True))
    texts = [f"number {n} of many" * (n % 3) for n in range(1100)]
    assert ids(tokenizer, texts) == [ids(tokenizer, [text])[0] for text in texts]
    assert tokenizer.encode([]) == []


def test_bert_template_equals_transformers(word_piece_folder: Callable[[bool], Path]) -> None:
    folder = word_piece_folder(True)
    ours, theirs = TextTokenizer.load(folder), BertTokenizer.from_pretrained(folder)
    assert (ours.template.special_tokens(False), ours.template.special_tokens(True)) == (2, 3)
    for text in TEXTS:
        expected = theirs(text)
        assert assembled(ours, text) == (expected["input_ids"], expected["token_type_ids"])
    for first, second in PAIRS:
        expected = theirs(first, second)
        assert assembled(ours, first, second) == (expected["input_ids"], expected["token_type_ids"])


def test_a_pair_without_its_second_text_is_a_single_text(word_piece_folder: Callable[[bool], Path]) -> None:
    tokenizer = TextTokenizer.load(word_piece_folder(True))
    assert assembled(tokenizer, "the fox", "") == assembled(tokenizer, "the fox")


def test_roberta_template(byte_level_folder: Path) -> None:
    tokenizer = TextTokenizer.load(byte_level_folder)
    template = tokenizer.template
    assert (template.prefix, template.middle, template.suffix, template.second_type) == ((0,), (2, 2), (2,), 0)
    assert (template.special_tokens(False), template.special_tokens(True)) == (2, 4)
    first, second = ids(tokenizer, ["the cat", "a dog"])
    assert assembled(tokenizer, "the cat", "a dog") == (
        [0, *first, 2, 2, *second, 2],
        [0] * (len(first) + len(second) + 4),
    )
    reference = Tokenizer.from_file(str(byte_level_folder / "tokenizer.json")).encode("the cat", "a dog")
    assert assembled(tokenizer, "the cat", "a dog")[0] == reference.ids


def test_padding_and_truncation_of_the_file_are_switched_off(byte_level_folder: Path, tmp_path: Path) -> None:
    fixed = Tokenizer.from_file(str(byte_level_folder / "tokenizer.json"))
    fixed.enable_padding(length=64)
    fixed.enable_truncation(max_length=4)
    fixed.save(str(tmp_path / "tokenizer.json"))
    text = "the cat sat on the mat, hello world"
    assert ids(TextTokenizer.load(tmp_path), [text, "a"]) == ids(TextTokenizer.load(byte_level_folder), [text, "a"])
    assert len(ids(TextTokenizer.load(tmp_path), [text])[0]) > 4


@pytest.mark.parametrize("lower", [True, False])
def test_save_and_load(word_piece_folder: Callable[[bool], Path], tmp_path: Path, lower: bool) -> None:
    tokenizer = TextTokenizer.load(word_piece_folder(lower))
    tokenizer.save(tmp_path / "saved")
    again = TextTokenizer.load(tmp_path / "saved")
    assert ids(again, [*TEXTS, "[MASK] it"]) == ids(tokenizer, [*TEXTS, "[MASK] it"])
    assert (again.template, again.hash, again.size) == (tokenizer.template, tokenizer.hash, 770)
    transformers_own = AutoTokenizer.from_pretrained(tmp_path / "saved")
    for text in TEXTS:
        expected = transformers_own(text)
        assert assembled(tokenizer, text)[0] == expected["input_ids"]
    for first, second in PAIRS:
        expected = transformers_own(first, second)
        assert assembled(tokenizer, first, second) == (expected["input_ids"], expected["token_type_ids"])


def test_save_and_load_byte_level(byte_level_folder: Path, tmp_path: Path) -> None:
    tokenizer = TextTokenizer.load(byte_level_folder)
    tokenizer.save(tmp_path / "saved")
    assert ids(TextTokenizer.load(tmp_path / "saved"), TEXTS) == ids(tokenizer, TEXTS)
    transformers_own = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert [assembled(tokenizer, t)[0] for t in TEXTS] == [transformers_own(t)["input_ids"] for t in TEXTS]


def test_the_hash_tells_tokenizers_apart(word_piece_folder: Callable[[bool], Path]) -> None:
    lower, cased = (TextTokenizer.load(word_piece_folder(kind)) for kind in (True, False))
    assert lower.hash != cased.hash


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("tokenizer.json", "{}", r"tokenizer\.json: not a tokenizer"),
        ("tokenizer.json", "[not json", r"tokenizer\.json: not a tokenizer"),
        ("vocab.txt", "the\na\n", r"vocab\.txt: no \[CLS\], \[SEP\], \[UNK\]"),
        ("tokenizer_config.json", "{", r"tokenizer_config\.json: not JSON"),
        ("README.md", "nothing", r"no tokenizer\.json or vocab\.txt"),
    ],
)
def test_damaged_folders(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CheckpointError, match=message) as caught:
        TextTokenizer.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_vocabulary_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes("[PAD]\n[UNK]\n[CLS]\n[SEP]\ncafé\n".encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"vocab\.txt"):
        TextTokenizer.load(tmp_path)


def test_a_cased_vocabulary_is_known_by_its_words(tmp_path: Path) -> None:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    for name, words in (("cased", ["the", "The", "City", "war"]), ("uncased", ["the", "city", "war", "peace"])):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "vocab.txt").write_text("\n".join([*special, *words]) + "\n")
    first = {name: TextTokenizer.load(tmp_path / name).encode(["The"])[0].tolist() for name in ("cased", "uncased")}
    assert first == {"cased": [6], "uncased": [5]}
