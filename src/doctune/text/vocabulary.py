"""A WordPiece vocabulary from texts, for an encoder from scratch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tokenizers import BertWordPieceTokenizer

from doctune.files import write_json, write_text
from doctune.text.tokenizer import TextTokenizer

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LARGEST_ALPHABET = 1000
# A letter takes two places in the vocabulary: one that occurs less than once in a million letters is left to [UNK].
RAREST_LETTER = 1e-6


def train_vocabulary(texts: Iterable[str], size: int, folder: Path, lowercase: bool = True) -> TextTokenizer:
    """Learn at most `size` word pieces, write them as vocab.txt into `folder`, and load them as a tokenizer.

    The same texts give the same vocabulary.
    """
    texts = list(texts)
    trainer = BertWordPieceTokenizer(lowercase=lowercase)
    counts = Counter(letter for text in texts for letter in trainer.normalize(text) if not letter.isspace())
    frequent = [letter for letter in counts if counts[letter] >= RAREST_LETTER * counts.total()]
    alphabet = sorted(frequent, key=lambda letter: (-counts[letter], letter))[:LARGEST_ALPHABET]
    # The trainer numbers letters in the order of a hash table, and breaks ties by number: given as special tokens, they
    # have fixed numbers.
    fixed = [*SPECIAL_TOKENS, *sorted(alphabet), *(f"##{letter}" for letter in sorted(alphabet))]
    trainer.train_from_iterator(texts, vocab_size=max(size, len(fixed)), special_tokens=fixed, show_progress=False)
    learnt = sorted(set(trainer.get_vocab(with_added_tokens=False)) - set(fixed), key=lambda piece: (len(piece), piece))
    write_text(folder / "vocab.txt", "\n".join([*fixed, *learnt]) + "\n")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase})
    return TextTokenizer.load(folder)
