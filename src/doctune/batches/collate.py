"""From rows of a shard to a packed batch: truncation and special tokens happen here, padding nowhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from doctune.batches.plan import Places
from doctune.errors import ConfigError
from doctune.settings import TruncationSettings
from doctune.settings.implementations import Own
from doctune.tensors import Batch
from doctune.text.tokenizer import Ids, Template, TextTokenizer
from doctune.text.truncation import SeveralWindows, Truncation, make_truncation, truncate_pair


class TokenisedDocuments(Protocol):
    """Tokenised documents, which batches are made of: a `Dataset` on the disk, or texts in memory.

    `names` are the classes; `labels` [D] their numbers, -1 where a document has none.
    """

    @property
    def name(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def labels(self) -> npt.NDArray[np.int64]: ...

    def __len__(self) -> int: ...

    def ids(self, places: Places | None = None) -> Sequence[str]: ...

    def lengths(self) -> npt.NDArray[np.int64]: ...

    def tokens(self, place: int) -> tuple[Ids, Ids | None]: ...


@dataclass(frozen=True, slots=True)
class Collator:
    """Makes packed batches of a data set's documents, whose windows are each at most `max_seq_len` tokens long.

    Text pairs are one window, whatever the truncation.
    """

    template: Template
    truncation: Truncation
    max_seq_len: int

    def lengths(self, documents: TokenisedDocuments) -> npt.NDArray[np.int64]:
        """Length of each document after truncation, all its windows together, special tokens included; int64 [D].

        What plans need: an upper bound, exact but for a place that the original's truncation loses, or the separator
        of a second text of which nothing is left.
        """
        cut = np.minimum(self._whole(documents), self.max_seq_len)
        if not isinstance(self.truncation, SeveralWindows):
            return cut
        tokens, special = documents.lengths(), self.template.special_tokens(False)
        windows = self.truncation.numbers(tokens[:, 0], self._budget)
        read = self.truncation.tokens(tokens[:, 0], self._budget) + windows * special
        return np.where(tokens[:, 1] > 0, cut, read)

    def truncated(self, documents: TokenisedDocuments) -> float:
        """Share of the documents that lose tokens."""
        cut = self._whole(documents) > self.max_seq_len
        if isinstance(self.truncation, SeveralWindows):
            tokens = documents.lengths()
            cut = np.where(tokens[:, 1] > 0, cut, self.truncation.cuts(tokens[:, 0], self._budget))
        return float(np.mean(cut))

    def places(self, documents: TokenisedDocuments, place: int) -> list[tuple[int, int]]:
        """Where each window of the document at `place` begins, and its tokens without special ones; one has none."""
        first, second = documents.tokens(place)
        if second is not None or not isinstance(self.truncation, SeveralWindows):
            return []
        found = self.truncation.places(len(first), self._budget)
        return found if len(found) > 1 else []

    @property
    def _budget(self) -> int:
        """The tokens of a single text that a window has room for."""
        return self.max_seq_len - self.template.special_tokens(False)

    def _whole(self, documents: TokenisedDocuments) -> npt.NDArray[np.int64]:
        """Length of each document's sequence if nothing were cut."""
        tokens = documents.lengths()
        special = np.where(tokens[:, 1] > 0, self.template.special_tokens(True), self.template.special_tokens(False))
        return np.asarray(tokens.sum(axis=1) + special, np.int64)

    def __call__(self, documents: TokenisedDocuments, places: Places) -> Batch:
        """The batch of the documents at `places`; `rows` of the batch are those places."""
        sequences, types, window_of = [], [], []
        for document, place in enumerate(places):
            for ids, kinds in self._sequences(documents, int(place)):
                sequences.append(ids)
                types.append(kinds)
                window_of.append(document)
        lengths = np.array([len(s) for s in sequences], np.int64)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return Batch(
            input_ids=torch.from_numpy(np.concatenate(sequences).astype(np.int64)),
            position_ids=torch.from_numpy(np.arange(starts[-1]) - np.repeat(starts[:-1], lengths)),
            token_type_ids=torch.from_numpy(np.concatenate(types).astype(np.int64)),
            cu_seqlens=torch.from_numpy(starts),
            max_seqlen=int(lengths.max()),
            window_of=torch.tensor(window_of),
            rows=torch.from_numpy(np.asarray(places, np.int64)),
            labels=torch.from_numpy(documents.labels[places]),
            lengths=tuple(lengths.tolist()),
        )

    def _sequences(
        self, documents: TokenisedDocuments, place: int
    ) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]]:
        first, second = documents.tokens(place)
        if second is not None:
            first, second = truncate_pair(first, second, self.max_seq_len - self.template.special_tokens(True))
            return [self.template.assemble(first, second)]
        return [self.template.assemble(window) for window in self.truncation.windows(first, self._budget)]


def make_collator(tokenizer: TextTokenizer, truncation: TruncationSettings, own: Own = ()) -> Collator:
    """The collator for these settings; `ConfigError` if they leave no room for text. `own`: see `implementation`."""
    budget = truncation.max_seq_len - tokenizer.template.special_tokens(False)
    if budget < 1:
        raise ConfigError(
            f"truncation.max_seq_len: {truncation.max_seq_len} has no room for text beside the special tokens"
        )
    return Collator(tokenizer.template, make_truncation(truncation, budget, own), truncation.max_seq_len)
