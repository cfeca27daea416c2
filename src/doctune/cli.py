"""The command line. Imports stand inside functions here, because `--help` must not wait for torch."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import types
import typing
from collections.abc import Sequence
from typing import Any, NoReturn

from doctune import __version__
from doctune.errors import ConfigError, UserError

if typing.TYPE_CHECKING:
    from doctune.config import Settings

Arguments = argparse.Namespace
# Lists of numbers in whose place a word may stand: all, balanced, none.
LIST_OR_WORD = ("features.layers", "training.class_weights")
NOT_SETTINGS = (
    "config", "set", "dry_run", "resume", "run", "command", "flags", "source", "weights", "adapted", "base_run",
    "stats", "task", "json", "interrupted",
)  # fmt: skip
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
  doctune corpus SOURCE... [--exclude FILE...] --encoder DIR_OR_ID --output DIR [any setting below]
  doctune corpus --config FILE --output DIR [any setting below]
  doctune corpus --stats CORPUS [--task SOURCE...] [--json FILE]"""
CORPUS_EXAMPLES = """examples:
  doctune corpus reviews.jsonl --exclude test.csv --encoder bert-base-uncased --output corpora/reviews
  doctune corpus imdb:DIR:train+unsup --exclude imdb:DIR:test --encoder minilm --output corpora/imdb
  doctune corpus task.csv domain/ --weights 2 0.5 --text body --encoder ./my-encoder --output corpora/mixed
An interrupted corpus goes on when the same command is run again.
"""
CORPUS_SECTIONS = {
    "": "corpus", "reading": "reading", "sentences": "sentences", "leaks": "leak guard",
}  # fmt: skip
SECTIONS = {
    "": "run", "data": "data", "encoder": "encoder", "truncation": "long texts", "features": "features",
    "optimizer": "optimiser", "schedule": "schedule", "layerwise": "layers' learning rates", "training": "training",
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


def main(argv: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit: 0 if all went well, 2 after a one-line error, 130 after Ctrl-C."""
    arguments = sys.argv[1:] if argv is None else list(argv)
    args = Arguments()
    try:
        args = parse(arguments)
        args.run(args)
        sys.stdout.flush()
    except UserError as error:
        print(f"doctune: error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        goes_on = getattr(args, "interrupted", "a fine-tuning run goes on with --resume")
        print(f"doctune: interrupted; {goes_on}", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): that is no error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(0)


class Parser(argparse.ArgumentParser):
    """argparse, with our errors: one line, and no usage before it."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message}; {self.prog} --help tells what there is")


def parse(arguments: Sequence[str]) -> Arguments:
    """The arguments; `ConfigError` for one that there is not, with the nearest that there is."""
    root = parser(arguments)
    args, unknown = root.parse_known_args(arguments)
    if unknown:
        from doctune.config import did_you_mean

        word = unknown[0].partition("=")[0]
        flags = [flag for flag in vars(args).get("flags", ()) if flag.startswith("--")]
        hint = did_you_mean(word, flags) if word.startswith("--") else ""
        if "did you mean" not in hint:
            hint = f"; doctune {args.command} --help tells what there is"
        raise ConfigError(f"{word}: no such argument{hint}")
    return args


def parser(arguments: Sequence[str]) -> Parser:
    """The parser; only the command in `arguments` gets its flags, as the others are not asked for."""
    root = Parser(
        prog="doctune",
        description="Fine-tune BERT-family encoders into text classifiers from your own documents.",
        epilog="doctune COMMAND --help tells a command's flags, with examples.",
    )
    root.add_argument("--version", action="version", version=f"doctune {__version__}")
    commands = root.add_subparsers(title="commands", metavar="COMMAND", required=True)
    asked = next((a for a in arguments if not a.startswith("-")), "")
    for name, (add, line) in COMMANDS.items():
        command = commands.add_parser(
            name, help=line, description=line, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        if name == asked:
            add(command)
            command.set_defaults(command=name, flags=tuple(command._option_string_actions))
    return root


def _settings_flags(
    command: argparse.ArgumentParser, settings: type[Settings], sections: dict[str, str], skip: Sequence[str] = ()
) -> argparse._ArgumentGroup:
    """A flag for every setting but those to `skip`, grouped by section; gives the group of the command's own flags."""
    from doctune.settings import dotted_fields

    groups = {key: command.add_argument_group(title) for key, title in sections.items()}
    groups[""].add_argument("--config", metavar="FILE", help="TOML file with settings; flags win over it")
    groups[""].add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="any setting by its full name"
    )
    for dotted, field in dotted_fields(settings).items():
        section, _, name = dotted.rpartition(".")
        if dotted not in skip:
            groups[section].add_argument(f"--{name.replace('_', '-')}", dest=dotted, default=None, **_flag(field))
    return groups[""]


def _finetune(command: argparse.ArgumentParser) -> None:
    from doctune.settings import FinetuneSettings

    command.usage = FINETUNE_USAGE
    command.epilog = FINETUNE_EXAMPLES
    run = _settings_flags(command, FinetuneSettings, SECTIONS)
    run.add_argument("--resume", action="store_true", help="go on with a run that was killed, in its --output")
    run.add_argument("--dry-run", action="store_true", help="print what would run, and write nothing")
    command.set_defaults(run=_run_finetune)


def _flag(field: Any) -> dict[str, Any]:
    """argparse's arguments for a setting; values stay text, the settings themselves check them."""
    default = field.get_default()
    text = field.description.replace("%", "%%")
    if default is not None and not field.is_required() and default != ():
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" (default: {shown})"
    kind = field.annotation
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction, "help": text}
    options = [str(value) for value in typing.get_args(kind)] if typing.get_origin(kind) is typing.Literal else None
    if options:
        return {"choices": options, "help": text}
    members = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if any(typing.get_origin(member) is tuple for member in members):
        return {"nargs": "+", "metavar": "VALUE", "help": text}
    return {"metavar": "VALUE", "help": text}


def _tree(args: Arguments) -> dict[str, Any]:
    """The settings that were given: config file, then --set, then flags."""
    from pathlib import Path

    from doctune.config import merge, parse_overrides, read_toml

    flags: dict[str, Any] = {}
    for dotted, value in vars(args).items():
        if value is None or dotted in NOT_SETTINGS:
            continue
        if isinstance(value, list):
            value = value[0] if dotted in LIST_OR_WORD and value[0].isalpha() else value
        for part in reversed(dotted.split(".")):
            value = {part: value}
        flags = merge(flags, value)
    return merge({} if args.config is None else read_toml(Path(args.config)), parse_overrides(args.set), flags)


def _run_finetune(args: Arguments) -> None:
    from doctune.settings import FinetuneSettings

    settings = FinetuneSettings.build(_tree(args))
    if args.dry_run:
        from doctune.commands.dry_run import describe

        print(describe(settings))
        return
    from doctune.commands.finetune import run
    from doctune.evaluation.report import summary_table

    report = run(settings, _command_line(), args.resume)
    print(summary_table(report))
    print(f"\nreport  {settings.output}/report.html\nmodel   {settings.output}/model")


def _compare(command: argparse.ArgumentParser) -> None:
    from doctune.settings import FinetuneSettings

    command.usage = COMPARE_USAGE
    command.epilog = COMPARE_EXAMPLES
    run = _settings_flags(command, FinetuneSettings, SECTIONS)
    run.add_argument("--adapted", nargs="+", default=[], metavar="DIR", help="further pre-trained encoders to compare")
    run.add_argument("--base-run", metavar="DIR", help="a finished run of the base encoder with these very settings")
    run.add_argument("--resume", action="store_true", help="go on in --output: finished runs are not repeated")
    run.add_argument("--dry-run", action="store_true", help="print what would run, and write nothing")
    command.set_defaults(run=_run_compare)


def _run_compare(args: Arguments) -> None:
    from doctune.settings import FinetuneSettings

    settings = FinetuneSettings.build(_tree(args))
    from doctune.commands import compare

    if args.dry_run:
        from doctune.commands.dry_run import describe

        print(f"{describe(settings)}\n{compare.describe(settings, args.adapted, args.base_run)}")
        return
    compare.main(settings, args.adapted, args.base_run, _command_line(), args.resume)


def _corpus(command: argparse.ArgumentParser) -> None:
    from doctune.settings import CorpusSettings

    command.usage = CORPUS_USAGE
    command.epilog = CORPUS_EXAMPLES
    command.add_argument(
        "source", nargs="*", metavar="SOURCE", help="file, folder, hf:NAME[:SPLIT], or NAME:FOLDER[:SPLIT+SPLIT]"
    )
    run = _settings_flags(command, CorpusSettings, CORPUS_SECTIONS, skip=("sources",))
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

    tree = _tree(args)
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


def _command_line() -> str:
    return shlex.join(["doctune", *sys.argv[1:]])


def _reading(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("reading (default: as the training data was read)")
    group.add_argument("--dataset", metavar="NAME", help="the file is of this known data set")
    group.add_argument("--text", nargs="+", metavar="COLUMN", help="column(s) of the text")
    group.add_argument("--text-pair", metavar="COLUMN", help="column of the second text")
    group.add_argument("--label", metavar="COLUMN", help="column of the label")
    group.add_argument("--format", choices=["auto", "csv", "tsv", "jsonl", "parquet", "folder"])
    group.add_argument("--encoding", help="text encoding of the file")
    group.add_argument(
        "--header", action=argparse.BooleanOptionalAction, default=None, help="whether the first row names the columns"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")


def _reading_given(args: Arguments) -> dict[str, Any]:
    names = ("dataset", "text", "text_pair", "label", "format", "encoding", "header")
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _pretrain(command: argparse.ArgumentParser) -> None:
    from doctune.settings import PretrainSettings

    command.usage = PRETRAIN_USAGE
    command.epilog = PRETRAIN_EXAMPLES
    run = _settings_flags(command, PretrainSettings, PRETRAIN_SECTIONS)
    run.add_argument("--resume", action="store_true", help="go on with a run that was killed, or with a larger budget")
    command.set_defaults(run=_run_pretrain)


def _run_pretrain(args: Arguments) -> None:
    from doctune.settings import PretrainSettings

    settings = PretrainSettings.build(_tree(args))
    from doctune.commands.pretrain import pretrain, summary

    print(summary(pretrain(settings, _command_line(), args.resume)))


def _evaluate(command: argparse.ArgumentParser) -> None:
    command.epilog = "example:\n  doctune evaluate runs/reviews/model test.csv --output figures.json\n"
    command.add_argument("model", metavar="MODEL", help="model folder or run directory")
    command.add_argument("data", metavar="DATA", help="labelled documents")
    command.add_argument("--output", metavar="FILE", help="write the figures as JSON")
    command.add_argument("--predictions", metavar="FILE", help="write each document's prediction as JSON lines")
    command.add_argument("--against", metavar="MODEL", help="another model: the difference in error, with an interval")
    _reading(command)
    command.set_defaults(run=_run_evaluate)


def _run_evaluate(args: Arguments) -> None:
    from doctune.commands.evaluate import main as evaluate

    evaluate(args.model, args.data, args.device, args.output, args.predictions, args.against, _reading_given(args))


def _predict(command: argparse.ArgumentParser) -> None:
    command.epilog = (
        "examples:\n  doctune predict runs/reviews/model new.csv --output predictions.csv\n"
        "  echo 'Where is Aspen ?' | doctune predict runs/trec/model -\n"
    )
    command.add_argument("model", metavar="MODEL", help="model folder or run directory")
    command.add_argument(
        "source", metavar="FILE", help="documents; - reads standard input: a text a line, or JSON lines"
    )
    command.add_argument("--output", metavar="FILE", help="file to write (.csv or .jsonl); default: standard output")
    command.add_argument("--output-format", choices=["jsonl", "csv"], help="default: by the output's name, else jsonl")
    _reading(command)
    command.set_defaults(run=_run_predict)


def _run_predict(args: Arguments) -> None:
    from doctune.commands.predict import main as predict

    predict(args.model, args.source, args.output, args.output_format, args.device, _reading_given(args))


def _convert(command: argparse.ArgumentParser) -> None:
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


def _demo(command: argparse.ArgumentParser) -> None:
    command.epilog = "examples:\n  doctune demo\n  doctune demo --encoder tiny --output runs/tiny\n"
    command.add_argument(
        "--encoder", default="minilm", help="minilm (the registry wheel), tiny (from scratch), or a folder"
    )
    command.add_argument(
        "--output", default="runs/demo", help="run directory (default: runs/demo; an older demo there is replaced)"
    )
    command.add_argument("--smoke", action="store_true", help="a few seconds: hardly any documents")
    command.set_defaults(run=_run_demo)


def _run_demo(args: Arguments) -> None:
    from doctune.commands.demo import demo

    demo(args.encoder, args.output, args.smoke, _command_line())


def _datasets(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_run_datasets)


def _run_datasets(args: Arguments) -> None:
    from doctune.readers import DATASETS

    for name, dataset in DATASETS.items():
        print(f"{name:<16}{dataset.description}\n{'':<16}files: {dataset.files}")


COMMANDS = {
    "corpus": (_corpus, "make a corpus for further pre-training from documents"),
    "finetune": (_finetune, "fine-tune an encoder on labelled documents, test it, and save the classifier"),
    "pretrain": (_pretrain, "further pre-train an encoder on a corpus, or pre-train a new one from scratch"),
    "compare": (_compare, "fine-tune with and without further pre-trained encoders: did it help?"),
    "evaluate": (_evaluate, "measure a model on labelled documents"),
    "predict": (_predict, "label new documents with a model"),
    "convert": (_convert, "convert a TensorFlow 1 checkpoint of BERT into a Hugging Face folder, or back"),
    "datasets": (_datasets, "list the known data sets and the files they are read from"),
    "demo": (_demo, "show the main job on docstrings of the installed Python packages"),
}
