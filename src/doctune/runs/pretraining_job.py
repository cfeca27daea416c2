"""One run of further pre-training: from complete settings to the encoder's folder."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from doctune import seeding
from doctune.batches.feed import Feed
from doctune.batches.sequences import Choice, Recipe, SequenceFeed, StagedFeed, hold_out
from doctune.errors import ConfigError
from doctune.files import atomic_folder, write_text
from doctune.models.pretrained_folder import save_pretrained
from doctune.models.pretraining import PretrainingLoaded, load_pretraining
from doctune.report.pretraining_card import model_card
from doctune.runs.context import RunContext
from doctune.runs.directory import (
    CHECKPOINT,
    MODEL,
    SNAPSHOTS,
    WARMED_UP,
    WARMING_UP,
    remove_checkpoint,
    remove_warm_up,
)
from doctune.runs.identity import Identity
from doctune.runs.pretraining_evaluation import measure
from doctune.runs.pretraining_facts import facts_of
from doctune.settings import EncoderSettings, PretrainSettings
from doctune.store.corpus import LEDGER, Corpus
from doctune.tensors import MaskedBatch
from doctune.text.tokenizer import TextTokenizer
from doctune.text.words import word_starts
from doctune.training import setup
from doctune.training.budget import Budget
from doctune.training.log import MetricsLog
from doctune.training.loop import Outcome, TrainingSetup, train
from doctune.training.state import Checkpoints, Evaluation, TrainingState, state_to_cpu

HELD_OUT_SEQUENCES, EVALUATION_BATCH = 1000, 64
PAPER_STEPS = 100_000
HEAD_WARMUP = 0.05


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What a run gives: its outcome, the facts that stand in the model's folder, and that folder."""

    outcome: Outcome
    facts: dict[str, Any]
    folder: Path


def make_budget(settings: PretrainSettings) -> Budget:
    """The budget that the settings give."""
    training = settings.training
    if training.tokens is not None:
        return Budget("tokens", training.tokens)
    if training.minutes is not None:
        return Budget("seconds", max(round(60 * training.minutes), 1))
    return Budget("step", training.steps or PAPER_STEPS)


def make_feed(settings: PretrainSettings, corpus: Corpus, tokenizer: TextTokenizer, choice: Choice) -> Feed:
    """The sequences of the documents chosen; with `short_share` short ones at first."""
    training, length = settings.training, settings.pairs.sequence_len
    shards, recipe = corpus.shards, make_recipe(settings, tokenizer, length)
    if training.short_share == 0:
        return SequenceFeed(shards, choice, recipe, training.seed, training.batch_size, training.accumulation)
    # As many tokens in a batch, in more sequences.
    short = SequenceFeed(
        shards, choice, make_recipe(settings, tokenizer, min(training.short_len, length)),
        seeding.derive(training.seed, "short"),
        max(training.batch_size * length // training.short_len, training.batch_size), training.accumulation,
    )  # fmt: skip
    full = SequenceFeed(shards, choice, recipe, training.seed, training.batch_size, training.accumulation)
    return StagedFeed([(training.short_share, short), (1.0, full)])


def make_recipe(settings: PretrainSettings, tokenizer: TextTokenizer, sequence_len: int) -> Recipe:
    """How sequences of a length are made and masked."""
    whole = settings.masking.masking == "whole-word"
    return Recipe(
        settings.pairs.model_copy(update={"sequence_len": sequence_len}), settings.masking, tokenizer.template,
        tokenizer.mask_id, tokenizer.size, word_starts(tokenizer) if whole else None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class PretrainingJob:
    """One run into `output`, which says by `identity` what it is of; settings are complete.

    The tokenizer of the context is the corpus's, its encoder the one to begin with. Of several processes the first one
    writes.
    """

    settings: PretrainSettings
    corpus: Corpus
    context: RunContext
    output: Path
    identity: Identity
    new_pieces: Mapping[int, Sequence[int]] = field(default_factory=dict)

    @property
    def start(self) -> Path:
        """The folder of the encoder that the run begins with."""
        return self.context.encoder

    def run(self) -> Pretrained:
        """Train and save."""
        settings, seed = self.settings, self.settings.training.seed
        log = MetricsLog(self.output / "metrics.jsonl", self.context.world.main)
        shards, weights = self.corpus.shards, self.corpus.weights.tolist()
        train_on, held_out = hold_out(shards, weights, settings.training.held_out, seed)
        measured_on = self._measured_on(held_out)
        torch.manual_seed(seeding.derive(seed, "new layers"))
        loaded = self._load()
        budget = make_budget(settings)
        warmed_up = self._warm_up_heads(loaded, train_on, budget)

        def evaluate() -> Evaluation:
            record = measure(loaded.model, measured_on, self.context.device)
            return Evaluation(-record["held_out_loss"], record)

        def keep_snapshot(state: TrainingState, before: int) -> None:
            if any(before < place <= budget.position(state) for place in snapshots):
                folder = self.output / SNAPSHOTS / f"step-{state.step:07d}"
                self._save(loaded, facts_of(self, loaded, state, warmed_up), folder)

        snapshots = budget.parts(settings.training.snapshots)
        places = sorted({*budget.parts(settings.training.evaluations), *snapshots})
        training = self._training(loaded, train_on, budget, places)
        outcome = train(
            training, evaluate if measured_on else None, log, self._checkpoints(CHECKPOINT, budget), keep_snapshot
        )
        state = TrainingState(outcome.steps, outcome.examples, outcome.tokens, outcome.seconds, records=outcome.records)
        facts = facts_of(self, loaded, state, warmed_up, outcome.best)
        self._save(loaded, facts, self.output / MODEL)
        if self.context.world.main:
            remove_warm_up(self.output)
        return Pretrained(outcome, facts, self.output / MODEL)

    def _load(self) -> PretrainingLoaded:
        start, training = self.settings.start, self.settings.training
        encoder = EncoderSettings(
            encoder=str(self.start), packing=start.packing, dropout=start.dropout,
            attention_dropout=start.attention_dropout,
        )  # fmt: skip
        if self.new_pieces:
            print(
                f"vocabulary: {len(self.new_pieces):,} new pieces, each starts as the mean of its old ones",
                file=sys.stderr,
            )
        loaded = load_pretraining(self.start, encoder, self.settings.pairs.objective, self.new_pieces)
        if training.gradient_checkpointing and not loaded.model.encoder.recompute_activations():
            raise ConfigError("training.gradient_checkpointing: this encoder does not support it")
        loaded.model.to(self.context.device.torch)
        return loaded

    def _measured_on(self, held_out: Choice) -> list[MaskedBatch]:
        """Held-out sequences; the same ones, with the same masks, at every measurement."""
        if not any(copies.any() for copies in held_out.copies):
            return []
        seed = seeding.derive(self.settings.training.seed, "held out")
        recipe = make_recipe(self.settings, self.context.tokenizer, self.settings.pairs.sequence_len)
        return SequenceFeed(self.corpus.shards, held_out, recipe, seed, EVALUATION_BATCH).once(HELD_OUT_SEQUENCES)

    def _training(
        self, loaded: PretrainingLoaded, choice: Choice, budget: Budget, places: Sequence[int], prolongable: bool = True
    ) -> TrainingSetup:
        own = self.settings.training
        feed = make_feed(self.settings, self.corpus, self.context.tokenizer, choice)
        course = setup.Course(feed, budget, places, (budget.unit, budget.total), own.seed, own.patience)
        device, world = self.context.device, self.context.world
        return setup.pretraining(loaded.model, course, self.settings, device, world, prolongable)

    def _warm_up_heads(self, loaded: PretrainingLoaded, choice: Choice, whole: Budget) -> float:
        """Train new heads alone first, the encoder being frozen; the share of the budget that this took."""
        share = self.settings.start.head_warmup
        if share is None:
            known = self.settings.start.from_scratch is None
            share = HEAD_WARMUP if known and "masked words" in loaded.new_heads else 0.0
        if share == 0.0:
            return 0.0
        if not loaded.new_heads:
            raise ConfigError("start.head_warmup: the encoder has its heads already; leave it out")
        if self.context.world.broadcast_from_rank0(self._checkpoints(CHECKPOINT, whole).exist):
            return share  # that was done before, and the checkpoint's weights come of it
        path = self.output / WARMED_UP / "model.safetensors"
        if not self.context.world.broadcast_from_rank0(path.is_file):
            budget = Budget(whole.unit, max(round(share * whole.total), 1))
            print(
                f"new heads ({', '.join(loaded.new_heads)}): trained alone for {100 * share:.0f} % of the budget first",
                file=sys.stderr,
            )
            loaded.model.freeze_encoder()
            train(
                self._training(loaded, choice, budget, (), prolongable=False),
                None,
                MetricsLog(self.output / "metrics-heads.jsonl", self.context.world.main),
                self._checkpoints(WARMING_UP, budget),
            )
            loaded.model.freeze_encoder(False)
            if self.context.world.main:
                with atomic_folder(path.parent) as temporary:
                    save_file(state_to_cpu(loaded.model), temporary / path.name)
                remove_checkpoint(self.output, WARMING_UP)
        self.context.world.barrier()
        loaded.model.load_state_dict(load_file(path))
        return share

    def _checkpoints(self, name: str, budget: Budget) -> Checkpoints:
        """The checkpoint of the run: it belongs to its recipe, encoder and corpus, and goes on with any budget."""
        minutes = self.settings.training.checkpoint_minutes
        budgeted = f"{budget.total} {budget.unit}"
        world = self.context.world
        return Checkpoints(self.output / name, minutes, self.identity.key(), budgeted, writes=world.main)

    def _save(self, loaded: PretrainingLoaded, facts: dict[str, Any], folder: Path) -> None:
        """Write the encoder's folder, with its card and the ledgers of what was left out for it."""
        if not self.context.world.main:
            return
        given = self.start if self.settings.start.encoder is not None else None
        save_pretrained(
            loaded.model, loaded.config, self.context.tokenizer, facts, given, folder, self.settings.training.save_dtype
        )
        write_text(folder / "README.md", model_card(facts, self.output.resolve().name))
        ledgers = [(self.corpus.folder / LEDGER, LEDGER)] + ([(given / LEDGER, f"before-{LEDGER}")] if given else [])
        for ledger, name in ledgers:
            if ledger.is_file():
                shutil.copyfile(ledger, folder / name)
