"""`doctune features`: the vectors that an encoder has for tokens or documents, in a file."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doctune.commands.command import Call, Command, flag
from doctune.commands.reading import READING, READING_FLAGS, reading
from doctune.errors import DataError

if TYPE_CHECKING:
    from doctune.classifier.folder import Description
    from doctune.examples import Example
    from doctune.runs.features import FeatureFile
    from doctune.settings import DataSettings, FeatureFileSettings

USAGE = """
  doctune features SOURCE --encoder DIR_OR_ID|MODEL --output FILE [any setting below]"""
EXAMPLES = """examples:
  doctune features reviews.csv --encoder minilm --token-pooling mean --output reviews.parquet
  doctune features reviews.csv --encoder runs/reviews --layers all --token-pooling cls --output reviews.safetensors
  doctune features - --encoder bert-base-uncased --layers -1 -2 -3 -4 --output features.jsonl < lines.txt
"""
SECTIONS = {"": "run", "encoder": "encoder", "features": "features", "truncation": "long texts"}
# An encoder that is not trained drops nothing.
NO_DROPOUT = ("encoder.dropout", "encoder.attention_dropout")
PAIR_MARK = " ||| "


def features(
    source: str | Path | Sequence[str | tuple[str, str]], encoder: str | Path, output: str | Path, **settings: Any
) -> FeatureFile:
    """Write the features of a file's documents, or of a list of texts or text pairs.

    `encoder` is an encoder or a model of `doctune finetune`; `settings` are names of
    `doctune.settings.FeatureFileSettings` (`layers=(-1, -2)`, `token_pooling="mean"`), or say how the file is read, as
    for `doctune.predict`. Raises `UserError` with one clear line for bad input.
    """
    from doctune.classifier.texts import as_examples
    from doctune.settings import FeatureFileSettings, from_flat

    reading_settings = {name: settings.pop(name) for name in READING if name in settings}
    tree = from_flat({**settings, "encoder": str(encoder), "output": str(output)}, FeatureFileSettings)
    documents = str(source) if isinstance(source, str | Path) else as_examples(source)
    return run(FeatureFileSettings.build(tree), documents, reading_settings)


def run(settings: FeatureFileSettings, source: str | list[Example], reading_settings: dict[str, Any]) -> FeatureFile:
    """Read the documents as the settings and the model say, and write their features."""
    from doctune.files import refuse_input
    from doctune.runs.features import write_features
    from doctune.runs.predicting import undecodable

    name = source if isinstance(source, str) else "the list of texts"
    if isinstance(source, str):
        refuse_input(settings.output, source)
    try:
        return write_features(settings, name, lambda encoder: _read(source, encoder.description, reading_settings))
    except UnicodeDecodeError as error:
        raise undecodable(error) from None


def _read(
    source: str | list[Example], description: Description | None, reading: dict[str, Any]
) -> tuple[Iterator[Example], bool]:
    """The documents, and whether they come with labels."""
    from doctune.readers import open_source
    from doctune.runs.predicting import data_settings, read_lines, standard_input
    from doctune.settings import DataSettings

    if isinstance(source, list):
        return iter(source), any(example.label is not None for example in source)
    if description is not None:
        settings = data_settings(description, source, **reading)
    else:
        settings = DataSettings.build({"train": source, **{k: v for k, v in reading.items() if v is not None}})
    if source == "-":
        return map(_pair, read_lines(standard_input(), settings)), False
    labelled = reading.get("label") is not None or _has_labels(source, settings)
    return open_source(source, settings, "predict", labelled).read(), labelled


def _has_labels(source: str, settings: DataSettings) -> bool:
    """Whether the first document can be read with its label; what else is wrong shows when it is read without."""
    from doctune.readers import open_source

    try:
        first = next(open_source(source, settings, "predict").read(), None)
    except DataError:
        return False
    return first is not None and first.label is not None


def _pair(example: Example) -> Example:
    """A line "first ||| second" is a text pair, as in extract_features.py."""
    first, mark, second = example.text.rpartition(PAIR_MARK)
    return replace(example, text=first, text_pair=second) if mark and example.text_pair is None else example


def _settings() -> type[FeatureFileSettings]:
    from doctune.settings import FeatureFileSettings

    return FeatureFileSettings


def _run(call: Call) -> None:
    print(run(call.settings(_settings()), call.args.source, reading(call.args)), file=sys.stderr)


COMMAND = Command(
    "features", "write the vectors that an encoder has for tokens or documents", _run,
    settings=_settings, sections=SECTIONS, skip=(*NO_DROPOUT, "device"),
    flags=(
        flag("source", metavar="SOURCE", help="documents; - reads standard input: a text a line, or JSON lines"),
        *READING_FLAGS,  # their --device is the setting
    ),
    usage=USAGE, examples=EXAMPLES,
)  # fmt: skip
