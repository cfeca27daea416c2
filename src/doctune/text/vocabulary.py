"""A WordPiece vocabulary from words and their counts, for an encoder from scratch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.pre_tokenizers import WhitespaceSplit
from tokenizers.trainers import WordPieceTrainer

from doctune.errors import ConfigError
from doctune.files import write_json, write_text
from doctune.text.tokenizer import TextTokenizer
from doctune.text.word_counts import INSIDE, WordCounts, WordSplitter, bert_rules

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LARGEST_ALPHABET = 0.75
"""Share of the vocabulary that single letters may take: Chinese writing needs most of it for its characters."""
RAREST_LETTER = 1e-6
"""A letter takes one or two places: one that occurs less than once in a million letters is left to [UNK]."""
MOST_UNKNOWN = 0.01
"""Share of the letters that may become [UNK] because the vocabulary is too small; beyond it, that is an error."""
MOST_WORDS = 50_000_000
"""Words that the trainer reads; of more, every count is divided, which takes only the rarest words away."""
WORDS_AT_ONCE = 50_000
TEXTS_AT_ONCE = 4096


def train_vocabulary(texts: Iterable[str], size: int, folder: Path, lowercase: bool = True) -> TextTokenizer:
    """Learn at most `size` word pieces from texts, which are gone through once; see `vocabulary_of`."""
    splitter, words = WordSplitter(bert_rules(lowercase)), WordCounts()
    remaining = iter(texts)
    while some := list(islice(remaining, TEXTS_AT_ONCE)):
        words.add(splitter.count(some))
    return vocabulary_of(words, size, folder, lowercase)


def vocabulary_of(words: WordCounts, size: int, folder: Path, lowercase: bool = True) -> TextTokenizer:
    """Learn at most `size` word pieces, write them as vocab.txt into `folder`, and load them as a tokenizer.

    The same words give the same vocabulary. Raises `ConfigError` if `size` is too small for the letters.
    """
    single = _single_letters(words.letters(), size)
    fixed = [*SPECIAL_TOKENS, *single]
    # The trainer numbers letters in the order of a hash table, and breaks ties by number: given as special tokens, they
    # have fixed numbers. Words with other letters are left out, they will be [UNK] as a whole.
    trainer = WordPieceTrainer(
        vocab_size=size, min_frequency=2, special_tokens=fixed, show_progress=False, continuing_subword_prefix=INSIDE
    )
    trained = Tokenizer(WordPiece(unk_token="[UNK]"))
    trained.pre_tokenizer = WhitespaceSplit()
    trained.train_from_iterator(_repeated(words.counts, set(single)), trainer)
    learnt = sorted(set(trained.get_vocab(with_added_tokens=False)) - set(fixed), key=lambda piece: (len(piece), piece))
    write_text(folder / "vocab.txt", "\n".join([*fixed, *learnt]) + "\n")
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "do_lower_case": lowercase})
    return TextTokenizer.load(folder)


def _single_letters(counts: Counter[str], size: int) -> list[str]:
    """The pieces of one letter: each letter, and with ## before it if it stands inside a word anywhere.

    A Chinese character never does, and takes one place. `counts` is what `WordCounts.letters` gives.
    """
    letters: Counter[str] = Counter()
    for piece, count in counts.items():
        letters[piece[-1]] += count
    total = letters.total()
    frequent = sorted((x for x in letters if letters[x] >= RAREST_LETTER * total), key=lambda x: (-letters[x], x))
    room = int(LARGEST_ALPHABET * size) - len(SPECIAL_TOKENS)
    chosen: list[str] = []
    places = known = needed = 0
    for letter in frequent:
        places += 2 if counts[INSIDE + letter] else 1
        if known < (1 - MOST_UNKNOWN) * total:
            needed = places
        if places <= room:
            chosen.append(letter)
        known += letters[letter]
    if needed > room:
        unknown = 1 - sum(letters[letter] for letter in chosen) / total
        raise ConfigError(
            f"a vocabulary of {size:,} has room for {len(chosen):,} of the {len(letters):,} different letters of the "
            f"texts, and {100 * unknown:.1f} % of the text would be unknown; "
            f"give at least {math.ceil((needed + len(SPECIAL_TOKENS)) / LARGEST_ALPHABET) + 1:,}"
        )
    return [*sorted(chosen), *(INSIDE + letter for letter in sorted(chosen) if counts[INSIDE + letter])]


def _repeated(counts: Counter[str], pieces: set[str]) -> Iterator[str]:
    """Texts in which each word made of these pieces of one letter stands as often as it was counted."""
    less = max(math.ceil(counts.total() / MOST_WORDS), 1)
    text: list[str] = []
    for word, count in counts.items():
        if word[0] not in pieces or any(INSIDE + letter not in pieces for letter in word[1:]):
            continue
        remaining = count // less
        while remaining > 0:
            some = min(remaining, WORDS_AT_ONCE)
            text += [word] * some
            remaining -= some
            if len(text) >= WORDS_AT_ONCE:
                yield " ".join(text)
                text = []
    yield " ".join(text)
