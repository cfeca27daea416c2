"""`doctune pretrain`: a corpus and an encoder in, an encoder that knows the domain out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doctune import seeding
from doctune.config import merge, read_toml
from doctune.devices import choose_device
from doctune.distributed import World, open_world
from doctune.encoders.load import check_folder, read_shape
from doctune.encoders.resolve import resolve_encoder
from doctune.encoders.scratch import new_bert, scratch_config
from doctune.errors import ConfigError
from doctune.progress import duration
from doctune.report.pretraining import write_pretraining_report
from doctune.runs.context import RunContext
from doctune.runs.directory import PRETRAIN, SNAPSHOTS, UNTRAINED, RunDirectory
from doctune.runs.identity import pretraining_identity
from doctune.runs.pretraining_job import PAPER_STEPS, Pretrained, PretrainingJob
from doctune.runs.trial import try_optimizer, try_schedule
from doctune.settings import PretrainSettings, from_flat
from doctune.settings.implementations import chosen_parts
from doctune.store.corpus import Corpus
from doctune.text.extension import added_pieces
from doctune.text.tokenizer import TextTokenizer
from doctune.training.setup import keeps_a_second_checkpoint

PAPER_RATE, SCRATCH_RATE = 5e-5, 1e-3


def pretrain(
    config: str | Path | None = None, *, resume: bool = False, command: str = "doctune.pretrain", **settings: Any
) -> Pretrained:
    """Further pre-train an encoder on a corpus, or pre-train a new one; what the run gave.

    `config` is a TOML file; `settings` are names of `doctune.settings`, for instance `corpus="corpora/reviews",
    encoder="minilm", objective="none", steps=1000, output="runs/adapted"`, and win over the file. Raises `UserError`
    with one clear line for bad input.
    """
    tree = merge({} if config is None else read_toml(Path(config)), from_flat(settings, PretrainSettings))
    return run(PretrainSettings.build(tree), command, resume)


def run(settings: PretrainSettings, command: str, resume: bool = False) -> Pretrained:
    """Everything from settings to the encoder's folder; with `resume` a killed run goes on from its checkpoint.

    Of several processes that torchrun started the first one writes; all give the result.
    """
    with open_world(settings.training.device) as world:
        return _run(settings, command, resume, world)


def _run(settings: PretrainSettings, command: str, resume: bool, world: World) -> Pretrained:
    with RunDirectory.open(settings.output, PRETRAIN, resume, world) as place:
        corpus = Corpus.open(Path(settings.corpus).expanduser())
        tokenizer = corpus.tokenizer()
        settings = with_defaults(settings)
        training = settings.training
        device = world.all_or_raise(lambda: choose_device(world.device(training.device), training.precision))
        place.make(settings)
        start = world.rank0_first(lambda: _start_folder(settings, tokenizer, place.output))
        new_pieces = check_corpus_fits(settings, corpus, tokenizer, start)
        context = RunContext(command, start, tokenizer, device, world)
        shards = [record.hash for record in corpus.manifest.shards]
        identity = pretraining_identity(world, settings, PRETRAIN.free, start, tokenizer.hash, corpus.folder, shards)
        place.begin(settings, identity, _copies(settings), context)
        result = PretrainingJob(settings, corpus, context, place.output, identity, new_pieces).run()
        if world.main:
            snapshots = sorted((place.output / SNAPSHOTS).glob("step-*"))
            write_pretraining_report(place.output, result.facts, command, snapshots)
        return result


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
    parts = chosen_parts(settings)
    try_schedule(parts["schedule"])
    try_optimizer(parts["optimizer"])
    return PretrainSettings.build(tree)


def _start_folder(settings: PretrainSettings, tokenizer: TextTokenizer, output: Path) -> Path:
    """The folder of the encoder to begin with; one with random weights is made in the run directory."""
    if settings.start.encoder is not None:
        return resolve_encoder(settings.start.encoder, settings.start.revision)
    folder = output / UNTRAINED
    if not (folder / "model.safetensors").is_file():
        assert settings.start.from_scratch is not None
        config = scratch_config(settings.start.from_scratch, tokenizer.size)
        new_bert(folder, config, seeding.derive(settings.training.seed, "weights"))
        tokenizer.save(folder)
    return folder


def _copies(settings: PretrainSettings) -> int:
    """How often the weights are on the disk at most: a checkpoint also has the moments and the best weights."""
    checkpoint = 4
    kept = checkpoint if keeps_a_second_checkpoint(settings) else 0
    # The new checkpoint is complete before the old one goes.
    return 2 * checkpoint + kept + settings.training.snapshots + 1


def check_corpus_fits(
    settings: PretrainSettings, corpus: Corpus, tokenizer: TextTokenizer, start: Path
) -> dict[int, list[int]]:
    """The corpus must have been made with the encoder's tokenizer, and its sequences must have a place.

    The tokenizer may have more pieces at its end: gives their ids, and what the encoder's own makes of each.
    """
    shape = read_shape(start)
    if settings.pairs.sequence_len > shape.max_seq_len:
        raise ConfigError(
            f"pairs.sequence_len: {settings.pairs.sequence_len}, but the encoder has {shape.max_seq_len} positions"
        )
    new_pieces = added_pieces(TextTokenizer.load(start), tokenizer)
    if new_pieces is None:
        raise ConfigError(
            f"corpus: {corpus.folder} was made with another tokenizer than that of {start}; "
            f"make it again with doctune corpus --encoder {settings.start.encoder}"
        )
    if settings.pairs.objective != "none" and check_folder(start)["model_type"] == "modernbert":
        raise ConfigError("pairs.objective: ModernBERT has no segments and was trained without pairs; use none")
    return new_pieces


def summary(result: Pretrained) -> str:
    """What a run tells at its end."""
    facts = result.facts
    lines = [f"{facts['steps']:,} steps, {facts['tokens']:,} tokens in {duration(facts['seconds'])}"]
    held_out = facts["held_out"]
    if held_out is not None:
        text = f"on held-out documents: masked words loss {held_out['mlm_loss']:.3f}, "
        text += f"accuracy {100 * held_out['mlm_accuracy']:.1f} %"
        if "pair_accuracy" in held_out:
            text += f"; pairs accuracy {100 * held_out['pair_accuracy']:.1f} %, "
            text += f"{100 * held_out['pair_majority']:.1f} % by always saying the same"
        lines.append(f"{text} (step {facts['kept_step']:,})")
    if facts["corpus"]["transductive"]:
        lines.append("the corpus holds texts of the test set (--transductive): say so beside any figure")
    lines += [f"report   {result.folder.parent}/report.html"]
    lines += [f"encoder  {result.folder}", f"try it:  doctune finetune --encoder {result.folder} ..."]
    return "\n".join(lines)
