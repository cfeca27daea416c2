"""Where words begin, by kind of vocabulary."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from doctune.text.tokenizer import TextTokenizer
from doctune.text.words import shard_word_starts, word_starts


def test_word_pieces_continue_where_they_say_so(word_piece_folder: Callable[[bool], Path]) -> None:
    tokenizer = TextTokenizer.load(word_piece_folder(True))
    starts = word_starts(tokenizer)
    assert starts.shape == (770,)
    ids = tokenizer.encode(["the neighbours laughed"])[0]
    tokens = [tokenizer.tokenizer.id_to_token(int(number)) for number in ids]
    assert tokens[:2] == ["the", "ne"]
    assert starts[ids].tolist() == [not token.startswith("##") for token in tokens]
    assert starts[ids].sum() == 3


def test_chinese_characters_are_words(word_piece_folder: Callable[[bool], Path]) -> None:
    tokenizer = TextTokenizer.load(word_piece_folder(True))
    ids = tokenizer.encode(["我们的图书馆"])[0]
    assert len(ids) == 6
    assert word_starts(tokenizer)[ids].all()


def test_byte_level_words_begin_with_a_space(byte_level_folder: Path) -> None:
    tokenizer = TextTokenizer.load(byte_level_folder)
    starts = word_starts(tokenizer)
    ids = tokenizer.encode(["hello world, hello moon"])[0]
    tokens = [tokenizer.tokenizer.id_to_token(int(number)) for number in ids]
    assert starts[ids].tolist() == [token.startswith("Ġ") for token in tokens]
    assert starts[:5].all(), "special tokens"
    # The sentence's first token has no space before it, and yet begins a word.
    begins = shard_word_starts(ids, np.array([0, len(ids)]), starts)
    assert begins[0]
    assert begins[1:].tolist() == starts[ids][1:].tolist()


def test_chinese_characters_of_a_byte_level_vocabulary_are_words() -> None:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> $B </s>", [("<s>", 0), ("</s>", 1)])
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, show_progress=False
    )
    made.train_from_iterator(["图书馆 图书 图 书 馆 the library"] * 5, trainer)
    tokenizer = TextTokenizer(made, {})
    starts = word_starts(tokenizer)
    whole = tokenizer.encode(["图"])[0]
    assert len(whole) == 1
    assert starts[whole].all()
    # A byte inside a character continues.
    inside = tokenizer.tokenizer.token_to_id(_as_written(b"\x9b"))
    assert not starts[inside]


def test_sentence_pieces_begin_with_their_mark() -> None:
    made = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁the", -1.0), ("▁cat", -1.0), ("s", -2.0), ("图", -3.0)], 0))
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.add_special_tokens(["<s>", "</s>"])
    made.post_processor = processors.TemplateProcessing("<s> $A </s>", "<s> $A </s> $B </s>", [("<s>", 5), ("</s>", 6)])
    tokenizer = TextTokenizer(made, {})
    starts = word_starts(tokenizer)
    assert starts[tokenizer.encode(["the cats"])[0]].tolist() == [True, True, False]
    assert starts.tolist() == [False, True, True, False, True, True, True]


def test_every_sentence_of_a_shard_begins_a_word() -> None:
    table = np.array([True, False])
    ids = np.array([0, 1, 1, 0, 1, 1], np.int32)
    begins = shard_word_starts(ids, np.array([0, 2, 4, 6]), table)
    assert begins.tolist() == [True, False, True, True, True, False]
    assert shard_word_starts(ids[:0], np.array([0]), table).tolist() == []


def _as_written(data: bytes) -> str:
    """How a byte-level vocabulary writes a byte beyond the printable ones."""
    return "".join(chr(0x100 + 33 + byte - 0x7F) for byte in data)
