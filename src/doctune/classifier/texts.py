"""Texts as a caller gives them: checked at the door, and tokenised in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from doctune.batches.plan import Places
from doctune.errors import DataError
from doctune.examples import Example
from doctune.store.build import without_lone_surrogates
from doctune.text.tokenizer import Ids, TextTokenizer

Text = str | tuple[str, str]
"""A document: a text, or a pair of texts."""


def as_examples(texts: Iterable[Text]) -> list[Example]:
    """The texts as examples whose ids are their places, from "0".

    Raises `DataError` that names the place of whatever is neither a text nor a pair of texts.
    """
    return list(each_example(texts))


def each_example(texts: Iterable[Example | Text]) -> Iterator[Example]:
    """As `as_examples`, one after the other; what is an example already stays as it is."""
    table = hasattr(texts, "columns")  # going through a data frame gives the names of its columns
    if isinstance(texts, str | bytes | bytearray | Mapping) or table or not isinstance(texts, Iterable):
        hint = "; give one of its columns" if table else ""
        raise DataError(f"texts: found {_shown(texts)}, expected a list of texts or of pairs of texts{hint}")
    return (text if isinstance(text, Example) else _example(text, place) for place, text in enumerate(texts))


def _example(text: Any, place: int) -> Example:
    where = f"texts[{place}]"
    if isinstance(text, str):
        return Example(str(place), text)
    if not isinstance(text, tuple | list):
        raise DataError(
            f'{where}: found {_shown(text)}, expected a text (str) or a pair of texts; a document without text is ""'
        )
    if len(text) != 2:
        raise DataError(f"{where}: found {len(text)} texts together, expected a pair; join them, or leave some out")
    for number, part in enumerate(text):
        if not isinstance(part, str):
            raise DataError(f'{where}[{number}]: found {_shown(part)}, expected a text (str); no text is ""')
    return Example(str(place), text[0], text_pair=text[1])


def _shown(value: object) -> str:
    if value is None:
        return "None"
    kind = type(value).__name__
    shown = " ".join(repr(value).split())
    return f"{shown} ({kind})" if len(shown) <= 40 else f"a {kind}"


@dataclass(frozen=True, slots=True)
class TokenisedTexts:
    """Documents as token ids in memory, as `Dataset` has them on the disk; those without any token are left out.

    `places` [D]: where each document stands among all that were given. `names`: the classes; no document has a label.
    """

    name: str
    names: tuple[str, ...]
    places: Places
    first: Sequence[Ids]
    second: Sequence[Ids]

    def __len__(self) -> int:
        return len(self.first)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """-1 for each document: no label is known."""
        return np.full(len(self), -1, np.int64)

    def ids(self, places: Places | None = None) -> list[str]:
        """The numbers of the documents among all that were given, or of those at `places`."""
        chosen = self.places if places is None else self.places[places]
        return [str(place) for place in chosen.tolist()]

    def lengths(self) -> npt.NDArray[np.int64]:
        """Tokens of each document's text and second text, [D, 2]."""
        pairs = zip(self.first, self.second, strict=True)
        return np.array([(len(first), len(second)) for first, second in pairs], np.int64).reshape(-1, 2)

    def tokens(self, place: int) -> tuple[Ids, Ids | None]:
        """Token ids of the document at `place` and of its second text, if it has one; without special tokens."""
        second = self.second[place]
        return self.first[place], second if len(second) else None


def tokenise(examples: Sequence[Example], tokenizer: TextTokenizer, names: tuple[str, ...]) -> TokenisedTexts:
    """The documents that have tokens, without anything written to the disk."""
    readable = [without_lone_surrogates(example) for example in examples]
    first = tokenizer.encode([example.text for example in readable])
    nothing = np.zeros(0, np.int32)
    second = [nothing] * len(readable)
    with_pair = [place for place, example in enumerate(readable) if example.text_pair]
    for place, ids in zip(with_pair, tokenizer.encode([readable[i].text_pair or "" for i in with_pair]), strict=True):
        second[place] = ids
    places = [place for place in range(len(readable)) if len(first[place]) or len(second[place])]
    return TokenisedTexts(
        "documents", names, np.array(places, np.int64), [first[i] for i in places], [second[i] for i in places]
    )
