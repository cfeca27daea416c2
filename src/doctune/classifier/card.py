"""The README.md of a classifier's folder: what it is, what was measured, and how to use it. Nothing else is claimed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import EvalResult, ModelCardData

from doctune.classifier.folder import read_description, who_loads
from doctune.encoders.resolve import MINI, MINILM
from doctune.files import write_text
from doctune.metrics.single import Metrics

CARD = "README.md"
TASK = "text-classification"
CLASSES_SHOWN = 60


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures of a model on one part of the data: validation, or test."""

    part: str
    metrics: Metrics


def write_card(folder: Path, data: str, documents: int, encoder: str, measured: Sequence[Measured]) -> None:
    """Write the card of a saved model, for readers and for model hubs.

    `data` is what the data set is called and `documents` how many of it were trained on; `encoder` is the name that
    the training was given. The last of `measured` stands in the card's metadata.
    """
    description, loads = read_description(folder), who_loads(folder)
    labels = description.labels
    base = _base(encoder)
    truncation = description.truncation
    windows = " a window" if truncation.truncation == "windows" else ""
    shown = [" ".join(label.split()) for label in labels[:CLASSES_SHOWN]]
    more = f", and {len(labels) - CLASSES_SHOWN} more" if len(labels) > CLASSES_SHOWN else ""
    lines = [
        "---", _metadata(data, "transformers as its own" in loads, base, measured), "---", "", f"# {data}", "",
        f"A classifier of {len(labels)} classes ({', '.join(shown)}{more}), fine-tuned by doctune "
        f"{description.doctune} on {documents:,} documents{f' from {base}' if base else ''}.",
        "", "## What was measured", "", *_figures(measured), "", "## Use", "",
        f"What can load it: {loads}.", "", "```", "doctune predict FOLDER new.csv --output labels.csv", "```", "",
        "```python", "import doctune", "", 'model = doctune.load("FOLDER")', 'model.predict(["a text", "another"])',
        "```", "", f"Long texts: {truncation.truncation}, in at most {truncation.max_seq_len} tokens{windows}.", "",
        "Languages, licence and intended use are for the maker of the model to add.", "",
    ]  # fmt: skip
    write_text(folder / CARD, "\n".join(lines))


def _base(encoder: str) -> str | None:
    """The hub id that an encoder's name is, or None: a folder's place is nobody else's business."""
    if encoder in (MINI, MINILM) or Path(encoder).expanduser().exists():
        return None
    return encoder


def _metadata(data: str, standard: bool, base: str | None, measured: Sequence[Measured]) -> str:
    """The block that model hubs read, in YAML."""
    results = [
        EvalResult(
            task_type=TASK, dataset_type=data, dataset_name=data, dataset_split=one.part, metric_type=kind,
            metric_value=value, metric_name=name,
        )
        for one in measured[-1:]
        for kind, name, value in (
            ("accuracy", "Accuracy", one.metrics.accuracy), ("f1", "Macro F1", one.metrics.macro_f1),
        )
    ]  # fmt: skip
    return ModelCardData(
        library_name="transformers" if standard else "doctune", pipeline_tag=TASK, tags=["doctune"], base_model=base,
        model_name=data if results else None, eval_results=results or None,
    ).to_yaml()  # fmt: skip


def _figures(measured: Sequence[Measured]) -> list[str]:
    if not measured:
        return ["Nothing yet."]
    lines = ["| documents | number | error | 95 % interval | macro-F1 |", "| --- | --- | --- | --- | --- |"]
    for one in measured:
        figures = one.metrics
        low, high = figures.error_interval_percent
        lines.append(
            f"| {one.part} | {figures.count:,} | {figures.error_percent:.2f} % | {low:.2f} to {high:.2f} % | "
            f"{figures.macro_f1:.4f} |"
        )
    return [*lines, "", "Where validation chose the epoch, its figures flatter."]
