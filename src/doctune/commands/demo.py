"""`doctune demo`: the main job on data and an encoder that need nothing beyond the package registry."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from doctune.commands.finetune import finetune
from doctune.config import read_toml
from doctune.encoders.scratch import bert_config, new_bert
from doctune.errors import ConfigError
from doctune.evaluation.report import summary_table
from doctune.progress import duration
from doctune.readers import sources
from doctune.settings import EMBEDDED_DATASET, DataSettings
from doctune.text.vocabulary import train_vocabulary

TINY = "tiny"
TINY_VOCABULARY, TINY_LAYERS, TINY_HIDDEN, TINY_SEED = 4000, 2, 128, 1
# An encoder that knows nothing yet needs a steep rate and more passes than one that is only fine-tuned.
TINY_RECIPE: dict[str, Any] = {"learning_rate": 2e-3, "layerwise": "none", "token_pooling": "mean", "epochs": 8}
RECIPE: dict[str, Any] = {"epochs": 3}
SMOKE: dict[str, Any] = {"epochs": 0.1}


def demo(encoder: str, output: str, smoke: bool, command: str) -> None:
    """Fine-tune on docstrings of installed libraries, print the table and the path of the report.

    `encoder` is minilm, tiny (made here: its vocabulary is learnt from the training texts, its weights are random) or a
    folder. An older demo in `output` is replaced.
    """
    folder = Path(output)
    _clear(folder)
    print("data: docstrings of installed Python libraries; the task: which library is it from?")
    recipe = {**(TINY_RECIPE if encoder == TINY else RECIPE), **(SMOKE if smoke else {})}
    if encoder == TINY:
        # Beside the run and not in a temporary folder, so that config.toml alone repeats the run.
        encoder = str(_make_tiny(folder.with_name(f"{folder.name}-tiny-encoder")))
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


def _make_tiny(folder: Path) -> Path:
    train = sources(DataSettings(dataset=EMBEDDED_DATASET))["train"]
    tokenizer = train_vocabulary((example.text for example in train.read()), TINY_VOCABULARY, folder)
    new_bert(folder, bert_config(tokenizer.size, TINY_LAYERS, TINY_HIDDEN), TINY_SEED)
    print(
        f"encoder: a BERT of {TINY_LAYERS} layers from scratch, {tokenizer.size:,} word pieces from the training texts"
    )
    return folder


def _clear(folder: Path) -> None:
    """Make room for the demo, but only where an older demo is, finished or killed."""
    if not folder.exists() or not any(folder.iterdir()):
        return
    config = folder / "config.toml"
    data = read_toml(config).get("data", {}) if config.is_file() else {}
    if data.get("dataset") != EMBEDDED_DATASET:
        raise ConfigError(f"output: {folder} holds something other than an older demo; give another --output")
    shutil.rmtree(folder)
