"""`doctune predict`: labels and probabilities for new documents."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from doctune.classifier.folder import Description
from doctune.classifier.predictor import load
from doctune.classifier.texts import Text, as_examples
from doctune.errors import ConfigError, DataError
from doctune.examples import Example
from doctune.files import atomic_path
from doctune.readers import open_source
from doctune.readers.columns import Columns
from doctune.settings import EMBEDDED_DATASET, DataSettings

STANDARD_INPUT = "-"


def data_settings(description: Description, path: str, **given: Any) -> DataSettings:
    """How to read a file for this model: as its training data was read, except for what is given.

    A model of a known data set reads that set's files, unless columns or a format are given.
    """
    given = {key: value for key, value in given.items() if value is not None}
    columns = description.columns.model_dump(exclude={"format", "own_reader"}, exclude_none=True)
    own_reader = description.columns.own_reader
    if own_reader is not None and not given and path != STANDARD_INPUT:
        raise ConfigError(
            f"{path}: the model's training data was read by {own_reader}, a reader of your own, and a model's folder "
            f"never names the place of code; give --dataset FILE.py:{own_reader}, or say how the file is read (--text)"
        )
    if columns.get("dataset") == EMBEDDED_DATASET or (given and "dataset" not in given):
        columns.pop("dataset", None)
    return DataSettings.build({**columns, "train": path, **given})


def predict(
    model: str | Path, source: str | Path | Iterable[Text], *, device: str = "auto",
    components: Sequence[str | type] = (), **reading: Any,
) -> list[dict[str, Any]]:  # fmt: skip
    """Predict the documents of a file, or a list of texts or text pairs.

    One dict each with id, label, probability, probabilities; where nothing could be read label and probability are
    None, and `empty` is true. `reading` are settings of `doctune.settings.DataSettings`, where the file differs from
    the training data. `components`: see `doctune.load`.
    """
    predictor = load(model, device, components=components)
    if isinstance(source, str | Path):
        return list(predictor.rows(read_documents(predictor.description, str(source), **reading)))
    return list(predictor.rows(as_examples(source)))


def read_documents(
    description: Description, path: str, stream: IO[str] | None = None, **reading: Any
) -> Iterator[Example]:
    """The documents of a file, or of standard input for "-": a text a line, or JSON lines."""
    settings = data_settings(description, path, **reading)
    if path == STANDARD_INPUT:
        return read_lines(stream or sys.stdin, settings)
    return open_source(path, settings, "predict", labelled=False).read()


def read_lines(stream: IO[str], settings: DataSettings) -> Iterator[Example]:
    """A document a line: its text, or a JSON object with the columns that the settings name."""
    columns = Columns.of(settings, labelled=False)
    needed = [str(column) for column in (*settings.text, settings.text_pair) if column is not None]
    for number, line in enumerate(stream, 1):
        line = line.rstrip("\r\n")
        if not line.lstrip().startswith("{"):
            yield Example(str(number), line)
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            yield Example(str(number), line)
            continue
        missing = [column for column in needed if column not in record]
        if missing:
            raise DataError(
                f"standard input:{number}: no {', '.join(missing)} in {', '.join(record)}; name the column with --text"
            )
        where = f"standard input:{number}"
        yield columns.locate(tuple(record), where).example(list(record.values()), where, str(number))


def write_rows(rows: Iterable[dict[str, Any]], output: str | None, form: str, labels: tuple[str, ...]) -> int:
    """Write predictions as JSONL or CSV to a file (atomically) or to standard output; how many there were."""
    if output is None:
        return _write(rows, sys.stdout, form, labels)
    path = Path(output).expanduser()
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        return _write(rows, file, form, labels)


def _write(rows: Iterable[dict[str, Any]], file: IO[str], form: str, labels: tuple[str, ...]) -> int:
    count = 0
    if form == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["id", "label", "probability", *(f"probability_{label}" for label in labels)])
    for row in rows:
        count += 1
        if form == "csv":
            writer.writerow([row["id"], row["label"], row["probability"], *(row["probabilities"][x] for x in labels)])
        else:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    file.flush()
    return count


def standard_input() -> IO[str]:
    """Standard input as UTF-8, whatever the terminal's encoding; what it cannot decode raises `UnicodeDecodeError`."""
    return io.TextIOWrapper(sys.stdin.buffer, encoding="utf-8", errors="strict")


def undecodable(error: UnicodeDecodeError) -> DataError:
    """The one line about standard input that is not UTF-8."""
    return DataError(f"standard input: byte 0x{error.object[error.start]:02X} is not utf-8; convert it first")
