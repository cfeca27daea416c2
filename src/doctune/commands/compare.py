"""`doctune compare`, as a command."""

from __future__ import annotations

from pathlib import Path

from doctune.commands.command import DRY_RUN, Call, Command, flag
from doctune.commands.finetune import SECTIONS, finetune_settings

USAGE = """
  doctune compare --encoder BASE --adapted DIR [DIR ...] --output DIR [any setting of doctune finetune]"""
EXAMPLES = """examples:
  doctune compare --encoder bert-base-uncased --adapted adapted/reviews --train reviews.csv --test test.csv \\
                  --text review --label stars --seeds 5 --output runs/did-it-help
  doctune compare --encoder minilm --adapted adapted/step-1000 adapted/step-4000 --dataset imdb --data IMDB \\
                  --train-examples 100 --max-seq-len 256 --seeds 5 --output runs/few-labels
"""
ADAPTED = flag(
    "--adapted", nargs="+", default=[], metavar="DIR", help="further pre-trained encoders to compare"
)  # fmt: skip


def _run(call: Call) -> None:
    settings, args = call.settings(finetune_settings()), call.args
    from doctune.report.comparison import PLOT, summary_table
    from doctune.runs.comparing import run

    print(summary_table(run(settings, args.adapted, args.base_run, call.line, args.resume)))
    output = Path(settings.output)
    print(f"\nreport  {output}/compare.html\ntable   {output}/compare.md")
    if (output.expanduser() / PLOT).is_file():
        print(f"plot    {output}/{PLOT}")


def _dry_run(call: Call) -> str:
    settings = call.settings(finetune_settings())
    from doctune.commands import dry_run
    from doctune.runs import comparing

    each_run = dry_run.describe_finetuning(settings)
    return f"{each_run}\n{comparing.describe_comparison(settings, call.args.adapted, call.args.base_run)}"


COMMAND = Command(
    "compare", "fine-tune with and without further pre-trained encoders: did it help?",
    _run, _dry_run, finetune_settings, SECTIONS,
    flags=(
        ADAPTED,
        flag("--base-run", metavar="DIR", help="a finished run of the base encoder with these very settings"),
        flag("--resume", action="store_true", help="go on in --output: finished runs are not repeated"),
        DRY_RUN,
    ),
    usage=USAGE, examples=EXAMPLES,
)  # fmt: skip
