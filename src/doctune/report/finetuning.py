"""The report of a run: report.json, the page made from it, and the table at the end of the command.

Everything here reads the `Report` dictionary only (its keys are in `schema`), so a report.json of an older run can
be shown again.
"""

from __future__ import annotations

import math
import re
import textwrap
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from doctune.evaluation.intervals import SeedSummaryJson
from doctune.evaluation.schema import (
    Best,
    ChosenExamples,
    DataSection,
    EncoderSection,
    Epoch,
    EpochValidation,
    HardError,
    LearningRate,
    PretrainingSection,
    Report,
    SeedRun,
    SeedsSection,
    Time,
    WindowWeight,
)
from doctune.files import write_json, write_text
from doctune.metrics.single import MetricsJson
from doctune.progress import duration
from doctune.report.charts import Dot, Series, confusion_matrix, learning_curve, seed_plot
from doctune.report.window_charts import deciding, window_bars

__all__ = [
    "Best",
    "DataSection",
    "EncoderSection",
    "Epoch",
    "EpochValidation",
    "HardError",
    "LearningRate",
    "Report",
    "SeedRun",
    "SeedsSection",
    "Time",
    "render_html",
    "summary_table",
    "write_report",
]

TEXT_LENGTH = 300
TABLE_WIDTH = 100
CLASSES_IN_TABLE = 10
CLASSES_IN_ORDER = 14  # above, the page lists the weakest class first
CONFUSED_PAIRS = 8


def write_report(run_dir: Path, report: Report) -> None:
    """Write `report.json` and the self-contained page `report.html` into `run_dir`.

    A number that is not finite (the loss of a run that diverged) becomes null, which the page shows as a dash.
    """
    safe = cast(Report, writable(report))
    write_json(run_dir / "report.json", safe)
    write_text(run_dir / "report.html", render_html(safe))


def render_html(report: Report) -> str:
    """The page as text; everything that comes from the report is escaped."""
    part, shown = _shown(report)
    per_class = shown["per_class"]
    weakest_first = len(per_class) > CLASSES_IN_ORDER
    data = report["data"]
    counts = {"train": data["train"], "validation": data["validation"], "test": data["test"]}
    seeds = report.get("seeds")
    return (
        pages()
        .get_template("report.html")
        .render(
            report=report,
            part=part,
            shown=shown,
            seeds=seeds,
            seed_half=_half(seeds["error_percent"]) if seeds else None,
            seed_median=median(seeds["error_percent"]["values"]) if seeds else None,
            seed_plot=_seed_plot(seeds, part) if seeds else None,
            counts={name: count for name, count in counts.items() if count},
            per_class=sorted(per_class, key=lambda row: row["f1"]) if weakest_first else per_class,
            weakest_first=weakest_first,
            majority=max(per_class, key=lambda row: row["support"]),
            pairs=_confused_pairs(shown),
            hardest=[
                {**error, "text": _cut(error["text"]), "bars": _bars(error.get("windows"))}
                for error in report["hardest"]
            ],
            examples=[
                {
                    **example,
                    "text": _cut(example["text"]),
                    "bars": _bars(example["windows"]),
                    "deciding": example["windows"][deciding(example["windows"])],
                }
                for example in (report["windows"]["examples"] if "windows" in report else ())
            ],
            curves=_curves(report),
            matrix=confusion_matrix([row["name"] for row in per_class], shown["confusion"]),
        )
    )


def _bars(windows: list[WindowWeight] | None) -> Markup:
    return window_bars(windows) if windows else Markup("")


def pages() -> Environment:
    """The templates of all pages, with the filters that write numbers; everything is escaped."""
    environment = Environment(
        loader=PackageLoader("doctune.report"),
        autoescape=True,  # texts and labels are the user's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "fixed": _fixed,
        "percent": _percent,
        "whole": _whole,
        "duration": _duration,
        "value": _value,
    }
    return environment


def summary_table(report: Report) -> str:
    """The plain text that the command line prints at the end; no line is wider than 100 columns."""
    encoder, data, best, time = report["encoder"], report["data"], report["best"], report["time"]
    lines = [
        ("encoder", f"{encoder['name']} ({_shape(encoder)})"),
        *(("pre-trained", _pretrained_line(run)) for run in report.get("further_pretraining", ())),
        ("documents", f"train {data['train']:,}, validation {data['validation']:,}, test {data['test']:,}"),
        *([("labels", _chosen_line(data["train_examples"]))] if "train_examples" in data else []),
        *([("tested on", _tested_line(data["test_examples"]))] if "test_examples" in data else []),
        ("classes", f"{len(data['labels']):,}"),
        ("validation", _metrics_line(report["validation"])),
    ]
    if report["test"] is not None:
        lines.append(("test", _metrics_line(report["test"])))
    lines.append(("best", f"epoch {best['epoch']:g}, step {best['step']:,}"))
    lines.append(("time", f"{_duration(time['train_seconds'])}, {_fixed(time['examples_per_second'], 1)} documents/s"))
    part, shown = _shown(report)
    seeds = report.get("seeds")
    if seeds:
        values = f"{part} error {_mean_line(seeds['error_percent'], 2, ' %')}, "
        lines.append((f"{len(seeds['runs'])} seeds", values + f"macro-F1 {_mean_line(seeds['macro_f1'], 3)}"))
    text = [_clipped(f"{name:<12}{value}", TABLE_WIDTH) for name, value in lines]
    if len(shown["per_class"]) <= CLASSES_IN_TABLE:
        text += ["", *_class_lines(shown)]
    for warning in report["warnings"]:
        text += textwrap.wrap(f"warning: {warning}", TABLE_WIDTH, subsequent_indent="  ")
    return "\n".join(line.rstrip() for line in text)


class Pair(NamedTuple):
    """How often documents of one class were taken for another; `share` 0..1 of the true class."""

    true: str
    said: str
    times: int
    share: float


def _shown(report: Report) -> tuple[str, MetricsJson]:
    """What the headline and the details are of: the test set if there is one."""
    return ("test", report["test"]) if report["test"] is not None else ("validation", report["validation"])


def _confused_pairs(metrics: MetricsJson) -> list[Pair]:
    rows = metrics["per_class"]
    pairs = [
        Pair(rows[i]["name"], rows[j]["name"], count, count / rows[i]["support"])
        for i, row in enumerate(metrics["confusion"])
        for j, count in enumerate(row)
        if i != j and count
    ]
    return sorted(pairs, key=lambda pair: (-pair.times, -pair.share))[:CONFUSED_PAIRS]


def _curves(report: Report) -> list[Markup]:
    """Loss and accuracy over epochs; points that are not finite are left out."""
    epochs = report["epochs"]

    def line(name: str, kind: str, values: Sequence[float | None]) -> Series:
        points = [(epoch["epoch"], value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
        return Series(name, points, kind)

    loss = [
        line("train loss", "other", [epoch["train_loss"] for epoch in epochs]),
        line("validation loss", "main", [epoch["validation"]["loss"] for epoch in epochs]),
    ]
    accuracy = [line("validation accuracy", "main", [100 * epoch["validation"]["accuracy"] for epoch in epochs])]
    best = report["best"]["epoch"]
    charts = (
        learning_curve("Training and validation loss by epoch", loss, best, lambda y: f"{y:.3g}"),
        learning_curve(
            f"Validation accuracy by epoch, best at {best:g}", accuracy, best, lambda y: f"{y:.4g} %", 100.0
        ),
    )
    return [chart for chart in charts if chart]


def _seed_plot(seeds: SeedsSection, part: str) -> Markup:
    summary = seeds["error_percent"]
    dots = [Dot(f"seed {run['seed']}", run["error_percent"], bool(run["collapsed"])) for run in seeds["runs"]]
    return seed_plot(dots, summary["mean"], summary["low"], summary["high"], f"{part} error")


def _half(summary: SeedSummaryJson) -> float | None:
    return None if summary["high"] is None else summary["high"] - summary["mean"]


def _shape(encoder: EncoderSection) -> str:
    millions = f"{encoder['num_parameters'] / 1e6:.1f} M parameters"
    return f"{encoder['num_layers']} layers of {encoder['hidden_size']}, {millions}, {encoder['packing']}"


def _pretrained_line(run: PretrainingSection) -> str:
    steps, tokens = _whole(run["steps"]), _whole(run["tokens"])
    return f"on {run['corpus'] or '–'}, {steps} steps, {tokens} tokens"


def _chosen_line(chosen: ChosenExamples) -> str:
    return f"{chosen['count']:,} of {chosen['of']:,} training documents, chosen by the seed"


def _tested_line(chosen: ChosenExamples) -> str:
    return f"{chosen['count']:,} of {chosen['of']:,} test documents, the same for every run"


def _metrics_line(metrics: MetricsJson) -> str:
    low, high = metrics["error_interval_percent"]
    return (
        f"error {metrics['error_percent']:5.2f} % ({low:.2f} to {high:.2f}), "
        f"accuracy {100 * metrics['accuracy']:5.2f} %, macro-F1 {metrics['macro_f1']:.3f}"
    )


def _mean_line(summary: SeedSummaryJson, digits: int, unit: str = "") -> str:
    half = _half(summary)
    return f"{summary['mean']:.{digits}f}{'' if half is None else f' ± {half:.{digits}f}'}{unit}"


def _class_lines(metrics: MetricsJson) -> list[str]:
    names = [_clipped(" ".join(row["name"].split()), 50) for row in metrics["per_class"]]
    width = max(12, *(_columns(name) + 2 for name in names))
    lines = [f"{'class':<{width}}precision   recall       F1  documents"]
    for name, row in zip(names, metrics["per_class"], strict=True):
        padded = name + " " * (width - _columns(name))
        lines.append(f"{padded}{row['precision']:9.3f}{row['recall']:9.3f}{row['f1']:9.3f}{row['support']:11,}")
    return lines


def _columns(text: str) -> int:
    """Columns of a terminal: a Chinese character takes two, a combining accent none."""
    return sum(
        0 if unicodedata.combining(character) else 2 if unicodedata.east_asian_width(character) in "WF" else 1
        for character in text
    )


def _clipped(text: str, width: int) -> str:
    if _columns(text) <= width:
        return text
    while _columns(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def _cut(text: str) -> str:
    """About 300 characters of the text, ended between two words where there is one near."""
    flat = " ".join(text[: 8 * TEXT_LENGTH].split())
    if len(flat) <= TEXT_LENGTH:
        return flat
    head = flat[:TEXT_LENGTH]
    return f"{re.sub(r'[ ,;.]+[^ ]{0,20}$', '', head)} …"


def _fixed(value: float | None, digits: int = 2) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def _percent(share: float | None, digits: int = 1) -> str:
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _whole(value: int | None) -> str:
    return "–" if value is None else f"{value:,}"


def _duration(seconds: float | None) -> str:
    return "–" if seconds is None else duration(seconds)


def _value(value: str | int | float | bool | None) -> str:
    """A setting as a person writes it."""
    if value is None or isinstance(value, bool):
        return {None: "–", True: "yes", False: "no"}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value).replace(" %", "\u00a0%")


def writable(value: Any) -> Any:
    """A copy without what JSON or UTF-8 cannot hold: no text of a user may cost the report of a long run."""
    if isinstance(value, dict):
        return {writable(key): writable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [writable(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return None if isinstance(value, float) and not math.isfinite(value) else value
