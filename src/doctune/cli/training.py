"""The commands that make models: corpus, pretrain, finetune, compare, convert."""

from __future__ import annotations

import argparse
import sys

from doctune.cli.flags import Arguments, command_line, settings_flags, settings_tree
from doctune.errors import ConfigError

FINETUNE_USAGE = """
  doctune finetune --train FILE [--validation FILE] [--test FILE] --text COLUMN --label COLUMN
                   --encoder DIR_OR_ID --output DIR [--seed N | --seeds N] [any setting below]
  doctune finetune --dataset NAME --data DIR --encoder DIR_OR_ID --output DIR [any setting below]
  doctune finetune --config FILE --output DIR [any setting below]"""
FINETUNE_EXAMPLES = """examples:
  doctune finetune --train reviews.csv --text review --label stars --encoder bert-base-uncased --output runs/reviews
  doctune finetune --train train.jsonl --test test.jsonl --encoder ./my-encoder --seeds 3 --output runs/three
  doctune finetune --dataset trec --data TREC --encoder minilm --max-seq-len 64 --output runs/trec
  doctune finetune --config runs/reviews/config.toml --learning-rate 5e-5 --output runs/again
"""
COMPARE_USAGE = """
  doctune compare --encoder BASE --adapted DIR [DIR ...] --output DIR [any setting of doctune finetune]"""
COMPARE_EXAMPLES = """examples:
  doctune compare --encoder bert-base-uncased --adapted adapted/reviews --train reviews.csv --test test.csv \\
                  --text review --label stars --seeds 5 --output runs/did-it-help
  doctune compare --encoder minilm --adapted adapted/step-1000 adapted/step-4000 --dataset imdb --data IMDB \\
                  --train-examples 100 --max-seq-len 256 --seeds 5 --output runs/few-labels
"""
CORPUS_USAGE = """
  doctune corpus SOURCE... [--exclude FILE...] --encoder DIR_OR_ID [--add-pieces N] --output DIR [any setting below]
  doctune corpus SOURCE... [--exclude FILE...] --new-vocabulary SIZE --output DIR [any setting below]
  doctune corpus --config FILE --output DIR [any setting below]
  doctune corpus --stats CORPUS [--task SOURCE...] [--json FILE]"""
CORPUS_EXAMPLES = """examples:
  doctune corpus reviews.jsonl --exclude test.csv --encoder bert-base-uncased --output corpora/reviews
  doctune corpus imdb:DIR:train+unsup --exclude imdb:DIR:test --encoder minilm --output corpora/imdb
  doctune corpus notes/ --encoder bert-base-uncased --add-pieces 2000 --output corpora/notes
  doctune corpus texts/ --new-vocabulary 16000 --output corpora/general
  doctune corpus task.csv domain/ --weights 2 0.5 --text body --encoder ./my-encoder --output corpora/mixed
An interrupted corpus goes on when the same command is run again.
"""
CORPUS_SECTIONS = {
    "": "corpus", "reading": "reading", "sentences": "sentences", "leaks": "leak guard",
}  # fmt: skip
SECTIONS = {
    "": "run", "data": "data", "target": "labels", "encoder": "encoder", "truncation": "long texts",
    "features": "features", "optimizer": "optimiser", "schedule": "schedule", "layerwise": "layers' learning rates",
    "training": "training",
}  # fmt: skip
PRETRAIN_USAGE = """
  doctune pretrain --corpus DIR --encoder DIR_OR_ID --output DIR [--steps N | --tokens N | --minutes N] [any setting]
  doctune pretrain --corpus DIR --from-scratch mini|small|medium|CONFIG.json --output DIR [...]
  doctune pretrain --config FILE --output DIR [any setting below]"""
PRETRAIN_EXAMPLES = """examples:
  doctune pretrain --corpus corpora/reviews --encoder bert-base-uncased --steps 10000 --output runs/reviews-bert
  doctune pretrain --corpus corpora/reviews --encoder minilm --objective none --minutes 60 --output runs/reviews-minilm
  doctune pretrain --corpus corpora/general --from-scratch mini --tokens 100000000 --output runs/my-encoder
  doctune finetune --train reviews.csv --encoder runs/reviews-bert/model --output runs/classifier
"""
PRETRAIN_SECTIONS = {
    "": "run", "start": "encoder", "pairs": "sequences", "masking": "masked words", "optimizer": "optimiser",
    "schedule": "schedule", "training": "training",
}  # fmt: skip


def corpus(command: argparse.ArgumentParser) -> None:
    from doctune.settings import CorpusSettings

    command.usage = CORPUS_USAGE
    command.epilog = CORPUS_EXAMPLES
    command.add_argument(
        "source", nargs="*", metavar="SOURCE", help="file, folder, hf:NAME[:SPLIT], or NAME:FOLDER[:SPLIT+SPLIT]"
    )
    run = settings_flags(command, CorpusSettings, CORPUS_SECTIONS, skip=("sources",))
    run.add_argument(
        "--weights", nargs="+", metavar="NUMBER", help="a weight for each SOURCE: how often it is used in one pass"
    )
    stats = command.add_argument_group("statistics (makes no corpus)")
    stats.add_argument("--stats", metavar="CORPUS", help="print what a finished corpus holds")
    stats.add_argument("--task", nargs="+", metavar="SOURCE", help="with --stats: texts whose words to look for in it")
    stats.add_argument("--json", metavar="FILE", help="with --stats: also write the figures as JSON")
    goes_on = "what is finished stays: run the same command again to go on"
    command.set_defaults(run=_run_corpus, interrupted=goes_on)


def _run_corpus(args: Arguments) -> None:
    from doctune.settings import CorpusSettings, ReadingSettings

    tree = settings_tree(args)
    if args.stats is not None:
        from doctune.commands.corpus_stats import stats

        print(stats(args.stats, args.task or (), ReadingSettings.build(tree.get("reading", {})), args.json))
        return
    for name in ("task", "json"):
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name}: only with --stats CORPUS")
    if args.weights is not None and len(args.weights) != len(args.source):
        raise ConfigError(f"--weights: {len(args.weights)} for {len(args.source)} sources; give one for each SOURCE")
    if args.source:
        weights = args.weights or [1.0] * len(args.source)
        tree["sources"] = [{"path": p, "weight": w} for p, w in zip(args.source, weights, strict=True)]
    settings = CorpusSettings.build(tree)
    from doctune.commands.corpus import boilerplate, run, summary

    corpus = run(settings)
    for note in boilerplate(corpus):
        print(note, file=sys.stderr)
    print(summary(corpus))


def pretrain(command: argparse.ArgumentParser) -> None:
    from doctune.settings import PretrainSettings

    command.usage = PRETRAIN_USAGE
    command.epilog = PRETRAIN_EXAMPLES
    run = settings_flags(command, PretrainSettings, PRETRAIN_SECTIONS)
    run.add_argument("--resume", action="store_true", help="go on with a run that was killed, or with a larger budget")
    run.add_argument("--dry-run", action="store_true", help="print what would run, and write nothing")
    command.set_defaults(run=_run_pretrain)


def _run_pretrain(args: Arguments) -> None:
    from doctune.settings import PretrainSettings

    settings = PretrainSettings.build(settings_tree(args))
    if args.dry_run:
        from doctune.commands.pretrain_dry_run import describe

        print(describe(settings))
        return
    from doctune.commands.pretrain import run, summary

    print(summary(run(settings, command_line(), args.resume)))


def finetune(command: argparse.ArgumentParser) -> None:
    from doctune.settings import FinetuneSettings

    command.usage = FINETUNE_USAGE
    command.epilog = FINETUNE_EXAMPLES
    run = settings_flags(command, FinetuneSettings, SECTIONS)
    run.add_argument("--resume", action="store_true", help="go on with a run that was killed, in its --output")
    run.add_argument("--dry-run", action="store_true", help="print what would run, and write nothing")
    command.set_defaults(run=_run_finetune)


def _run_finetune(args: Arguments) -> None:
    from doctune.settings import FinetuneSettings

    settings = FinetuneSettings.build(settings_tree(args))
    if args.dry_run:
        from doctune.commands.dry_run import describe

        print(describe(settings))
        return
    from doctune.commands.finetune import run
    from doctune.report.finetuning import summary_table

    report = run(settings, command_line(), args.resume)
    print(summary_table(report))
    print(f"\nreport  {settings.output}/report.html\nmodel   {settings.output}/model")


def compare(command: argparse.ArgumentParser) -> None:
    from doctune.settings import FinetuneSettings

    command.usage = COMPARE_USAGE
    command.epilog = COMPARE_EXAMPLES
    run = settings_flags(command, FinetuneSettings, SECTIONS)
    run.add_argument("--adapted", nargs="+", default=[], metavar="DIR", help="further pre-trained encoders to compare")
    run.add_argument("--base-run", metavar="DIR", help="a finished run of the base encoder with these very settings")
    run.add_argument("--resume", action="store_true", help="go on in --output: finished runs are not repeated")
    run.add_argument("--dry-run", action="store_true", help="print what would run, and write nothing")
    command.set_defaults(run=_run_compare)


def _run_compare(args: Arguments) -> None:
    from doctune.settings import FinetuneSettings

    settings = FinetuneSettings.build(settings_tree(args))
    from doctune.commands import compare

    if args.dry_run:
        from doctune.commands.dry_run import describe

        print(f"{describe(settings)}\n{compare.describe(settings, args.adapted, args.base_run)}")
        return
    compare.main(settings, args.adapted, args.base_run, command_line(), args.resume)


def convert(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "examples:\n  doctune convert uncased_L-12_H-768_A-12.zip bert-base\n"
        "  doctune convert pretraining/model.ckpt-100000 my-bert --config bert_config.json --vocab vocab.txt\n"
        "  doctune convert my-bert my-bert-tf1          (back, for the TensorFlow scripts)\n"
    )
    command.add_argument(
        "source", metavar="SOURCE", help="checkpoint prefix (.../bert_model.ckpt), its folder, .index file or zip; "
        "or a Hugging Face folder of a BERT, which is written as a TensorFlow 1 checkpoint",
    )  # fmt: skip
    command.add_argument("destination", metavar="DESTINATION", help="folder to make; nothing may be in it yet")
    command.add_argument("--config", metavar="FILE", help="bert_config.json, if it is not beside the checkpoint")
    command.add_argument("--vocab", metavar="FILE", help="vocab.txt, if it is not beside the checkpoint")
    case = command.add_mutually_exclusive_group()
    case.add_argument("--cased", dest="lower_case", action="store_false", default=None, help="do not lower-case texts")
    case.add_argument(
        "--uncased", dest="lower_case", action="store_true", default=None,
        help="lower-case texts (default: told by whether the vocabulary has capital letters)",
    )  # fmt: skip
    command.set_defaults(run=_run_convert)


def _run_convert(args: Arguments) -> None:
    from doctune.commands.convert import main as convert

    convert(args.source, args.destination, args.config, args.vocab, args.lower_case)
