"""`doctune demo`: the main job on data and an encoder that need nothing beyond the package registry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from doctune.commands import demo_tiny
from doctune.commands.finetune import finetune
from doctune.config import read_toml
from doctune.errors import ConfigError
from doctune.progress import duration
from doctune.report.finetuning import summary_table
from doctune.settings import EMBEDDED_DATASET

TINY = "tiny"
RECIPE: dict[str, Any] = {"epochs": 3}
SMOKE: dict[str, Any] = {"epochs": 0.1}


def demo(encoder: str, output: str, smoke: bool, command: str) -> None:
    """Learn which library a docstring is from, print the figures and the paths of the reports.

    `encoder` is minilm or a folder, which is fine-tuned; or tiny: an encoder made here is further pre-trained, and
    fine-tuned with and without that. An older demo in `output` is replaced.
    """
    _clear(Path(output))
    print("data: docstrings of installed Python libraries; the task: which library is it from?")
    if encoder == TINY:
        demo_tiny.demo(output, smoke, command)
    else:
        _fine_tune(encoder, output, smoke, command)


def _fine_tune(encoder: str, output: str, smoke: bool, command: str) -> None:
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
    config = folder / "config.toml"
    data = read_toml(config).get("data", {}) if config.is_file() else {}
    if data.get("dataset") != EMBEDDED_DATASET and not (folder / demo_tiny.MARK).is_file():
        raise ConfigError(f"output: {folder} holds something other than an older demo; give another --output")
    shutil.rmtree(folder)
