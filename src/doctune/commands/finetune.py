"""`doctune finetune`, as a command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from doctune.commands.command import DRY_RUN, RESUME, Call, Command

if TYPE_CHECKING:
    from doctune.settings import FinetuneSettings

USAGE = """
  doctune finetune --train FILE [--validation FILE] [--test FILE] --text COLUMN --label COLUMN
                   --encoder DIR_OR_ID --output DIR [--seed N | --seeds N] [any setting below]
  doctune finetune --dataset NAME --data DIR --encoder DIR_OR_ID --output DIR [any setting below]
  doctune finetune --config FILE --output DIR [any setting below]"""
EXAMPLES = """examples:
  doctune finetune --train reviews.csv --text review --label stars --encoder bert-base-uncased --output runs/reviews
  doctune finetune --train train.jsonl --test test.jsonl --encoder ./my-encoder --seeds 3 --output runs/three
  doctune finetune --dataset trec --data TREC --encoder minilm --max-seq-len 64 --output runs/trec
  doctune finetune --config runs/reviews/config.toml --learning-rate 5e-5 --output runs/again
"""
SECTIONS = {
    "": "run", "data": "data", "target": "labels", "encoder": "encoder", "truncation": "long texts",
    "features": "features", "optimizer": "optimiser", "schedule": "schedule", "layerwise": "layers' learning rates",
    "training": "training",
}  # fmt: skip


def finetune_settings() -> type[FinetuneSettings]:
    """Imported late: `doctune --help` needs no settings."""
    from doctune.settings import FinetuneSettings

    return FinetuneSettings


def _run(call: Call) -> None:
    settings = call.settings(finetune_settings())
    from doctune.classifier.folder import who_loads
    from doctune.report.finetuning import summary_table
    from doctune.runs.finetuning import run

    report = run(settings, call.line, call.args.resume)
    print(summary_table(report))
    model = Path(settings.output).expanduser() / "model"
    print(f"\nreport  {settings.output}/report.html\nmodel   {settings.output}/model\nloaded by {who_loads(model)}")


def _dry_run(call: Call) -> str:
    from doctune.commands.dry_run import describe_finetuning

    return describe_finetuning(call.settings(finetune_settings()))


COMMAND = Command(
    "finetune", "fine-tune an encoder on labelled documents, test it, and save the classifier",
    _run, _dry_run, finetune_settings, SECTIONS, flags=(RESUME, DRY_RUN),
    usage=USAGE, examples=EXAMPLES, several_processes=True,
)  # fmt: skip
