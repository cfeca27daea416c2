"""`doctune pretrain`, as a command."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doctune.commands.command import Call, Command, flag

if TYPE_CHECKING:
    from doctune.settings import PretrainSettings

USAGE = """
  doctune pretrain --corpus DIR --encoder DIR_OR_ID --output DIR [--steps N | --tokens N | --minutes N] [any setting]
  doctune pretrain --corpus DIR --from-scratch mini|small|medium|CONFIG.json --output DIR [...]
  doctune pretrain --config FILE --output DIR [any setting below]"""
EXAMPLES = """examples:
  doctune pretrain --corpus corpora/reviews --encoder bert-base-uncased --steps 10000 --output runs/reviews-bert
  doctune pretrain --corpus corpora/reviews --encoder minilm --objective none --minutes 60 --output runs/reviews-minilm
  doctune pretrain --corpus corpora/general --from-scratch mini --tokens 100000000 --output runs/my-encoder
  doctune finetune --train reviews.csv --encoder runs/reviews-bert/model --output runs/classifier
"""
SECTIONS = {
    "": "run", "start": "encoder", "pairs": "sequences", "masking": "masked words", "optimizer": "optimiser",
    "schedule": "schedule", "training": "training",
}  # fmt: skip


def _settings() -> type[PretrainSettings]:
    from doctune.settings import PretrainSettings

    return PretrainSettings


def _run(call: Call) -> None:
    settings = call.settings(_settings())
    from doctune.runs.pretraining import run, summary

    print(summary(run(settings, call.line, call.args.resume)))


def _dry_run(call: Call) -> str:
    settings = call.settings(_settings())
    from doctune.commands.pretrain_dry_run import describe_pretraining

    return describe_pretraining(settings)


COMMAND = Command(
    "pretrain", "further pre-train an encoder on a corpus, or pre-train a new one from scratch",
    _run, _dry_run, _settings, SECTIONS,
    flags=(
        flag("--resume", action="store_true", help="go on with a run that was killed, or with a larger budget"),
    ),
    usage=USAGE, examples=EXAMPLES, several_processes=True,
)  # fmt: skip
