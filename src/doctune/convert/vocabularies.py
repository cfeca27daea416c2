"""The tokenizer on both sides: vocab.txt alone in the original, tokenizer.json and its settings for transformers."""

from __future__ import annotations

import json
from pathlib import Path

from doctune.errors import CheckpointError
from doctune.files import write_json
from doctune.text.tokenizer import TextTokenizer

VOCABULARY = "vocab.txt"


def write_tokenizer(where: str, data: bytes, lower: bool | None, max_seq_len: int, folder: Path) -> TextTokenizer:
    """Write vocab.txt and the files made of it; `lower` is whether to lower-case, None to tell by the vocabulary.

    Raises `CheckpointError` for what is not a BERT vocabulary; `where` is how it calls the original file.
    """
    (folder / VOCABULARY).write_bytes(data)
    settings = {"tokenizer_class": "BertTokenizer", "model_max_length": max_seq_len}
    write_json(folder / "tokenizer_config.json", settings if lower is None else {**settings, "do_lower_case": lower})
    try:
        tokenizer = TextTokenizer.load(folder)
    except CheckpointError as error:
        raise CheckpointError(str(error).replace(str(folder / VOCABULARY), where)) from None
    for setting, token in (("unk", "[UNK]"), ("sep", "[SEP]"), ("pad", "[PAD]"), ("cls", "[CLS]"), ("mask", "[MASK]")):
        if tokenizer.tokenizer.token_to_id(token) is not None:
            tokenizer.config[f"{setting}_token"] = token
    tokenizer.save(folder)
    return tokenizer


def check_size(where: str, size: int, vocab_size: int) -> None:
    """Raise `CheckpointError` unless there is an embedding for each entry of a vocabulary, and an entry for each."""
    if size != vocab_size:
        raise CheckpointError(
            f"{where}: {size:,} entries, but the checkpoint has {vocab_size:,} word embeddings; "
            f"give the vocabulary that it was trained with (--vocab FILE)"
        )


def read_vocabulary(folder: Path) -> tuple[bytes, bool]:
    """The vocab.txt of a Hugging Face folder, which may only have a tokenizer.json, and whether texts are lower-cased.

    Raises `CheckpointError` where there is no tokenizer, or one that a list of word pieces does not describe.
    """
    file = folder / VOCABULARY
    if not file.is_file() and not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder}: no tokenizer.json or {VOCABULARY}; give the vocabulary with --vocab FILE")
    tokenizer = TextTokenizer.load(folder).tokenizer
    description = json.loads(tokenizer.to_str())
    if description["model"]["type"] != "WordPiece":
        raise CheckpointError(
            f"{folder / 'tokenizer.json'}: a {description['model']['type']} tokenizer; the TensorFlow 1 form has word "
            f"pieces only (WordPiece)"
        )
    lower = bool((description.get("normalizer") or {}).get("lowercase", False))
    ids = tokenizer.get_vocab(with_added_tokens=True)
    if file.is_file():
        data = file.read_bytes()
        if ids == {line: number for number, line in enumerate(lines(data))}:
            return data, lower
    tokens = sorted(ids, key=ids.__getitem__)
    gap = next((place for place, token in enumerate(tokens) if ids[token] != place), None)
    if gap is not None:
        raise CheckpointError(f"{folder}: its vocabulary has no token, or several, of number {gap}; give --vocab FILE")
    return "".join(f"{token}\n" for token in tokens).encode(), lower


def lines(data: bytes) -> list[str]:
    """The entries of a vocab.txt; the number of each is its id."""
    return [line.rstrip("\r") for line in data.decode("utf-8", "replace").removesuffix("\n").split("\n")]
