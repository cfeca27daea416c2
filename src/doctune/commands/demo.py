"""`doctune demo`: the main job on data and an encoder that need nothing beyond the package registry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from doctune.commands.command import Call, Command, flag
from doctune.errors import ConfigError

TINY = "tiny"
RECIPE: dict[str, Any] = {"epochs": 3}
SMOKE: dict[str, Any] = {"epochs": 0.1}


def demo(encoder: str, output: str, smoke: bool, command: str) -> None:
    """Learn which library a docstring is from, print the figures and the paths of the reports.

    `encoder` is minilm or a folder, which is fine-tuned; or tiny: an encoder made here is further pre-trained, and
    fine-tuned with and without that. An older demo in `output` is replaced.
    """
    from doctune.commands import demo_tiny

    _clear(Path(output))
    print("data: docstrings of installed Python libraries; the task: which library is it from?")
    if encoder == TINY:
        demo_tiny.demo(output, smoke, command)
    else:
        _fine_tune(encoder, output, smoke, command)


def _fine_tune(encoder: str, output: str, smoke: bool, command: str) -> None:
    from doctune.commands.finetune import finetune
    from doctune.progress import duration
    from doctune.report.finetuning import summary_table
    from doctune.settings import EMBEDDED_DATASET

    folder = Path(output)
    recipe = RECIPE | (SMOKE if smoke else {})
    report = finetune(
        command=command,
        dataset=EMBEDDED_DATASET,
        encoder=encoder,
        output=output,
        max_seq_len=128,
        **recipe,
    )
    print(summary_table(report))
    print(f"\ndone in {duration(report['time']['train_seconds'])} of training")
    print(f"report   {folder / 'report.html'}")
    print(f"model    {folder / 'model'}")
    print(f"try it:  echo 'Return the shortest path between two nodes.' | doctune predict {folder / 'model'} -")


def _clear(folder: Path) -> None:
    """Make room for the demo, but only where an older demo is, finished or killed."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    from doctune.commands.demo_tiny import MARK
    from doctune.config import read_toml
    from doctune.settings import EMBEDDED_DATASET

    config = folder / "config.toml"
    data = read_toml(config).get("data", {}) if config.is_file() else {}
    if data.get("dataset") != EMBEDDED_DATASET and not (folder / MARK).is_file():
        raise ConfigError(f"output: {folder} holds something other than an older demo; give another --output")
    shutil.rmtree(folder)


def _run(call: Call) -> None:
    demo(call.args.encoder, call.args.output, call.args.smoke, call.line)


COMMAND = Command(
    "demo", "show the main job on docstrings of the installed Python packages", _run,
    flags=(
        flag(
            "--encoder", default="minilm",
            help="minilm (the registry wheel), doctune-mini, a folder; or tiny: made here, with and without "
            "pre-training",
        ),
        flag(
            "--output", default="runs/demo",
            help="run directory (default: runs/demo; an older demo there is replaced)",
        ),
        flag("--smoke", action="store_true", help="a few seconds: hardly any documents"),
    ),
    examples="examples:\n  doctune demo\n  doctune demo --encoder tiny --output runs/tiny\n",
)  # fmt: skip
