"""From what a run gave to its report."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from doctune.batches.collate import Collator
from doctune.evaluation.intervals import is_collapsed, seed_interval
from doctune.evaluation.pretraining_section import pretraining_warnings
from doctune.evaluation.schema import (
    FORMAT,
    ChosenExamples,
    DataSection,
    Epoch,
    HardError,
    LearningRate,
    PretrainingSection,
    Report,
    SeedsSection,
    Windows,
)
from doctune.metrics.single import Metrics, Probabilities
from doctune.report.finetuning import FOLDER
from doctune.report.page import Judged, made
from doctune.runs.data import GIVEN, Prepared
from doctune.runs.evaluation import score
from doctune.runs.fit import Fitted
from doctune.settings import FinetuneSettings, dotted_fields
from doctune.settings.components import foreign_fields, may_read_windows
from doctune.store.splits import Dataset, unseen_line
from doctune.text.tokenizer import TextTokenizer
from doctune.text.truncation import SeveralWindows
from doctune.training.choice import best_of
from doctune.version import __version__

HARDEST = 20
TEXT_SHOWN = 1000
# What the recipe section leaves out: it stands elsewhere in the report.
ELSEWHERE = ("output", "data.", "encoder.encoder", "training.seed", "training.seeds")
# What is shown only where it is not as it is by default.
UNLESS_DEFAULT = ("target.target", "target.unseen_labels")


def single(
    settings: FinetuneSettings, prepared: Prepared, tokenizer: TextTokenizer, collator: Collator, fitted: Fitted,
    command: str, pretraining: Sequence[PretrainingSection] = (),
) -> Report:  # fmt: skip
    """The report of one seed; `pretraining` are the runs of further pre-training behind the encoder."""
    outcome = fitted.outcome
    best = outcome.records[outcome.best]
    report = Report(
        format=FORMAT,
        doctune=__version__,
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        title=prepared.title,
        encoder=cast(Any, {"name": settings.encoder.encoder, **fitted.encoder}),
        data=_data(prepared, collator),
        recipe=recipe(settings),
        learning_rates=[cast(LearningRate, dataclasses.asdict(row)) for row in fitted.rates],
        epochs=[_epoch(record) for record in outcome.records],
        best={"epoch": best.epoch, "step": best.step},
        validation=fitted.validation.to_json(),
        test=None if fitted.test is None else fitted.test.to_json(),
        hardest=hardest(prepared.judged, fitted.probabilities, fitted.windows),
        time={
            "train_seconds": outcome.seconds,
            "examples_per_second": outcome.examples / outcome.seconds,
            "tokens_per_second": outcome.tokens / outcome.seconds,
        },
        warnings=warnings(prepared, fitted, collator) + pretraining_warnings(pretraining),
        command=command,
    )
    if pretraining:
        report["further_pretraining"] = list(pretraining)
    report.update(made(FOLDER, Judged(prepared.judged, fitted.probabilities, fitted.windows, tokenizer)))  # type: ignore[typeddict-item]
    return report


def several(reports: Sequence[Report], seeds: Sequence[int], folders: Sequence[str], best: int) -> Report:
    """The report of several seeds: means with intervals, and the details of the one at the place `best`."""
    judged = [judged_metrics(report) for report in reports]
    section = SeedsSection(
        seeds=list(seeds),
        error_percent=seed_interval([m.error_percent for m in judged]).to_json(),
        accuracy=seed_interval([m.accuracy for m in judged]).to_json(),
        macro_f1=seed_interval([m.macro_f1 for m in judged]).to_json(),
        runs=[
            {
                "seed": seed,
                "dir": folder,
                "error_percent": metrics.error_percent,
                "validation_accuracy": report["validation"]["accuracy"],
                "collapsed": is_collapsed(metrics),
            }
            for seed, folder, report, metrics in zip(seeds, folders, reports, judged, strict=True)
        ],
        details_of=seeds[best],
    )
    warned = list(dict.fromkeys(warning for report in reports for warning in report["warnings"]))
    return {**reports[best], "seeds": section, "warnings": warned}


def judged_metrics(report: Report) -> Metrics:
    """The test figures, or those of validation where there is no test set."""
    return Metrics.from_json(report["test"] or report["validation"])


def best_seed(reports: Sequence[Report], select: str) -> int:
    """The place of the seed whose model is kept: the best on validation by the figure that chose its epoch.

    Of equal ones the loss chooses, and then it is the later one. Never the test set.
    """
    figures = [_validation_figures(report) for report in reports]
    scores, losses = ([score(one, by) for one in figures] for by in (select, "loss"))
    return best_of(scores, losses)


def _validation_figures(report: Report) -> dict[str, float]:
    """What was measured on validation, with a metric of the user's own, which only the epochs have."""
    kept = next((epoch for epoch in report["epochs"] if epoch["step"] == report["best"]["step"]), None)
    figures: dict[str, Any] = {**(kept["validation"] if kept is not None else {}), **report["validation"]}
    # A loss that was no number is null in a report that was written.
    return {name: math.nan if value is None else value for name, value in figures.items()}


def warnings(prepared: Prepared, fitted: Fitted, collator: Collator) -> list[str]:
    """What a reader must know: a collapsed run, no test set, classes with hardly any documents, pairs cut."""
    said = []
    reason = is_collapsed(fitted.test or fitted.validation)
    if reason:
        advice = "Try another seed, a lower learning rate or more warm-up."
        said.append(f"The run with seed {fitted.seed} collapsed: {reason}. {advice}")
    if prepared.test is None:
        said.append("There is no test set: these figures are of validation, which chose the epoch, so they flatter.")
    said += [f"{unseen_line(name, unseen)}." for name, part in prepared.parts().items() if (unseen := part.unseen())]
    rare = [name for name, count in prepared.train.per_class().items() if count < 5]
    if rare:
        said.append(f"Classes with fewer than five training documents: {', '.join(rare[:10])}.")
    if prepared.left_out_empty:
        counts = ", ".join(f"{split} {count:,}" for split, count in prepared.left_out_empty.items())
        said.append(f"Documents without text were left out: {counts}.")
    if isinstance(collator.truncation, SeveralWindows) and any(
        part.lengths()[:, 1].any() for part in prepared.parts().values()
    ):
        said.append("Text pairs are not read in windows: each is one sequence, whose longer text was cut.")
    return said


def recipe(settings: FinetuneSettings) -> dict[str, str | int | float | bool | None]:
    """The settings that make the recipe, flat, with the names of the command line."""
    shown: dict[str, str | int | float | bool | None] = {}
    truncation = settings.truncation.truncation
    without_meaning = {f"truncation.{name}" for name in foreign_fields("truncation", truncation)}
    if not may_read_windows(truncation):
        without_meaning.add("features.window_pooling")
    for dotted, field in dotted_fields(FinetuneSettings).items():
        if dotted.startswith(ELSEWHERE):
            continue
        if dotted in without_meaning:
            continue
        value: Any = settings
        for part in dotted.split("."):
            value = getattr(value, part)
        if isinstance(value, dict):
            value = tuple(f"{name}={one}" for name, one in value.items())
        if value is not None and not hidden(dotted, value, field.default):
            shown[dotted.rpartition(".")[2]] = ", ".join(map(str, value)) if isinstance(value, tuple) else value
    return shown


def hidden(dotted: str, value: Any, default: Any) -> bool:
    """Whether a recipe leaves a setting out because it is as it always was."""
    return dotted in UNLESS_DEFAULT and value == default


def hardest(dataset: Dataset, probabilities: Probabilities, windows: Windows) -> list[HardError]:
    """The wrong answers that the model was surest of."""
    target = dataset.target
    predicted, sure = target.decide(probabilities), target.confidence(probabilities)
    wrong = np.flatnonzero(~target.correct(probabilities, dataset.labels))
    places = wrong[np.argsort(-sure[wrong], kind="stable")][:HARDEST]
    errors: list[HardError] = []
    for place, label in zip(places, dataset.label_texts(places), strict=True):
        row = int(dataset.rows[place])
        errors.append(
            {
                "id": dataset.shard.value("id", row),
                "text": dataset.shard.value("text", row)[:TEXT_SHOWN],
                "label": str(label),
                "prediction": target.text(predicted[place]),
                "probability": float(sure[place]),
            }
        )
        if int(place) in windows:
            errors[-1]["windows"] = windows[int(place)]
    return errors


def _data(prepared: Prepared, collator: Collator) -> DataSection:
    parts = prepared.parts()
    section = DataSection(
        train=len(prepared.train),
        validation=len(prepared.validation),
        test=0 if prepared.test is None else len(prepared.test),
        labels=list(prepared.names),
        left_out_empty=prepared.left_out_empty,
        truncated_percent={name: 100 * collator.truncated(part) for name, part in parts.items()},
        mean_tokens={name: float(part.lengths().sum(axis=1).mean()) for name, part in parts.items()},
        train_per_class=prepared.train.per_class(),
        validation_from=prepared.validation_from,
    )
    if prepared.chosen_from is not None:
        held = 0 if prepared.validation_from == GIVEN else len(prepared.validation)
        section["train_examples"] = ChosenExamples(count=len(prepared.train) + held, of=prepared.chosen_from)
    if prepared.test_chosen_from is not None:
        section["test_examples"] = ChosenExamples(count=section["test"], of=prepared.test_chosen_from)
    return section


def _epoch(record: Any) -> Epoch:
    seen = {key.removeprefix("validation_"): value for key, value in record.evaluation.record.items()}
    return {
        "epoch": record.epoch,
        "step": record.step,
        "train_loss": record.train_loss,
        "validation": cast(Any, seen),
        "learning_rate": record.learning_rate,
        "examples_per_second": record.examples_per_second,
    }
