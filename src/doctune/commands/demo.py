"""`doctune demo`: the main job on data and an encoder that need nothing beyond the package registry."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from doctune.commands.command import Call, Command, flag
from doctune.errors import ConfigError

TINY = "tiny"
RECIPE: dict[str, Any] = {"epochs": 3}
SMOKE: dict[str, Any] = {"epochs": 0.1}
# What a run of the demo makes, finished or killed.
OF_A_DEMO = frozenset({
    "config.toml", "environment.json", "identity.json", "metrics.jsonl", "predictions.jsonl", "report.json",
    "report.html", "model", "shards", "checkpoint", "tensorboard",
})  # fmt: skip


def demo(encoder: str, output: str, smoke: bool, command: str) -> None:
    """Learn which library a docstring is from, print the figures and the paths of the reports.

    `encoder` is minilm or a folder, which is fine-tuned; or tiny: an encoder made here is further pre-trained, and
    fine-tuned with and without that. An older demo in `output` is replaced.
    """
    from doctune.commands import demo_tiny

    older = _is_older_demo(Path(output))
    if encoder != TINY:
        from doctune.encoders.resolve import resolve_encoder

        resolve_encoder(encoder, None)  # before an older demo goes
    if older:
        shutil.rmtree(output)
    print("data: docstrings of installed Python libraries; the task: which library is it from?")
    if encoder == TINY:
        demo_tiny.demo(output, smoke, command)
    else:
        _fine_tune(encoder, output, smoke, command)


def _fine_tune(encoder: str, output: str, smoke: bool, command: str) -> None:
    from doctune.progress import duration
    from doctune.report.finetuning import summary_table
    from doctune.runs.finetuning import finetune
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


def _is_older_demo(folder: Path) -> bool:
    """Whether the folder holds an older demo, finished or killed; `ConfigError` if it holds anything else."""
    if not folder.exists() or not any(folder.iterdir()):
        return False
    from doctune.commands.demo_tiny import MARK

    facts = folder / "environment.json"
    try:
        command = str(json.loads(facts.read_text(encoding="utf-8")).get("command"))
    except (OSError, ValueError, AttributeError):
        command = ""
    tiny = (folder / MARK).is_file()
    others = sorted(path.name for path in folder.iterdir() if not tiny and path.name not in OF_A_DEMO)
    if others or not (tiny or command.startswith("doctune demo")):
        what = f" ({', '.join(others[:5])})" if others else ""
        raise ConfigError(f"output: {folder} holds something other than an older demo{what}; give another --output")
    return True


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
