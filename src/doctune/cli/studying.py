"""The commands that do many runs: the paper's tables, and learning curves."""

from __future__ import annotations

import argparse
from pathlib import Path

from doctune.cli.flags import Arguments, command_line, settings_flags, settings_tree
from doctune.cli.training import SECTIONS
from doctune.errors import ConfigError

STUDY_USAGE = """
  doctune study --list
  doctune study NAME|FILE.toml [...] [--scale smoke|small|full] [--data DIR | --datasets FILE.toml] [--output DIR]"""
STUDY_EXAMPLES = """examples:
  doctune study table2 --scale smoke
  doctune study table3 --data DATA --output runs/table3             (DATA/imdb holds IMDb's files)
  doctune study table2 table3 figure4 --data DATA --output runs     (together: runs/table2, runs/table3, ...)
  doctune study table5 --datasets data.toml --columns imdb trec --on processes --workers 4
  doctune study figure4 --scale full --data DATA --on ray
A study that was interrupted, or some of whose runs failed, goes on when the same command is run again.
data.toml names files, for each data set:
  [ag_news]
  data = { dataset = "ag_news", train = "train_subset.csv.xz", test = "test.csv" }
  note = "a quarter of the official training data"
"""
CURVE_USAGE = """
  doctune curve --train FILE [--test FILE] --encoder BASE [--adapted DIR [DIR ...]] --sizes 50 100 300 1000 all
                --output DIR [--seeds N] [any setting of doctune finetune]"""
CURVE_EXAMPLES = """examples:
  doctune curve --train reviews.csv --test test.csv --text review --label stars --encoder bert-base-uncased \\
                --adapted adapted/reviews --sizes 50 100 300 1000 --select last --output runs/few-labels
  doctune curve --dataset imdb --data IMDB --encoder doctune-mini --adapted adapted/model --sizes 0.004 0.02 0.1 all \\
                --test-examples 2000 --max-seq-len 256 --on processes --workers 4 --output runs/figure4
The same command goes on with a curve that was interrupted; with more sizes or seeds it does what is missing.
"""
GOES_ON = "what is finished stays: run the same command again to go on"


def study(command: argparse.ArgumentParser) -> None:
    command.usage = STUDY_USAGE
    command.epilog = STUDY_EXAMPLES
    command.add_argument("names", nargs="*", metavar="NAME", help="a study of --list, or a TOML file like theirs")
    command.add_argument("--list", action="store_true", help="print the studies that there are")
    command.add_argument(
        "--scale", choices=["smoke", "small", "full"], default="small",
        help="smoke: does everything run; small: MiniLM and few documents; full: the paper's setting (default: small)",
    )  # fmt: skip
    data = command.add_argument_group("data")
    data.add_argument(
        "--data", metavar="DIR", help="folder with a folder for each data set, by the names of doctune datasets"
    )
    data.add_argument("--datasets", metavar="FILE", help="TOML file that names the files of each data set")
    data.add_argument("--columns", nargs="+", metavar="NAME", help="only these columns of the table")
    model = command.add_argument_group("models")
    model.add_argument("--encoder", metavar="DIR_OR_ID", help="encoder in the place of BERT-base; default: the scale's")
    model.add_argument("--large-encoder", metavar="DIR_OR_ID", help="encoder in the place of BERT-large (table 8)")
    model.add_argument("--chinese-encoder", metavar="DIR_OR_ID", help="encoder for Chinese texts (Sogou)")
    model.add_argument(
        "--seeds", type=int, metavar="N", help="runs of each cell, with seeds 42, 43, ...; default: the scale's"
    )
    model.add_argument(
        "--keep-models", action="store_true", help="keep the classifiers of all runs; default: only figures"
    )
    where = command.add_argument_group("where")
    where.add_argument(
        "--output",
        metavar="DIR",
        help="folder of the result, of several studies a folder for each (default: runs/studies/NAME-SCALE)",
    )
    where.add_argument(
        "--cache", metavar="DIR", help="folder of the runs, which studies share (default: runs/studies/runs)"
    )
    _where(where)
    command.set_defaults(run=_run_study, interrupted=GOES_ON)


def _where(group: argparse._ArgumentGroup) -> None:
    """Where the runs of a grid are done."""
    group.add_argument(
        "--on", choices=["here", "processes", "ray"], default="here",
        help="here: one run after the other; processes: several at once on this machine; ray: on a Ray cluster",
    )  # fmt: skip
    group.add_argument("--workers", type=int, metavar="N", help="processes: how many (default: one a core; 4 a GPU)")
    group.add_argument("--dry-run", action="store_true", help="print what would run, and run nothing")


def _check_workers(args: Arguments) -> None:
    """No flag is ignored silently."""
    if args.workers is not None and args.workers < 1:
        raise ConfigError(f"--workers: {args.workers}; give 1 or more")
    if args.workers is not None and args.on != "processes":
        raise ConfigError(f"--workers: is for --on processes, found --on {args.on}; leave it out")


def _run_study(args: Arguments) -> None:
    from doctune.studies.command import Asked, listing, main

    if args.list:
        print(listing())
        return
    if not args.names:
        raise ConfigError("NAME: must be given: one of doctune study --list, or a TOML file")
    if len({Path(name).stem for name in args.names}) < len(args.names):
        raise ConfigError(f"NAME: {' '.join(args.names)}: a name stands twice")
    if args.seeds is not None and args.seeds < 1:
        raise ConfigError(f"--seeds: {args.seeds}; give 1 or more")
    _check_workers(args)
    given = {"base": args.encoder, "large": args.large_encoder, "chinese": args.chinese_encoder}
    several = []
    for name in args.names:
        output = (
            args.output if args.output is None or len(args.names) == 1 else str(Path(args.output) / Path(name).stem)
        )
        several.append(Asked(
            name, args.scale, args.data, args.datasets, None if args.columns is None else tuple(args.columns),
            tuple((role, name) for role, name in given.items() if name is not None), args.seeds, output, args.cache,
            args.on, args.workers, args.keep_models,
        ))  # fmt: skip
    main(several, command_line(), args.dry_run)


def curve(command: argparse.ArgumentParser) -> None:
    from doctune.settings import FinetuneSettings

    command.usage = CURVE_USAGE
    command.epilog = CURVE_EXAMPLES
    run = settings_flags(command, FinetuneSettings, SECTIONS, skip=("training.seeds", "data.train_examples"))
    # Not among those of --help, but known: the error says what to give instead.
    run.add_argument("--train-examples", dest="data.train_examples", help=argparse.SUPPRESS)
    run.add_argument(
        "--sizes", nargs="+", default=[], metavar="N",
        help="numbers of labels: each a number, a share of all between 0 and 1, or all",
    )  # fmt: skip
    run.add_argument("--adapted", nargs="+", default=[], metavar="DIR", help="further pre-trained encoders to compare")
    run.add_argument(
        "--seeds", dest="training.seeds", metavar="N",
        help="runs of each size and encoder, with seeds seed, seed+1, ..., which draw labels of their own (default: 3)",
    )  # fmt: skip
    run.add_argument(
        "--keep-models", action="store_true", help="keep the classifiers of all runs; default: only figures"
    )
    _where(run)
    command.set_defaults(run=_run_curve, interrupted=GOES_ON)


def _run_curve(args: Arguments) -> None:
    from doctune.studies.curve import build, describe, main

    _check_workers(args)
    settings = build(settings_tree(args))
    if args.dry_run:
        print(describe(settings, args.sizes, args.adapted))
        return
    main(settings, args.sizes, args.adapted, command_line(), args.on, args.workers, args.keep_models)
