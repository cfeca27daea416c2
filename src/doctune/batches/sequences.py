"""Batches of further pre-training: pairs and masks made on the fly from a corpus, in an order fixed by the seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from doctune import seeding
from doctune.batches.feed import Position
from doctune.errors import DataError
from doctune.settings import MaskingSettings, PairSettings
from doctune.store.corpus import CorpusShard
from doctune.store.masking import mask
from doctune.store.pairs import Instances, assemble, gather, plan_instances
from doctune.tensors import MaskedBatch
from doctune.text.tokenizer import Template
from doctune.text.words import shard_word_starts

# Sequences are shuffled within so many shards, whose tokens are in memory together.
SHARDS_PER_BLOCK = 8
# Batches are made so many at a time: NumPy's cost of a call is then shared. What is in them does not depend on it.
BATCHES_AT_ONCE = 32
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How documents become masked sequences. `word_starts` [V]: which token ids begin a word, for whole words."""

    pairs: PairSettings
    masking: MaskingSettings
    template: Template
    mask_id: int
    vocab_size: int
    word_starts: npt.NDArray[np.bool_] | None = None

    @property
    def max_predictions(self) -> int:
        """Most predictions in a sequence."""
        given = self.masking.max_predictions_per_seq
        return given or max(int(np.ceil(self.masking.masked_lm_prob * self.pairs.sequence_len)), 1)


@dataclass(frozen=True, slots=True)
class Block:
    """Some shards as one, and the sequences of one pass over them: `order` is the order in which they are used."""

    input_ids: npt.NDArray[np.int32]
    word_starts: npt.NDArray[np.bool_] | None
    instances: Instances
    rows: Ints
    order: Ints


@dataclass(frozen=True, slots=True)
class Choice:
    """Documents to use: how often each occurs in a pass, by shard; a fraction is left to chance in every pass."""

    copies: tuple[npt.NDArray[np.float64], ...]

    def of(self, shard: int, seed: int, epoch: int) -> Ints:
        """The documents of a shard in one pass, repetitions behind one another; static data: `epoch` is its copy."""
        copies = self.copies[shard]
        whole = np.floor(copies)
        drawn = seeding.generator(seed, "weights", epoch, shard).random(len(copies)) < copies - whole
        return np.repeat(np.arange(len(copies)), (whole + drawn).astype(np.int64))


def hold_out(shards: Sequence[CorpusShard], weights: Sequence[float], number: int, seed: int) -> tuple[Choice, Choice]:
    """Training documents, each as often as its source's weight says, and `number` held-out ones, each once.

    At most a tenth of the documents is held out, and none of a corpus of one document, which then has no held-out part.
    """
    total = sum(len(shard) for shard in shards)
    number = min(number, max(total // 10, 1) if total > 1 else 0)
    held = np.zeros(total, np.bool_)
    held[seeding.generator(seed, "held out").permutation(total)[:number]] = True
    train, test, start = [], [], 0
    for shard in shards:
        mine = held[start : start + len(shard)]
        train.append(np.where(mine, 0.0, np.asarray(weights, float)[shard.sources]))
        test.append(mine.astype(float))
        start += len(shard)
    if not any(copies.any() for copies in train):
        raise DataError("corpus: no document is left to train on: every source has weight 0")
    return Choice(tuple(train)), Choice(tuple(test))


class SequenceFeed:
    """Masked sequences without end, pass after pass; what a step gets depends on seed, corpus and recipe alone."""

    def __init__(
        self, shards: Sequence[CorpusShard], choice: Choice, recipe: Recipe, seed: int, batch_size: int,
        accumulation: int = 1,
    ) -> None:  # fmt: skip
        self.shards, self.choice, self.recipe, self.seed = list(shards), choice, recipe, seed
        self.batch_size, self.accumulation = batch_size, accumulation
        self._first_row = np.concatenate([[0], np.cumsum([len(shard) for shard in self.shards])])
        self._num_blocks = -(-len(self.shards) // SHARDS_PER_BLOCK)
        self._epoch = self._block = self._batch = 0
        self._loaded: Block | None = None
        self._ready: list[MaskedBatch] = []
        first = self._current()
        share = sum(len(self.shards[s].input_ids) for s in self._shards_of(0, 0))
        whole = sum(len(shard.input_ids) for shard in self.shards)
        self.steps_per_epoch = max(len(first.order) * whole / max(share, 1) / (batch_size * accumulation), 1.0)

    def window(self, step: int, progress: float) -> list[MaskedBatch]:
        """The next batches; they follow from the position alone."""
        return [self._next() for _ in range(self.accumulation)]

    def position(self) -> Position:
        """Pass, block and batch that come next."""
        return {"epoch": self._epoch, "block": self._block, "batch": self._batch}

    def seek(self, position: Position) -> None:
        """Go on from a position; an empty one is the beginning."""
        self._epoch, self._block, self._batch = (position.get(name, 0) for name in ("epoch", "block", "batch"))
        self._loaded, self._ready = None, []

    def names(self, rows: Sequence[int]) -> list[str]:
        """The ids of the documents from which sequences were made."""
        found = []
        for row in rows:
            shard = int(np.searchsorted(self._first_row, row, side="right")) - 1
            found.append(self.shards[shard].ids()[row - int(self._first_row[shard])])
        return found

    def once(self, limit: int) -> list[MaskedBatch]:
        """Up to `limit` sequences of the first pass, for evaluation; always the same."""
        self.seek({})
        batches, left = [], limit
        while left > 0 and self._epoch == 0:
            batch = self._next()
            if self._epoch == 0:
                batches.append(batch)
                left -= batch.num_documents
        return batches

    def _next(self) -> MaskedBatch:
        turned = 0
        while self._batch * self.batch_size >= len(self._current().order):
            self._loaded, self._batch, self._block = None, 0, self._block + 1
            if self._block == self._num_blocks:
                self._epoch, self._block, turned = self._epoch + 1, 0, turned + 1
            if turned > 1:
                raise DataError("corpus: no sequence can be made of its documents; they are too short")
        if not self._ready:
            block, first = self._current(), self._batch * self.batch_size
            places = block.order[first : first + BATCHES_AT_ONCE * self.batch_size]
            self._ready = masked_batches(block, places, self.recipe, self.batch_size)[::-1]
        self._batch += 1
        return self._ready.pop()

    def _shards_of(self, epoch: int, block: int) -> list[int]:
        order = seeding.generator(self.seed, "shards", epoch).permutation(len(self.shards))
        return [int(s) for s in order[block * SHARDS_PER_BLOCK : (block + 1) * SHARDS_PER_BLOCK]]

    def _current(self) -> Block:
        if self._loaded is None:
            self._loaded = self._load(self._epoch, self._block)
        return self._loaded

    def _load(self, epoch: int, block: int) -> Block:
        """The tokens of a block's shards end to end, and their sequences in the order of this pass."""
        chosen = self._shards_of(epoch, block)
        parts, rows, start = [], [], 0
        for number in chosen:
            shard = self.shards[number]
            duplication = self.recipe.pairs.duplication
            documents = self.choice.of(number, self.seed, epoch if duplication is None else epoch % duplication)
            instances = plan_instances(
                shard.sentences, shard.documents, documents, self.recipe.pairs, self.recipe.template, self.seed, epoch,
                number,
            )  # fmt: skip
            rows.append(self._first_row[number] + instances.document.astype(np.int64))
            parts.append(instances.shifted(start))
            start += len(shard.input_ids)
        shards = [self.shards[number] for number in chosen]
        together = Instances.joined(parts)
        return Block(
            np.concatenate([shard.input_ids for shard in shards]),
            self._word_starts(shards),
            together,
            np.concatenate(rows),
            seeding.generator(self.seed, "sequences", epoch, block).permutation(len(together)),
        )

    def _word_starts(self, shards: list[CorpusShard]) -> npt.NDArray[np.bool_] | None:
        """Which tokens begin a word: as a segmenter said when the corpus was made, else by the vocabulary."""
        table = self.recipe.word_starts
        if table is None:
            return None
        parts = []
        for shard in shards:
            starts = shard.word_starts
            if starts is None:
                starts = shard_word_starts(shard.input_ids, shard.sentences, table)
            parts.append(starts)
        return np.concatenate(parts)


class StagedFeed:
    """One feed after another: `stages` are (share of the run at which a stage ends, its feed)."""

    def __init__(self, stages: Sequence[tuple[float, SequenceFeed]]) -> None:
        self.stages = list(stages)
        self._stage = 0
        self.steps_per_epoch = self.stages[-1][1].steps_per_epoch

    def window(self, step: int, progress: float) -> list[MaskedBatch]:
        """The next batches of the stage that the run is in."""
        while self._stage < len(self.stages) - 1 and progress >= self.stages[self._stage][0]:
            self._stage += 1
        return self.stages[self._stage][1].window(step, progress)

    def position(self) -> Position:
        """The stage, and where its feed stands."""
        return {"stage": self._stage, **self.stages[self._stage][1].position()}

    def seek(self, position: Position) -> None:
        """Go on from a position."""
        self._stage = position.get("stage", 0)
        self.stages[self._stage][1].seek(position)

    def names(self, rows: Sequence[int]) -> list[str]:
        """The ids of the documents from which sequences were made."""
        return self.stages[self._stage][1].names(rows)


def masked_batches(block: Block, places: Ints, recipe: Recipe, batch_size: int) -> list[MaskedBatch]:
    """The sequences at `places` of a block, packed and masked, in batches of `batch_size`; the last may be smaller."""
    packed = assemble(block.input_ids, block.instances, places, recipe.template)
    starts = None
    if block.word_starts is not None:
        starts = gather(block.word_starts, block.instances, places, recipe.template)
    masked = mask(
        packed.input_ids, packed.cu_seqlens, packed.special, block.instances.key[places], recipe.masking,
        recipe.max_predictions, recipe.mask_id, recipe.vocab_size, starts,
    )  # fmt: skip
    pairs = block.instances.label[places] if recipe.pairs.objective != "none" else None
    lengths = np.diff(packed.cu_seqlens)
    positions = np.arange(packed.cu_seqlens[-1]) - np.repeat(packed.cu_seqlens[:-1], lengths)
    batches = []
    for first in range(0, len(places), batch_size):
        rows = slice(first, min(first + batch_size, len(places)))
        bounds = packed.cu_seqlens[rows.start : rows.stop + 1]
        tokens = slice(int(bounds[0]), int(bounds[-1]))
        chosen = slice(*np.searchsorted(masked.positions, (tokens.start, tokens.stop)))
        batches.append(
            MaskedBatch(
                input_ids=_tensor(masked.input_ids[tokens]),
                position_ids=_tensor(positions[tokens]),
                token_type_ids=_tensor(packed.token_type_ids[tokens]),
                cu_seqlens=_tensor(bounds - tokens.start),
                max_seqlen=int(lengths[rows].max()),
                window_of=torch.arange(len(lengths[rows])),
                rows=_tensor(block.rows[places[rows]]),
                lengths=tuple(lengths[rows].tolist()),
                masked_positions=_tensor(masked.positions[chosen] - tokens.start),
                masked_labels=_tensor(masked.labels[chosen]),
                pair_labels=None if pairs is None else _tensor(pairs[rows]),
            )
        )
    return batches


def _tensor(array: npt.NDArray[Any]) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.int64))
