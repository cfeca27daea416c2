"""`doctune evaluate` on the command line."""

from __future__ import annotations

from doctune.commands.command import Call, Command, flag
from doctune.commands.reading import READING_FLAGS, reading


def _run(call: Call) -> None:
    from doctune.commands.evaluate import main

    args = call.args
    device = args.device or "auto"
    main(
        args.model,
        args.data,
        device,
        args.output,
        args.predictions,
        args.against,
        reading(args),
        args.unseen_labels,
        args.components,
    )


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
