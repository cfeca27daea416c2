"""`doctune evaluate`, as a command."""

from __future__ import annotations

import sys

from doctune.commands.command import Call, Command, flag
from doctune.commands.reading import READING_FLAGS, reading


def _run(call: Call) -> None:
    from pathlib import Path

    from doctune.classifier.predictor import model_folder
    from doctune.files import refuse_input, write_json
    from doctune.runs.evaluating import answer, difference, figures_table

    args, unseen = call.args, call.args.unseen_labels
    for written in filter(None, (args.output, args.predictions)):
        refuse_input(written, args.data, model_folder(Path(args.model).expanduser()))
    device, how = args.device or "auto", reading(call.args)
    answers = answer(args.model, args.data, device, how, args.predictions, unseen, args.components)
    metrics = answers.metrics()
    print(figures_table(metrics))
    if args.against is not None:
        other = answer(args.against, args.data, device, how, unseen_labels=unseen, components=args.components)
        points, low, high = difference(answers, other, args.data)
        words = f"{points:+.2f} points of error ({low:+.2f} to {high:+.2f}, paired bootstrap, 95 %)"
        print(f"\nagainst {args.against}: {words}")
    if args.output is not None:
        write_json(Path(args.output), metrics.to_json())
        print(f"figures in {args.output}", file=sys.stderr)


COMMAND = Command(
    "evaluate", "measure a model on labelled documents", _run,
    flags=(
        flag("model", metavar="MODEL", help="model folder or run directory"),
        flag("data", metavar="DATA", help="labelled documents"),
        flag("--output", metavar="FILE", help="write the figures as JSON"),
        flag("--predictions", metavar="FILE", help="write each document's prediction as JSON lines"),
        flag("--against", metavar="MODEL", help="another model: the difference in error, with an interval"),
        flag(
            "--unseen-labels", choices=["error", "count"], default="error",
            help="a label that the model does not know; count: the document counts as an error (default: error)",
        ),
        *READING_FLAGS,
    ),
    examples="example:\n  doctune evaluate runs/reviews/model test.csv --output figures.json\n",
)  # fmt: skip
