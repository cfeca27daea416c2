"""`doctune predict`, as a command."""

from __future__ import annotations

import sys

from doctune.commands.command import Call, Command, flag
from doctune.commands.reading import READING_FLAGS, reading


def _run(call: Call) -> None:
    from pathlib import Path

    from doctune.classifier.predictor import load, model_folder
    from doctune.files import refuse_input
    from doctune.runs.predicting import STANDARD_INPUT, read_documents, standard_input, undecodable, write_rows

    args, output = call.args, call.args.output
    if output is not None:
        refuse_input(output, args.source, model_folder(Path(args.model).expanduser()))
    predictor = load(args.model, args.device or "auto", components=args.components)
    stream = standard_input() if args.source == STANDARD_INPUT else None
    form = args.output_format or ("csv" if output is not None and output.endswith(".csv") else "jsonl")
    examples = read_documents(predictor.description, args.source, stream, **reading(args))
    try:
        count = write_rows(predictor.rows(examples, "predict"), output, form, predictor.labels)
    except UnicodeDecodeError as error:
        raise undecodable(error) from None
    if output is not None:
        print(f"{count:,} predictions in {output}", file=sys.stderr)


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
