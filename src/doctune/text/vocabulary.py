"""A WordPiece vocabulary from texts, for an encoder from scratch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tokenizers import BertWordPieceTokenizer

from doctune.files import write_text
from doctune.text.tokenizer import TextTokenizer

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def train_vocabulary(texts: Iterable[str], size: int, folder: Path, lowercase: bool = True) -> TextTokenizer:
    """Learn at most `size` word pieces, write them as vocab.txt into `folder`, and load them as a tokenizer."""
    trainer = BertWordPieceTokenizer(lowercase=lowercase)
    trainer.train_from_iterator(texts, vocab_size=size, special_tokens=SPECIAL_TOKENS, show_progress=False)
    # By rank, and not by the id that the trainer gave: equal counts come in no fixed order from it.
    learnt = sorted(set(trainer.get_vocab(with_added_tokens=False)) - set(SPECIAL_TOKENS), key=lambda t: (len(t), t))
    write_text(folder / "vocab.txt", "\n".join([*SPECIAL_TOKENS, *learnt]) + "\n")
    return TextTokenizer.load(folder)
