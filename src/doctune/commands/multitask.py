"""`doctune multitask`, as a command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from doctune.commands.command import RESUME, Call, Command, flag
from doctune.errors import ConfigError

if TYPE_CHECKING:
    from doctune.settings import MultitaskSettings

USAGE = """
  doctune multitask --config FILE --output DIR [any setting below]
  doctune multitask --task NAME=DATA --task NAME=DATA ... --encoder DIR_OR_ID --output DIR [any setting below]"""
EXAMPLES = """examples:
  doctune multitask --config tasks.toml --encoder bert-base-uncased --output runs/tasks
  doctune multitask --task films=imdb:IMDB --task news=ag_news:AG --task questions=trec:TREC \\
                    --encoder doctune-mini --max-seq-len 128 --output runs/three
  doctune multitask --task a=a.csv,a-test.csv --task b=b.csv --encoder minilm --output runs/two

tasks.toml has a part for each task, with all the settings of `doctune finetune`'s data:
  [[tasks]]
  name = "reviews"
  data = { train = "reviews.csv", test = "test.csv", text = ["title", "body"], label = "stars" }
  truncation = { max_seq_len = 256 }
"""
SECTIONS = {
    "": "run", "target": "labels", "encoder": "encoder", "truncation": "long texts", "features": "features",
    "optimizer": "optimiser", "schedule": "schedule", "layerwise": "layers' learning rates", "training": "training",
    "sampling": "mixture of the tasks", "leaks": "leak guard", "continuation": "each task alone, afterwards",
}  # fmt: skip


def _settings() -> type[MultitaskSettings]:
    from doctune.settings import MultitaskSettings

    return MultitaskSettings


def _given(call: Call) -> MultitaskSettings:
    """The settings, with the tasks of --task in place of those of the config file."""
    tree = dict(call.tree)
    if call.args.task:
        tree["tasks"] = [parse_task(text) for text in call.args.task]
    return _settings().build(tree, flags=True)


def _run(call: Call) -> None:
    settings = _given(call)
    from pathlib import Path

    from doctune.classifier.folder import who_loads
    from doctune.report.multitask import summary_table
    from doctune.runs.multitasking import run

    report = run(settings, call.line, call.args.resume)
    print(summary_table(report))
    print(f"\nreport  {settings.output}/multitask.html\ntable   {settings.output}/multitask.md")
    for task in report["tasks"]:
        model = f"{settings.output}/{task['kept']}/{task['name']}/model"
        print(f"model   {model}\nloaded by {who_loads(Path(model).expanduser())}")


def _dry_run(call: Call) -> str:
    from doctune.commands.multitask_dry_run import describe_multitask

    return describe_multitask(_given(call))


def parse_task(text: str) -> dict[str, Any]:
    """`NAME=DATASET:FOLDER` or `NAME=TRAIN[,TEST]` as a task's settings."""
    from pathlib import Path

    from doctune.config import did_you_mean
    from doctune.readers.datasets import DATASETS, known_name

    name, equals, where = text.partition("=")
    if not equals or not name or not where:
        raise ConfigError(f"--task {text}: write NAME=DATASET:FOLDER, or NAME=TRAIN[,TEST]")
    dataset, colon, folder = where.partition(":")
    known = known_name(dataset)
    if known is not None:
        return {"name": name, "data": {"dataset": known, **({"data": folder} if colon else {})}}
    if colon and dataset != "hf" and "/" not in dataset and not Path(where.partition(",")[0]).exists():
        raise ConfigError(f"--task {text}: no such file, and no data set {dataset!r}{did_you_mean(dataset, DATASETS)}")
    train, comma, test = where.partition(",")
    return {"name": name, "data": {"train": train, **({"test": test} if comma else {})}}


COMMAND = Command(
    "multitask", "fine-tune an encoder on several data sets at once, then on each alone",
    _run, _dry_run, _settings, SECTIONS, skip=("tasks", "training.seeds"),
    flags=(
        flag(
            "--task", action="append", default=None, metavar="NAME=DATA",
            help="a task: NAME=DATASET:FOLDER of a known data set, or NAME=TRAIN[,TEST] with columns text and label; "
            "in place of those of --config",
        ),
        RESUME,
    ),
    usage=USAGE, examples=EXAMPLES, several_processes=True,
)  # fmt: skip
