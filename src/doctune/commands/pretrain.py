"""`doctune pretrain`: a corpus and an encoder in, an encoder that knows the domain out."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

import doctune
from doctune import seeding
from doctune.batches.feed import Feed
from doctune.batches.sequences import Choice, Recipe, SequenceFeed, StagedFeed, hold_out
from doctune.commands.finetune import check_output, check_space, environment
from doctune.config import read_toml, write_toml
from doctune.devices import Device, choose_device
from doctune.encoders.load import check_folder, read_shape
from doctune.encoders.resolve import resolve_encoder
from doctune.encoders.scratch import new_bert, scratch_config
from doctune.errors import ConfigError, UserError
from doctune.evaluation.model_card import model_card
from doctune.evaluation.pretraining import measure
from doctune.evaluation.pretraining_report import write_pretraining_report
from doctune.files import atomic_folder, content_hash, no_space_is_one_line, write_json, write_text
from doctune.models.folder import state_to_cpu
from doctune.models.pretrained_folder import FACTS, save_pretrained
from doctune.models.pretraining import PretrainingLoaded, load_pretraining
from doctune.progress import duration
from doctune.settings import EncoderSettings, LayerwiseSettings, PretrainSettings
from doctune.store.corpus import LEDGER, Corpus
from doctune.tensors import MaskedBatch
from doctune.text.tokenizer import TextTokenizer
from doctune.text.words import word_starts
from doctune.training.budget import Budget
from doctune.training.layerwise import parameter_groups
from doctune.training.log import MetricsLog
from doctune.training.loop import Outcome, Run, train
from doctune.training.optim import make_optimizer
from doctune.training.schedule import make_schedule
from doctune.training.state import Checkpoints, Evaluation, TrainingState

PAPER_STEPS, PAPER_RATE, SCRATCH_RATE = 100_000, 5e-5, 1e-3
HELD_OUT_SEQUENCES, EVALUATION_BATCH = 1000, 64
HEAD_WARMUP = 0.05
UNIFORM = LayerwiseSettings(layerwise="none")
SCRATCH_FOLDER, MODEL, SNAPSHOTS, HEADS = "untrained", "model", "snapshots", "warmed-up"
# What may differ between a run and its continuation: the budget too, so that a run can be prolonged.
FREE_TO_CHANGE = {
    "output": True,
    "corpus": True,
    "training": {"checkpoint_minutes", "device", "steps", "tokens", "minutes", "evaluations", "snapshots"},
}


@dataclass(frozen=True, slots=True)
class Pretrained:
    """What a run gives: its outcome, the facts that stand in the model's folder, and that folder."""

    outcome: Outcome
    facts: dict[str, Any]
    folder: Path


def pretrain(settings: PretrainSettings, command: str, resume: bool = False) -> Pretrained:
    """Everything from settings to the encoder's folder; with `resume` a killed run goes on from its checkpoint."""
    output = Path(settings.output).expanduser()
    check_output(output, resume)
    corpus = Corpus.open(Path(settings.corpus).expanduser())
    tokenizer = corpus.tokenizer()
    settings = with_defaults(settings)
    device = choose_device(settings.training.device, settings.training.precision)
    new = not output.exists()
    try:
        with no_space_is_one_line(output):
            output.mkdir(parents=True, exist_ok=True)
        if resume:
            _check_same(settings, output / "config.toml")
        start = _start_folder(settings, tokenizer, output)
        check_fit(settings, corpus, tokenizer, start)
        check_space(output, start, 3 + settings.training.snapshots)
        write_toml(output / "config.toml", settings)
        write_json(output / "environment.json", environment(device, command))
        result = Job(settings, corpus, tokenizer, device, start, output).run()
        snapshots = sorted((output / SNAPSHOTS).glob("step-*"))
        write_pretraining_report(output, result.facts, command, snapshots)
        return result
    except UserError:
        if new and not resume and not any(output.rglob("*.safetensors")):
            shutil.rmtree(output, ignore_errors=True)
        raise


def with_defaults(settings: PretrainSettings) -> PretrainSettings:
    """Fill in what depends on other settings: the rate, the budget, dropout."""
    tree = settings.model_dump()
    scratch = settings.start.from_scratch is not None
    if settings.optimizer.learning_rate is None:
        tree["optimizer"]["learning_rate"] = SCRATCH_RATE if scratch else PAPER_RATE
    if not any((settings.training.steps, settings.training.tokens, settings.training.minutes)):
        tree["training"]["steps"] = PAPER_STEPS
    if scratch and settings.start.head_warmup:
        raise ConfigError("start.head_warmup: from scratch there is no encoder to keep as it is; leave it out")
    if scratch and settings.start.dropout is None:
        # A model that sees its text once or twice needs no dropout.
        tree["start"]["dropout"] = 0.0
    if (
        settings.optimizer.optimizer == "bert-adam"
        and settings.training.steps is None
        and (settings.training.tokens or settings.training.minutes)
    ):
        raise ConfigError("optimizer.optimizer: bert-adam counts steps; give the budget with --steps, or take adamw")
    return PretrainSettings.build(tree)


def make_budget(settings: PretrainSettings) -> Budget:
    """The budget that the settings give."""
    training = settings.training
    if training.tokens is not None:
        return Budget("tokens", training.tokens)
    if training.minutes is not None:
        return Budget("seconds", max(round(60 * training.minutes), 1))
    return Budget("step", training.steps or PAPER_STEPS)


def _start_folder(settings: PretrainSettings, tokenizer: TextTokenizer, output: Path) -> Path:
    """The folder of the encoder to begin with; one with random weights is made in the run directory."""
    if settings.start.encoder is not None:
        return resolve_encoder(settings.start.encoder, settings.start.revision)
    folder = output / SCRATCH_FOLDER
    if not (folder / "model.safetensors").is_file():
        assert settings.start.from_scratch is not None
        config = scratch_config(settings.start.from_scratch, tokenizer.size)
        new_bert(folder, config, seeding.derive(settings.training.seed, "weights"))
        tokenizer.save(folder)
    return folder


def check_fit(settings: PretrainSettings, corpus: Corpus, tokenizer: TextTokenizer, start: Path) -> None:
    """The corpus must have been made with the encoder's tokenizer, and its sequences must have a place."""
    shape = read_shape(start)
    if settings.pairs.sequence_len > shape.max_seq_len:
        raise ConfigError(
            f"pairs.sequence_len: {settings.pairs.sequence_len}, but the encoder has {shape.max_seq_len} positions"
        )
    if TextTokenizer.load(start).hash != tokenizer.hash:
        raise ConfigError(
            f"corpus: {corpus.folder} was made with another tokenizer than that of {start}; "
            f"make it again with doctune corpus --encoder {settings.start.encoder}"
        )
    if settings.pairs.objective != "none" and check_folder(start)["model_type"] == "modernbert":
        raise ConfigError("pairs.objective: ModernBERT has no segments and was trained without pairs; use none")


def _check_same(settings: PretrainSettings, path: Path) -> None:
    """A resumed run must have the settings that it began with, but for its budget."""
    if not path.is_file():
        return
    old = PretrainSettings.build(read_toml(path)).model_dump(mode="json", exclude=FREE_TO_CHANGE)  # type: ignore[arg-type]
    new = settings.model_dump(mode="json", exclude=FREE_TO_CHANGE)  # type: ignore[arg-type]
    for section, values in new.items():
        for name, value in values.items():
            if old[section][name] != value:
                raise ConfigError(
                    f"{section}.{name}: {value!r}, but the run in {path.parent} has {old[section][name]!r}; "
                    f"resume with the same settings (--config {path}), or give a new --output"
                )


@dataclass(frozen=True, slots=True)
class Job:
    """What the parts of one run share; settings are complete."""

    settings: PretrainSettings
    corpus: Corpus
    tokenizer: TextTokenizer
    device: Device
    start: Path
    output: Path

    def run(self) -> Pretrained:
        """Train and save."""
        settings, seed = self.settings, self.settings.training.seed
        log = MetricsLog(self.output / "metrics.jsonl")
        shards, weights = self.corpus.shards, self.corpus.weights.tolist()
        train_on, held_out = hold_out(shards, weights, settings.training.held_out, seed)
        measured_on = self._measured_on(held_out)
        torch.manual_seed(seeding.derive(seed, "new layers"))
        loaded = self._load()
        budget = make_budget(settings)
        warmed_up = self._warm_up_heads(loaded, train_on, budget)

        def evaluate() -> Evaluation:
            record = measure(loaded.model, measured_on, self.device)
            return Evaluation(-record["held_out_loss"], record)

        def keep_snapshot(state: TrainingState) -> None:
            if any(place <= budget.position(state) for place in snapshots):
                while snapshots and snapshots[0] <= budget.position(state):
                    snapshots.pop(0)
                folder = self.output / SNAPSHOTS / f"step-{state.step:07d}"
                self._save(loaded, self._facts(loaded, state, warmed_up), folder)

        snapshots = list(budget.parts(settings.training.snapshots)) if settings.training.snapshots else []
        places = sorted({*budget.parts(settings.training.evaluations), *snapshots})
        run = self._make_run(loaded, self.feed(train_on), budget, places)
        outcome = train(run, evaluate if measured_on else None, log, self._checkpoints("checkpoint"), keep_snapshot)
        state = TrainingState(outcome.steps, outcome.examples, outcome.tokens, outcome.seconds, records=outcome.records)
        facts = self._facts(loaded, state, warmed_up, outcome.best)
        self._save(loaded, facts, self.output / MODEL)
        if budget.unit != "seconds":
            # A run in minutes cannot be prolonged from here: its last step was not the budget's last.
            shutil.rmtree(self.output / HEADS, ignore_errors=True)
        return Pretrained(outcome, facts, self.output / MODEL)

    def _load(self) -> PretrainingLoaded:
        start, training = self.settings.start, self.settings.training
        encoder = EncoderSettings(
            encoder=str(self.start), packing=start.packing, dropout=start.dropout,
            attention_dropout=start.attention_dropout,
        )  # fmt: skip
        loaded = load_pretraining(self.start, encoder, self.settings.pairs.objective)
        if training.gradient_checkpointing and not loaded.model.encoder.recompute_activations():
            raise ConfigError("training.gradient_checkpointing: this encoder does not support it")
        loaded.model.to(self.device.torch)
        return loaded

    def _recipe(self, sequence_len: int) -> Recipe:
        masking = self.settings.masking
        whole = masking.masking == "whole-word"
        return Recipe(
            self.settings.pairs.model_copy(update={"sequence_len": sequence_len}), masking, self.tokenizer.template,
            self.tokenizer.mask_id, self.tokenizer.size, word_starts(self.tokenizer) if whole else None,
        )  # fmt: skip

    def feed(self, choice: Choice) -> Feed:
        """The sequences of the documents chosen; with `short_share` of half the length at first."""
        training, length = self.settings.training, self.settings.pairs.sequence_len
        shards = self.corpus.shards
        if training.short_share == 0:
            return SequenceFeed(
                shards, choice, self._recipe(length), training.seed, training.batch_size, training.accumulation
            )
        # As many tokens in a batch, in more sequences.
        short = SequenceFeed(
            shards, choice, self._recipe(min(training.short_len, length)), seeding.derive(training.seed, "short"),
            max(training.batch_size * length // training.short_len, training.batch_size), training.accumulation,
        )  # fmt: skip
        full = SequenceFeed(
            shards, choice, self._recipe(length), training.seed, training.batch_size, training.accumulation
        )
        return StagedFeed([(training.short_share, short), (1.0, full)])

    def _measured_on(self, held_out: Choice) -> list[MaskedBatch]:
        """Held-out sequences; the same ones, with the same masks, at every measurement."""
        if not any(copies.any() for copies in held_out.copies):
            return []
        seed = seeding.derive(self.settings.training.seed, "held out")
        recipe = self._recipe(self.settings.pairs.sequence_len)
        return SequenceFeed(self.corpus.shards, held_out, recipe, seed, EVALUATION_BATCH).once(HELD_OUT_SEQUENCES)

    def _make_run(self, loaded: PretrainingLoaded, feed: Feed, budget: Budget, places: Sequence[int]) -> Run:
        settings = self.settings
        factor = make_schedule(settings.schedule, budget.end)
        assert settings.optimizer.learning_rate is not None
        groups, _ = parameter_groups(
            loaded.model, settings.optimizer.learning_rate, settings.optimizer.weight_decay, UNIFORM
        )
        optimizer = make_optimizer(groups, settings.optimizer, factor, clips_per_tensor=False)
        return Run(
            loaded.model, feed, budget, places, (budget.unit, budget.total), optimizer, factor,
            settings.optimizer.max_grad_norm, self.device, settings.training.seed, settings.training.patience,
        )  # fmt: skip

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
        path = self.output / HEADS / "model.safetensors"
        if not path.is_file():
            budget = Budget(whole.unit, max(round(share * whole.total), 1))
            print(
                f"new heads ({', '.join(loaded.new_heads)}): trained alone for {100 * share:.0f} % of the budget first",
                file=sys.stderr,
            )
            loaded.model.freeze_encoder()
            run = self._make_run(loaded, self.feed(choice), budget, ())
            train(run, None, MetricsLog(self.output / "metrics-heads.jsonl"), self._checkpoints("checkpoint-heads"))
            loaded.model.freeze_encoder(False)
            with atomic_folder(path.parent) as temporary:
                save_file(state_to_cpu(loaded.model), temporary / path.name)
            shutil.rmtree(self.output / "checkpoint-heads", ignore_errors=True)
        loaded.model.load_state_dict(load_file(path))
        return share

    def _checkpoints(self, name: str) -> Checkpoints:
        """The checkpoint of the run; it belongs to its recipe, encoder and corpus, but not to its budget."""
        recipe = self.settings.model_dump_json(exclude=FREE_TO_CHANGE)  # type: ignore[arg-type]
        shards = [record.hash for record in self.corpus.manifest.shards]
        run = content_hash(recipe, *shards)
        return Checkpoints(self.output / name, self.settings.training.checkpoint_minutes, run)

    def _save(self, loaded: PretrainingLoaded, facts: dict[str, Any], folder: Path) -> None:
        given = self.start if self.settings.start.encoder is not None else None
        save_pretrained(loaded.model, loaded.config, self.tokenizer, facts, given, folder)
        write_text(folder / "README.md", model_card(facts, self.output.resolve().name))
        if (self.corpus.folder / LEDGER).is_file():
            shutil.copyfile(self.corpus.folder / LEDGER, folder / LEDGER)

    def _facts(
        self, loaded: PretrainingLoaded, state: TrainingState, warmed_up: float, best: int = -1
    ) -> dict[str, Any]:
        """What the encoder's folder says of its pre-training."""
        manifest, settings, encoder = self.corpus.manifest, self.settings, loaded.model.encoder
        evaluation = state.records[best].evaluation if state.records else None
        return {
            "doctune": doctune.__version__,
            "base_encoder": settings.start.encoder or f"from scratch: {settings.start.from_scratch}",
            "before": self._before(),
            "encoder": {
                "hidden_size": encoder.hidden_size,
                "num_layers": encoder.num_layers,
                "num_parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
                "packing": encoder.packing,
            },
            "objective": settings.pairs.objective,
            "steps": state.step,
            "tokens": state.tokens,
            "seconds": round(state.seconds, 1),
            "kept_step": state.records[best].step if state.records else state.step,
            "new_heads": list(loaded.new_heads),
            "head_warmup": warmed_up,
            "held_out": evaluation.record if evaluation else None,
            "corpus": {
                "name": manifest.name,
                "sources": [source.model_dump(mode="json") for source in manifest.sources],
                **manifest.total.model_dump(mode="json"),
                "exclude": [record.model_dump(mode="json") for record in manifest.exclude],
                "left_out": manifest.left_out,
                "kept": manifest.kept,
                "transductive": manifest.transductive,
            },
            "settings": settings.model_dump(mode="json", exclude={"output": True}),
        }

    def _before(self) -> dict[str, Any] | None:
        """The facts of the encoder that this run began with: what it had seen stays seen."""
        path = self.start / FACTS
        if self.settings.start.encoder is None or not path.is_file():
            return None
        facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return facts


def summary(result: Pretrained) -> str:
    """What a run tells at its end."""
    facts = result.facts
    lines = [f"{facts['steps']:,} steps, {facts['tokens']:,} tokens in {duration(facts['seconds'])}"]
    held_out = facts["held_out"]
    if held_out is not None:
        text = f"on held-out documents: masked words loss {held_out['mlm_loss']:.3f}, "
        text += f"accuracy {100 * held_out['mlm_accuracy']:.1f} %"
        if "pair_accuracy" in held_out:
            text += f"; pairs accuracy {100 * held_out['pair_accuracy']:.1f} %"
        lines.append(f"{text} (step {facts['kept_step']:,})")
    if facts["corpus"]["transductive"]:
        lines.append("the corpus holds texts of the test set (--transductive): say so beside any figure")
    lines += [f"report   {result.folder.parent}/report.html"]
    lines += [f"encoder  {result.folder}", f"try it:  doctune finetune --encoder {result.folder} ..."]
    return "\n".join(lines)
