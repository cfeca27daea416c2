"""The commands that use models, and those that show what there is."""

from __future__ import annotations

import argparse

from doctune.cli.flags import READING, Arguments, command_line, reading, reading_given, settings_flags, settings_tree


def evaluate(command: argparse.ArgumentParser) -> None:
    command.epilog = "example:\n  doctune evaluate runs/reviews/model test.csv --output figures.json\n"
    command.add_argument("model", metavar="MODEL", help="model folder or run directory")
    command.add_argument("data", metavar="DATA", help="labelled documents")
    command.add_argument("--output", metavar="FILE", help="write the figures as JSON")
    command.add_argument("--predictions", metavar="FILE", help="write each document's prediction as JSON lines")
    command.add_argument("--against", metavar="MODEL", help="another model: the difference in error, with an interval")
    command.add_argument(
        "--unseen-labels", choices=["error", "count"], default="error",
        help="a label that the model does not know; count: the document counts as an error (default: error)",
    )  # fmt: skip
    reading(command)
    command.set_defaults(run=_run_evaluate)


def _run_evaluate(args: Arguments) -> None:
    from doctune.commands.evaluate import main as evaluate

    evaluate(
        args.model, args.data, args.device, args.output, args.predictions, args.against, reading_given(args),
        args.unseen_labels,
    )  # fmt: skip


def predict(command: argparse.ArgumentParser) -> None:
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
    reading(command)
    command.set_defaults(run=_run_predict)


def _run_predict(args: Arguments) -> None:
    from doctune.commands.predict import main as predict

    predict(args.model, args.source, args.output, args.output_format, args.device, reading_given(args))


FEATURES_USAGE = """
  doctune features SOURCE --encoder DIR_OR_ID|MODEL --output FILE [any setting below]"""
FEATURES_EXAMPLES = """examples:
  doctune features reviews.csv --encoder minilm --token-pooling mean --output reviews.parquet
  doctune features reviews.csv --encoder runs/reviews --layers all --token-pooling cls --output reviews.safetensors
  doctune features - --encoder bert-base-uncased --layers -1 -2 -3 -4 --output features.jsonl < lines.txt
"""
FEATURES_SECTIONS = {"": "run", "encoder": "encoder", "features": "features", "truncation": "long texts"}
# An encoder that is not trained drops nothing.
NO_DROPOUT = ("encoder.dropout", "encoder.attention_dropout")


def features(command: argparse.ArgumentParser) -> None:
    from doctune.settings import FeatureFileSettings

    command.usage = FEATURES_USAGE
    command.epilog = FEATURES_EXAMPLES
    command.add_argument(
        "source", metavar="SOURCE", help="documents; - reads standard input: a text a line, or JSON lines"
    )
    settings_flags(command, FeatureFileSettings, FEATURES_SECTIONS, skip=(*NO_DROPOUT, "device"))
    reading(command)
    command.set_defaults(run=_run_features)


def _run_features(args: Arguments) -> None:
    from doctune.settings import FeatureFileSettings

    given = reading_given(args)
    # "auto" is what the flag has where it is not given: a config file may know better.
    left_out = (*READING, "device") if args.device == "auto" else READING
    own = Arguments(**{name: value for name, value in vars(args).items() if name not in left_out})
    settings = FeatureFileSettings.build(settings_tree(own))
    from doctune.commands.features import main as write_features

    write_features(settings, args.source, given)


PROBE_USAGE = """
  doctune probe --train FILE [--validation FILE] [--test FILE] --text COLUMN --label COLUMN
                --encoder DIR_OR_ID --output DIR [any setting below]
  doctune probe --dataset NAME --data DIR --encoder DIR_OR_ID --output DIR [any setting below]"""
PROBE_EXAMPLES = """examples:
  doctune probe --train reviews.csv --text review --label stars --encoder bert-base-uncased --output runs/probe
  doctune probe --dataset trec --data TREC --encoder minilm --max-seq-len 64 --output runs/trec-probe
"""
PROBE_SECTIONS = {
    "": "run", "data": "data", "target": "labels", "encoder": "encoder", "truncation": "long texts",
    "training": "computing",
}  # fmt: skip


def probe(command: argparse.ArgumentParser) -> None:
    from doctune.settings import ProbeSettings

    command.usage = PROBE_USAGE
    command.epilog = PROBE_EXAMPLES
    settings_flags(command, ProbeSettings, PROBE_SECTIONS, skip=NO_DROPOUT)
    command.set_defaults(run=_run_probe)


def _run_probe(args: Arguments) -> None:
    from doctune.settings import ProbeSettings

    settings = ProbeSettings.build(settings_tree(args))
    from doctune.commands.probe import main as run_probe

    run_probe(settings, command_line())


def demo(command: argparse.ArgumentParser) -> None:
    command.epilog = "examples:\n  doctune demo\n  doctune demo --encoder tiny --output runs/tiny\n"
    command.add_argument(
        "--encoder",
        default="minilm",
        help="minilm (the registry wheel), doctune-mini, a folder; or tiny: made here, with and without pre-training",
    )
    command.add_argument(
        "--output", default="runs/demo", help="run directory (default: runs/demo; an older demo there is replaced)"
    )
    command.add_argument("--smoke", action="store_true", help="a few seconds: hardly any documents")
    command.set_defaults(run=_run_demo)


def _run_demo(args: Arguments) -> None:
    from doctune.commands.demo import demo

    demo(args.encoder, args.output, args.smoke, command_line())


def datasets(command: argparse.ArgumentParser) -> None:
    command.set_defaults(run=_run_datasets)


def _run_datasets(args: Arguments) -> None:
    from doctune.readers import DATASETS

    for name, dataset in DATASETS.items():
        print(f"{name:<16}{dataset.description}\n{'':<16}files: {dataset.files}")
