"""From sentences to sequences: next-sentence pairs, parts in order or swapped, or one part only.

A sequence is two ranges of a shard's tokens. All of a shard are planned at once, the documents in lockstep: each turn
takes the next chunk of every document that has one left. Every random number is a hash of where it is used, so a
sequence does not depend on what it is planned or batched with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from doctune.seeding import Words, below, derive, hashed, heads, uniform
from doctune.settings.pretraining import PairSettings
from doctune.text.tokenizer import Template

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

# What the random numbers of a sequence are for (its masks have others, see `masking`).
FRONT_A, FRONT_B, CUT, START, DOCUMENT = range(5)
TRIES = 10  # at drawing another document


@dataclass(frozen=True, slots=True)
class Instances:
    """Sequences of one shard as ranges of its tokens; n sequences, each column [n]."""

    a_start: Ints
    a_end: Ints
    b_start: Ints
    b_end: Ints  # b_start where there is no second part
    label: npt.NDArray[np.int8]  # nsp: 1 for a random second part; sop: 1 for swapped; none: 0
    document: npt.NDArray[np.int32]  # whose sequence it is
    key: Words  # from which its masks are drawn

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def joined(cls, parts: Sequence[Instances]) -> Instances:
        """All of several, end to end; ranges stay as they are."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def shifted(self, offset: int) -> Instances:
        """The same of a shard whose tokens begin at `offset` of a longer row; `document` stays as it is."""
        return replace(
            self, a_start=self.a_start + offset, a_end=self.a_end + offset,
            b_start=self.b_start + offset, b_end=self.b_end + offset,
        )  # fmt: skip

    def take(self, places: Ints | Flags) -> Instances:
        """Some of them, by place or by a flag for each."""
        return Instances(*(getattr(self, field.name)[places] for field in fields(self)))

    def lengths(self, template: Template) -> Ints:
        """Tokens of each sequence, special ones included: [n]."""
        second = self.b_end - self.b_start
        single, pair = template.special_tokens(pair=False), template.special_tokens(pair=True)
        return self.a_end - self.a_start + second + np.where(second > 0, pair, single)


class Packed(NamedTuple):
    """N sequences end to end; T tokens."""

    input_ids: npt.NDArray[np.int32]  # [T]
    token_type_ids: npt.NDArray[np.int32]  # [T]
    cu_seqlens: Ints  # [N + 1]
    special: Flags  # [T]


class _Chunks(NamedTuple):
    """Consecutive sentences of a document of which a sequence is made; each [n]."""

    start: Ints
    end: Ints
    middle: Ints  # where the second part begins
    is_random: Flags  # whether a random part comes instead
    target: Ints
    document: Ints
    key: Words


def plan_instances(
    sentences: Ints,
    documents: Ints,
    chosen: Ints,
    settings: PairSettings,
    template: Template,
    seed: int,
    epoch: int,
    shard: int | str,
) -> Instances:
    """The sequences of one pass over a shard, those of a document following one another.

    `sentences` is [S + 1] and `documents` [D + 1] as in `CorpusShard`. `chosen` names the documents, in order; one
    that occurs k times is used k times, each time with other random numbers. Random second parts come from chosen
    documents. With `duplication` D, pass `epoch` equals pass `epoch` mod D.

    Source: the algorithm of BERT's `create_pretraining_data.py`; "sop" is ALBERT's sentence order.
    """
    chosen = chosen[documents[chosen + 1] > documents[chosen]]
    turn = epoch if settings.duplication is None else epoch % settings.duplication
    keys = hashed(derive(seed, "sequences", turn, shard), chosen, _copies(chosen))
    if settings.objective == "none":
        room = settings.sequence_len - template.special_tokens(pair=False)
        return _runs(sentences, documents, chosen, keys, _targets(keys, settings.short_seq_prob, room), room)
    room = settings.sequence_len - template.special_tokens(pair=True)
    targets = _targets(keys, settings.short_seq_prob, room)
    chunks = _chunks(sentences, documents, chosen, keys, targets, settings.objective == "nsp")
    if settings.objective == "sop":
        return _ordered(chunks, sentences, room)
    return _next_or_random(chunks, sentences, documents, chosen, room)


def assemble(input_ids: npt.NDArray[np.int32], instances: Instances, places: Ints, template: Template) -> Packed:
    """The sequences at `places` [N] packed with their special tokens: [CLS] A [SEP] B [SEP] end to end.

    `input_ids` is the shard's flat column.
    """
    layout = _lay_out(instances, places, template)
    ids = np.take(input_ids, layout.sources, mode="clip")
    special = np.zeros(len(ids), np.bool_)
    for where, tokens in (
        (layout.cu_seqlens[:-1], template.prefix),
        (layout.seconds[layout.pairs] - len(template.middle), template.middle),
        (layout.cu_seqlens[1:] - len(template.suffix), template.suffix),
    ):
        for offset, token in enumerate(tokens):
            ids[where + offset] = token
            special[where + offset] = True
    types = np.zeros(len(layout.parts), np.int32)
    types[1::2][layout.pairs] = template.second_type
    return Packed(ids, np.repeat(types, layout.parts), layout.cu_seqlens, special)


def gather(column: npt.NDArray[np.bool_], instances: Instances, places: Ints, template: Template) -> Flags:
    """Another flat column of the shard, such as `word_starts`, in the order of `assemble`'s tokens: [T].

    What stands at special tokens has no meaning.
    """
    return np.take(column, _lay_out(instances, places, template).sources, mode="clip")


class _Layout(NamedTuple):
    cu_seqlens: Ints  # [N + 1]
    parts: Ints  # tokens up to the second part, and from it on, of each sequence in turn: [2 N]
    seconds: Ints  # where the second part begins: [N]
    pairs: Flags  # whether there is one: [N]
    sources: Ints  # each token's place in the shard, of no meaning at special tokens: [T]


def _lay_out(instances: Instances, places: Ints, template: Template) -> _Layout:
    a_start, a_end = instances.a_start[places], instances.a_end[places]
    b_start, b_end = instances.b_start[places], instances.b_end[places]
    second = b_end - b_start
    pairs = second > 0
    parts = np.empty(2 * len(places), np.int64)
    parts[0::2] = a_end - a_start + (len(template.prefix) + len(template.middle) * pairs)
    parts[1::2] = second + len(template.suffix)
    bounds = np.zeros(2 * len(places) + 1, np.int64)
    np.cumsum(parts, out=bounds[1:])
    shifts = np.empty(2 * len(places), np.int64)
    shifts[0::2] = a_start - len(template.prefix)
    shifts[1::2] = b_start
    shifts -= bounds[:-1]
    sources = np.repeat(shifts, parts)
    sources += np.arange(len(sources))
    return _Layout(bounds[::2], parts, bounds[1::2], pairs, sources)


def _copies(chosen: Ints) -> Ints:
    """How often the same document came before."""
    order = np.argsort(chosen, kind="stable")
    ordered = chosen[order]
    copies = np.empty_like(chosen)
    copies[order] = np.arange(len(chosen)) - np.searchsorted(ordered, ordered)
    return copies


def _targets(keys: Words, short_seq_prob: float, room: int) -> Ints:
    """Wanted tokens of a document's chunks: mostly all that fit, now and then any number from 2."""
    short = uniform(hashed(keys, 0)) < short_seq_prob
    return np.where(short, 2 + below(hashed(keys, 1), room - 1), room)


def _chunks(sentences: Ints, documents: Ints, chosen: Ints, keys: Words, targets: Ints, with_random: bool) -> _Chunks:
    """Whole sentences up to the target; those that a random part replaces are read again."""
    active = np.arange(len(chosen))
    start, last, target, key = documents[chosen], documents[chosen + 1], targets, keys
    turns: list[tuple[npt.NDArray[Any], ...]] = []
    while len(active) or not turns:
        drawn = hashed(key, 2 + len(turns))
        end = np.minimum(np.searchsorted(sentences, sentences[start] + target), last)
        num_sentences = end - start
        middle = start + 1 + below(drawn, np.maximum(num_sentences - 1, 1))
        # `below` used the lower half of the bits.
        is_random = (num_sentences == 1) | (drawn >> np.uint64(63) == 1) if with_random else np.zeros_like(end, bool)
        turns.append((active, start, end, middle, is_random, drawn))
        start = np.where(is_random, middle, end)
        left = start < last
        if not left.all():
            active, start, last, target, key = active[left], start[left], last[left], target[left], key[left]
    active, start, end, middle, is_random, drawn = _by_document(turns)
    return _Chunks(start, end, middle, is_random, targets[active], chosen[active], drawn)


def _by_document(turns: list[tuple[npt.NDArray[Any], ...]]) -> list[npt.NDArray[Any]]:
    """Columns of all turns, ordered by the first one, the number of the document."""
    active = np.concatenate([turn[0] for turn in turns])
    num_chunks = np.bincount(active)
    places = (np.cumsum(num_chunks) - num_chunks)[active]
    places += np.repeat(np.arange(len(turns)), [len(turn[0]) for turn in turns])
    ordered = []
    for column in zip(*turns, strict=True):
        joined = np.concatenate(column)
        ordered.append(np.empty_like(joined))
        ordered[-1][places] = joined
    return ordered


def _next_or_random(chunks: _Chunks, sentences: Ints, documents: Ints, chosen: Ints, room: int) -> Instances:
    a_start, a_end = sentences[chunks.start], sentences[chunks.middle]
    b_start, b_end = a_end.copy(), sentences[chunks.end]
    rows = np.flatnonzero(chunks.is_random)
    key = chunks.key[rows]
    other = _other_documents(key, chunks.document[rows], chosen)
    start = documents[other] + below(hashed(key, START), documents[other + 1] - documents[other])
    wanted = np.maximum(chunks.target[rows] - (a_end[rows] - a_start[rows]), 1)
    end = np.minimum(np.searchsorted(sentences, sentences[start] + wanted), documents[other + 1])
    b_start[rows], b_end[rows] = sentences[start], sentences[end]
    return _cut(chunks, a_start, a_end, b_start, b_end, chunks.is_random, room)


def _other_documents(keys: Words, own: Ints, chosen: Ints) -> Ints:
    """A random chosen document that is not one's own, unless ten tries give no other."""
    other = chosen[below(hashed(keys, DOCUMENT), len(chosen))]
    for attempt in range(1, TRIES):
        same = np.flatnonzero(other == own)
        if not len(same):
            break
        other[same] = chosen[below(hashed(keys[same], DOCUMENT + attempt), len(chosen))]
    return other


def _ordered(chunks: _Chunks, sentences: Ints, room: int) -> Instances:
    start, middle, end = sentences[chunks.start], sentences[chunks.middle], sentences[chunks.end]
    # A single sentence is cut in two.
    rows = np.flatnonzero((middle == end) & (end - start > 1))
    middle[rows] = start[rows] + 1 + below(hashed(chunks.key[rows], CUT), end[rows] - start[rows] - 1)
    swapped = chunks.key >> np.uint64(63) == 1
    # What is too long is cut after the swap: the cut says nothing about the order then.
    made = _cut(
        chunks,
        np.where(swapped, middle, start), np.where(swapped, end, middle),
        np.where(swapped, start, middle), np.where(swapped, middle, end),
        swapped, room,
    )  # fmt: skip
    return made.take(middle < end)


def _cut(chunks: _Chunks, a_start: Ints, a_end: Ints, b_start: Ints, b_end: Ints, label: Flags, room: int) -> Instances:
    """Take tokens off the longer part (the second one on a tie) until both fit, each from a random end."""
    rows = np.flatnonzero(a_end - a_start + b_end - b_start > room)
    a, b = (a_end - a_start)[rows], (b_end - b_start)[rows]
    excess = a + b - room
    # The longer part loses the difference first; from then on they take turns, the second part first.
    alone = np.minimum(excess, np.abs(a - b))
    shared = excess - alone
    off_a = np.where(a > b, alone, 0) + shared // 2
    off_b = excess - off_a
    key = chunks.key[rows]
    front_a, front_b = heads(hashed(key, FRONT_A), off_a), heads(hashed(key, FRONT_B), off_b)
    a_start[rows] += front_a
    a_end[rows] -= off_a - front_a
    b_start[rows] += front_b
    b_end[rows] -= off_b - front_b
    return Instances(
        a_start, a_end, b_start, b_end, label.astype(np.int8), chunks.document.astype(np.int32), chunks.key
    )


def _runs(sentences: Ints, documents: Ints, chosen: Ints, keys: Words, targets: Ints, room: int) -> Instances:
    """One part only, up to the target: as many whole sentences as fit; a longer sentence takes several sequences."""
    active = np.arange(len(chosen))
    start, last, target, key = sentences[documents[chosen]], sentences[documents[chosen + 1]], targets, keys
    turns: list[tuple[npt.NDArray[Any], ...]] = []
    while len(active) or not turns:
        end = sentences[np.minimum(np.searchsorted(sentences, start + target), len(sentences) - 1)]
        end = np.minimum(end, last)
        long = np.flatnonzero(end - start > room)
        before = sentences[np.searchsorted(sentences, start[long] + room, "right") - 1]
        end[long] = np.where(before > start[long], before, start[long] + room)
        turns.append((active, start, end, hashed(key, 2 + len(turns))))
        left = end < last
        active, start, last, target, key = active[left], end[left], last[left], target[left], key[left]
    active, start, end, drawn = _by_document(turns)
    label = np.zeros(len(start), np.int8)
    return Instances(start, end, end, end, label, chosen[active].astype(np.int32), drawn)
