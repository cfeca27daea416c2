"""`doctune pretrain --dry-run`: what would run, counted on the real corpus, without writing anything."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import BertForPreTraining

from doctune.batches.feed import Feed
from doctune.batches.sequences import hold_out
from doctune.config import to_toml
from doctune.devices import choose_device
from doctune.encoders.resolve import resolve_encoder
from doctune.encoders.scratch import scratch_config
from doctune.errors import ConfigError
from doctune.models.pretraining import load_pretraining
from doctune.progress import duration
from doctune.runs.pretraining import check_corpus_fits, with_defaults
from doctune.runs.pretraining_job import HEAD_WARMUP, make_budget, make_feed
from doctune.settings import EncoderSettings, PretrainSettings
from doctune.settings.components import TrapezoidSettings
from doctune.store.corpus import Corpus
from doctune.tensors import MaskedBatch
from doctune.text.tokenizer import TextTokenizer
from doctune.training.budget import Budget

MANY_PASSES = 40
"""Passes over a corpus beyond which more of the same text gains next to nothing."""
SAMPLED_STEPS = 32
BYTES_PER_PARAMETER = 16  # float32: weights, gradients, and the optimiser's two moments


@dataclass(frozen=True, slots=True)
class Pace:
    """What a step takes in the mean, counted in the first steps."""

    tokens: float
    sequences: float
    masked: float


def describe_pretraining(settings: PretrainSettings) -> str:
    """The settings as TOML, completed, and what a run with them would do; raises the errors that a run would raise."""
    corpus = Corpus.open(Path(settings.corpus).expanduser())
    tokenizer, manifest = corpus.tokenizer(), corpus.manifest
    settings = with_defaults(settings)
    training = settings.training
    choose_device(training.device, training.precision)  # the run would need it, too
    lines = [to_toml(settings).rstrip(), "", "# what would run", *_model(settings, corpus, tokenizer)]
    total = manifest.total
    size = f"{total.documents:,} documents, {total.sentences:,} sentences, {total.tokens:,} tokens"
    lines.append(f"# corpus {manifest.name}: {size}")
    lines += [
        f"#   {source.name}: {source.tokens:,} tokens, weight {source.weight:g}"
        for source in manifest.sources
        if len(manifest.sources) > 1
    ]
    against = ", ".join(f"{record.name} ({record.texts:,} texts)" for record in manifest.exclude)
    left = ", ".join(f"{count:,} {reason}" for reason, count in manifest.left_out.items())
    lines.append(f"# leak guard: compared with {against or 'no texts'}; left out: {left or 'none'}")
    train_on, held_out = hold_out(corpus.shards, corpus.weights.tolist(), training.held_out, training.seed)
    held = int(sum(copies.sum() for copies in held_out.copies))
    if held:
        lines.append(f"# held out: {held:,} documents, measured {training.evaluations} times")
    feed = make_feed(settings, corpus, tokenizer, train_on)
    short = _pace(feed, 0.0) if training.short_share else None
    pace = _pace(feed, 1.0)
    steps = feed.steps_per_epoch
    a_pass = pace.tokens * steps
    lines.append(
        f"# one pass: about {pace.sequences * steps:,.0f} sequences, {a_pass:,.0f} tokens, special ones included, "
        f"{steps:,.0f} steps"
    )
    parts = [("each step", pace)]
    if short is not None:
        parts = [(f"a step in the first {100 * training.short_share:g} % of the budget", short), ("then", pace)]
    lines += [
        f"# {when}: {one.sequences:,.0f} sequences, {one.tokens:,.0f} tokens, {one.masked:,.0f} of them to predict"
        for when, one in parts
    ]
    tokens, said = _budget(make_budget(settings), training.short_share, pace, short or pace)
    passes = None if tokens is None else tokens / a_pass
    lines.append(f"# budget: {said}" + ("" if passes is None else f", {passes:,.2f} passes over the corpus"))
    lines += [_rate(settings), f"# output: {settings.output}"]
    return "\n".join(lines + [f"# warning: {text}" for text in _warnings(corpus, held, tokens, a_pass)])


def _model(settings: PretrainSettings, corpus: Corpus, tokenizer: TextTokenizer) -> list[str]:
    """The encoder, its new heads, and the memory that its parameters need."""
    start, training = settings.start, settings.training
    if start.from_scratch is not None:
        config = scratch_config(start.from_scratch, tokenizer.size)
        places, wanted = config.max_position_embeddings, settings.pairs.sequence_len
        if wanted > places:
            raise ConfigError(f"pairs.sequence_len: {wanted}, but the encoder has {places} positions")
        with torch.device("meta"):  # shapes without numbers
            parameters = sum(one.numel() for one in BertForPreTraining(config).parameters())
        size = f"{config.num_hidden_layers} layers of {config.hidden_size}, {tokenizer.size:,} word pieces"
        lines = [f"# encoder from scratch: {size}"]
    else:
        assert start.encoder is not None
        folder = resolve_encoder(start.encoder, start.revision)
        new_pieces = check_corpus_fits(settings, corpus, tokenizer, folder)
        own = EncoderSettings(encoder=str(folder), packing=start.packing)
        loaded = load_pretraining(folder, own, settings.pairs.objective, new_pieces)
        parameters = sum(one.numel() for one in loaded.model.parameters())
        encoder = loaded.model.encoder
        lines = [f"# encoder {start.encoder}: {encoder.num_layers} layers of {encoder.hidden_size}, {encoder.packing}"]
        if new_pieces:
            lines.append(f"# vocabulary: {len(new_pieces):,} new pieces, each starts as the mean of its old ones")
        if loaded.new_heads:
            share = start.head_warmup
            if share is None:
                share = HEAD_WARMUP if "masked words" in loaded.new_heads else 0.0
            alone = f", trained alone for {100 * share:g} % of the budget first" if share else ""
            lines.append(f"# new heads: {', '.join(loaded.new_heads)}{alone}")
        elif start.head_warmup:
            raise ConfigError("start.head_warmup: the encoder has its heads already; leave it out")
    copies, what = BYTES_PER_PARAMETER, "weights, gradients, two moments"
    if training.held_out:
        copies, what = copies + 4, f"{what}, and the best weights"
    lines.append(
        f"# memory: {copies * parameters / 1e6:,.0f} MB for {parameters / 1e6:.1f} million parameters ({what}); "
        f"what a batch needs comes on top"
    )
    return lines


def _pace(feed: Feed, progress: float) -> Pace:
    """The mean of some steps at this place of the run; the feed goes forward."""
    counts = []
    for step in range(SAMPLED_STEPS):
        window = feed.window(step, progress)
        masked = sum(len(batch.masked_labels) for batch in window if isinstance(batch, MaskedBatch))
        counts.append((sum(one.num_tokens for one in window), sum(one.num_documents for one in window), masked))
    return Pace(*np.mean(counts, axis=0).tolist())


def _budget(budget: Budget, short_share: float, pace: Pace, short: Pace) -> tuple[float | None, str]:
    """How many tokens the budget is, or None for a time; and the budget in words."""
    if budget.unit == "seconds":
        return None, f"{duration(budget.total)}; how many steps that is depends on this machine"
    if budget.unit == "tokens":
        steps = budget.total * (short_share / short.tokens + (1 - short_share) / pace.tokens)
        return budget.total, f"{budget.total:,} tokens, about {steps:,.0f} steps"
    tokens = budget.total * (short_share * short.tokens + (1 - short_share) * pace.tokens)
    return tokens, f"{budget.total:,} steps, about {tokens:,.0f} tokens"


def _rate(settings: PretrainSettings) -> str:
    schedule = settings.schedule
    text = f"# learning rate: up to {settings.optimizer.learning_rate:g}, {schedule.schedule}"
    text += f", warm-up {100 * schedule.warmup:g} % of the budget"
    return text + (
        f", falling in the last {100 * schedule.decay:g} %" if schedule.schedule == TrapezoidSettings.name else ""
    )


def _warnings(corpus: Corpus, held: int, tokens: float | None, a_pass: float) -> list[str]:
    """What a user would want to know before hours of training."""
    said, manifest = [], corpus.manifest
    if tokens is not None and tokens > MANY_PASSES * a_pass:
        said.append(
            f"{tokens / a_pass:,.0f} passes over this corpus; beyond some {MANY_PASSES} of them (--tokens "
            f"{MANY_PASSES * a_pass:.0f}) the same text gains next to nothing; add text, or take a smaller budget"
        )
    if manifest.transductive:
        kept = sum(manifest.kept.values())
        said.append(f"the corpus is transductive: {kept:,} documents like the excluded texts are in it")
    elif not manifest.exclude:
        said.append("the corpus was compared with no test texts; doctune corpus --exclude does it")
    if not held:
        said.append("no document is held out: nothing is measured, and the last weights are kept")
    return said
