"""The commands that do many runs: `doctune study`, the paper's tables, and `doctune curve`, learning curves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from doctune.commands.command import GOES_ON, Call, Command, Flag, flag, whole_number
from doctune.commands.compare import ADAPTED
from doctune.commands.finetune import SECTIONS, finetune_settings
from doctune.errors import ConfigError

if TYPE_CHECKING:
    from doctune.studies.command import Asked

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
KEEP_MODELS = "keep the classifiers of all runs; default: only figures"


def _where(group: str = "") -> tuple[Flag, ...]:
    """The flags that say where the runs of a grid are done."""
    return (
        flag(
            "--on", group=group, choices=["here", "processes", "ray"], default="here",
            help="here: one run after the other; processes: several at once on this machine; ray: on a Ray cluster",
        ),
        flag(
            "--workers", group=group, type=whole_number, metavar="N",
            help="processes: how many (default: one a core; 4 a GPU)",
        ),
        flag("--dry-run", group=group, action="store_true", help="print what would run, and run nothing"),
    )  # fmt: skip


def _check_workers(args: argparse.Namespace) -> None:
    """No flag is ignored silently."""
    if args.workers is not None and args.workers < 1:
        raise ConfigError(f"--workers: {args.workers}; give 1 or more")
    if args.workers is not None and args.on != "processes":
        raise ConfigError(f"--workers: is for --on processes, found --on {args.on}; leave it out")


def _asked(args: argparse.Namespace) -> list[Asked]:
    """What is asked of each study that is named."""
    from doctune.studies.command import Asked

    if not args.names:
        raise ConfigError("NAME: must be given: one of doctune study --list, or a TOML file")
    if len({Path(name).stem for name in args.names}) < len(args.names):
        raise ConfigError(f"NAME: {' '.join(args.names)}: a name stands twice")
    if args.seeds is not None and args.seeds < 1:
        raise ConfigError(f"--seeds: {args.seeds}; give 1 or more")
    _check_workers(args)
    encoders = {"base": args.encoder, "large": args.large_encoder, "chinese": args.chinese_encoder}
    several = []
    for name in args.names:
        output = (
            args.output if args.output is None or len(args.names) == 1 else str(Path(args.output) / Path(name).stem)
        )
        several.append(Asked(
            name, args.scale, args.data, args.datasets, None if args.columns is None else tuple(args.columns),
            tuple((role, encoder) for role, encoder in encoders.items() if encoder is not None), args.seeds, output,
            args.cache, args.on, args.workers, args.keep_models,
        ))  # fmt: skip
    return several


def _run_study(call: Call) -> None:
    from doctune.studies.command import DEFAULT_FOLDER, listing, run_together
    from doctune.studies.report import PAGE, summary

    if call.args.list:
        print(listing())
        return
    several = _asked(call.args)
    for asked, result in zip(several, run_together(several, call.line), strict=True):
        print(summary(result))
        output = asked.output or f"{DEFAULT_FOLDER}/{result['name']}-{asked.scale}"
        print(f"\npage   {output}/{PAGE}\ntable  {output}/study.md\ndata   {output}/study.csv, {output}/study.json\n")


def _dry_run_study(call: Call) -> str:
    from doctune.studies.command import describe_study, listing

    return listing() if call.args.list else "\n\n".join(describe_study(asked) for asked in _asked(call.args))


def _run_curve(call: Call) -> None:
    from doctune.studies.curve import build, run
    from doctune.studies.curve_report import PAGE, PLOT, STEM, summary

    args = call.args
    _check_workers(args)
    settings = build(call.tree, flags=True)
    print(summary(run(settings, args.sizes, args.adapted, call.line, args.on, args.workers, args.keep_models)))
    place = Path(settings.output)
    print(f"\npage   {place}/{PAGE}\nplot   {place}/{PLOT}\ntable  {place}/{STEM}.md")
    print(f"data   {place}/{STEM}.csv, {place}/{STEM}.json")


def _dry_run_curve(call: Call) -> str:
    from doctune.studies.curve import build, describe_curve

    _check_workers(call.args)
    return describe_curve(build(call.tree, flags=True), call.args.sizes, call.args.adapted)


STUDY = Command(
    "study", "repeat a table or figure of the paper", _run_study, _dry_run_study,
    flags=(
        flag("names", nargs="*", metavar="NAME", help="a study of --list, or a TOML file like theirs"),
        flag("--list", action="store_true", help="print the studies that there are"),
        flag(
            "--scale", choices=["smoke", "small", "full"], default="small",
            help="smoke: does everything run; small: MiniLM and few documents; full: the paper's setting "
            "(default: small)",
        ),
        flag(
            "--data", group="data", metavar="DIR",
            help="folder with a folder for each data set, by the names of doctune datasets",
        ),
        flag("--datasets", group="data", metavar="FILE", help="TOML file that names the files of each data set"),
        flag("--columns", group="data", nargs="+", metavar="NAME", help="only these columns of the table"),
        flag(
            "--encoder", group="models", metavar="DIR_OR_ID",
            help="encoder in the place of BERT-base; default: the scale's",
        ),
        flag(
            "--large-encoder", group="models", metavar="DIR_OR_ID",
            help="encoder in the place of BERT-large (table 8)",
        ),
        flag("--chinese-encoder", group="models", metavar="DIR_OR_ID", help="encoder for Chinese texts (Sogou)"),
        flag(
            "--seeds", group="models", type=whole_number, metavar="N",
            help="runs of each cell, with seeds 42, 43, ...; default: the scale's",
        ),
        flag("--keep-models", group="models", action="store_true", help=KEEP_MODELS),
        flag(
            "--output", group="where", metavar="DIR",
            help="folder of the result, of several studies a folder for each (default: runs/studies/NAME-SCALE)",
        ),
        flag(
            "--cache", group="where", metavar="DIR",
            help="folder of the runs, which studies share (default: runs/studies/runs)",
        ),
        *_where("where"),
    ),
    usage=STUDY_USAGE, examples=STUDY_EXAMPLES, interrupted=GOES_ON,
)  # fmt: skip
CURVE = Command(
    "curve", "draw error over the number of labels, with and without further pre-training", _run_curve, _dry_run_curve,
    finetune_settings, SECTIONS, skip=("training.seeds", "data.train_examples"),
    flags=(
        # Not among those of --help, but known: the error says what to give instead.
        flag("--train-examples", dest="data.train_examples", help=argparse.SUPPRESS),
        flag(
            "--sizes", nargs="+", default=[], metavar="N",
            help="numbers of labels: each a number, a share of all between 0 and 1, or all",
        ),
        ADAPTED,
        flag(
            "--seeds", dest="training.seeds", metavar="N",
            help="runs of each size and encoder, with seeds seed, seed+1, ..., which draw labels of their own "
            "(default: 3)",
        ),
        flag("--keep-models", action="store_true", help=KEEP_MODELS),
        *_where(),
    ),
    usage=CURVE_USAGE, examples=CURVE_EXAMPLES, interrupted=GOES_ON,
)  # fmt: skip
