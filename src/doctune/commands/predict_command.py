"""`doctune predict` on the command line."""

from __future__ import annotations

from doctune.commands.command import Call, Command, flag
from doctune.commands.reading import READING_FLAGS, reading


def _run(call: Call) -> None:
    from doctune.commands.predict import main

    args = call.args
    main(
        args.model, args.source, args.output, args.output_format, args.device or "auto", reading(args), args.components
    )


COMMAND = Command(
    "predict", "label new documents with a model", _run,
    flags=(
        flag("model", metavar="MODEL", help="model folder or run directory"),
        flag("source", metavar="FILE", help="documents; - reads standard input: a text a line, or JSON lines"),
        flag("--output", metavar="FILE", help="file to write (.csv or .jsonl); default: standard output"),
        flag("--output-format", choices=["jsonl", "csv"], help="default: by the output's name, else jsonl"),
        *READING_FLAGS,
    ),
    examples="examples:\n  doctune predict runs/reviews/model new.csv --output predictions.csv\n"
    "  echo 'Where is Aspen ?' | doctune predict runs/trec/model -\n",
)  # fmt: skip
