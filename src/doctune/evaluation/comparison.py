"""Did further pre-training help? The answer, from finished runs that differ in nothing but their encoder.

Keys of compare.json are stable: an older one must stay readable. `_percent` is 0..100, differences are points of it
(below 0: fewer errors than the base encoder), times are seconds.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, ValidationError

from doctune.errors import CheckpointError, DataError
from doctune.evaluation.intervals import SeedSummaryJson, is_collapsed, paired_bootstrap_over_seeds, seed_interval
from doctune.evaluation.schema import FORMAT, DataSection, Report
from doctune.evaluation.stored import read_report, read_rows
from doctune.metrics.single import Ends, Metrics
from doctune.version import __version__

PRETRAINING_FILE = "doctune-pretraining.json"
Verdict = Literal["helped", "hurt", "no difference"]
SENTENCES: dict[Verdict, str] = {
    "helped": "helped", "hurt": "hurt", "no difference": "no difference that these runs can tell",
}  # fmt: skip
VALIDATION_FLATTERS = "There is no test set: these errors are of validation, which chose the epochs, so they flatter."


class CorpusFacts(BaseModel):
    """What an encoder was further pre-trained on; `transductive`: on the texts of the test documents, too.

    `exclude` are the texts that the corpus was searched for: an empty list says that nobody looked for the test's.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    name: str | None = None
    documents: int | None = None
    transductive: bool | None = None
    exclude: list[Any] | None = None


class PretrainingFacts(BaseModel):
    """What `doctune-pretraining.json` tells of an adapted encoder; None is not known.

    `kept_step` is the step whose weights these are, where they are not the last step's.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    steps: int | None = None
    kept_step: int | None = None
    tokens: int | None = None
    seconds: float | None = None
    base_encoder: str | None = None
    corpus: CorpusFacts = CorpusFacts()
    before: PretrainingFacts | None = None

    @property
    def saw_test_texts(self) -> bool:
        """Whether this pre-training, or one before it, was transductive."""
        return bool(self.corpus.transductive) or (self.before is not None and self.before.saw_test_texts)


Facts = TypeVar("Facts", bound=PretrainingFacts)


class CorpusJson(TypedDict):
    """`CorpusFacts` as compare.json has it."""

    name: str | None
    documents: int | None
    transductive: bool | None
    exclude: list[Any] | None


class PretrainingJson(TypedDict):
    """`PretrainingFacts` as compare.json has it."""

    steps: int | None
    kept_step: int | None
    tokens: int | None
    seconds: float | None
    base_encoder: str | None
    corpus: CorpusJson


class Versus(TypedDict):
    """An adapted encoder against the base: difference in points, its 95 % interval, and what that says."""

    points: float
    low: float
    high: float
    by_seed: list[float]
    verdict: Verdict
    sentence: str


class Compared(TypedDict):
    """One encoder, fine-tuned with every seed.

    `interval_percent` is of the mean over seeds, or of the test documents where there is one seed only.
    """

    name: str
    encoder: str
    run: str
    error_percent: SeedSummaryJson
    interval_percent: Ends
    train_seconds: list[float]
    collapsed: list[int]


class Adapted(Compared):
    """An adapted encoder; `pretraining` is None where its folder does not tell."""

    against_base: Versus
    pretraining: PretrainingJson | None


class Comparison(TypedDict):
    """All of compare.json; `part` (test or validation) is what the errors are of."""

    format: int
    doctune: str
    created: str
    title: str
    part: str
    seeds: list[int]
    data: DataSection
    recipe: dict[str, str | int | float | bool | None]
    base: Compared
    adapted: list[Adapted]
    warnings: list[str]
    command: str


class FinishedRun(NamedTuple):
    """A finished run of `doctune finetune`: its name here, its encoder, its folder, and its report.

    `tokenizer` is the hash of the encoder's; `pretraining` what is known of an adapted encoder.
    """

    name: str
    encoder: str
    folder: Path
    report: Report
    tokenizer: str
    pretraining: PretrainingFacts | None = None


class StoredAnswers(NamedTuple):
    """What one seed's model said to the documents it was tested on: their ids, and whether each answer is right."""

    ids: list[str]
    correct: npt.NDArray[np.bool_]


def read_pretraining(encoder: Path) -> PretrainingFacts | None:
    """What the folder of an adapted encoder tells of its pre-training, or None; `CheckpointError` if it is damaged."""
    return read_facts(encoder, PretrainingFacts)


def read_facts(encoder: Path, kind: type[Facts]) -> Facts | None:
    """The same for a reader that wants to know more of what is in the file."""
    path = encoder / PRETRAINING_FILE
    if not path.is_file():
        return None
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise CheckpointError(f"{path}: {where}: {first['msg']}; mend or remove this file of facts") from None
    except UnicodeDecodeError:
        raise CheckpointError(f"{path}: not UTF-8; mend or remove this file of facts") from None


def compare_runs(base: FinishedRun, adapted: Sequence[FinishedRun], seeds: Sequence[int], command: str) -> Comparison:
    """Every adapted encoder against the base, paired over seeds and documents.

    Reads the runs' predictions. Raises `DataError` if the documents of a seed are not the same in every run, which
    happens where two tokenizers do not find the same documents empty.
    """
    base_answers = [read_answers(folder) for folder in seed_folders(base)]
    compared_base = _compared(base, seeds)
    others: list[Adapted] = []
    for run in adapted:
        answers = [read_answers(folder) for folder in seed_folders(run)]
        one = _compared(run, seeds)
        versus = _versus(run, answers, base_answers, compared_base["error_percent"]["mean"])
        facts = None if run.pretraining is None else _facts(run.pretraining)
        others.append({**one, "against_base": versus, "pretraining": facts})
    part = "validation" if base.report["test"] is None else "test"
    return Comparison(
        format=FORMAT,
        doctune=__version__,
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        title=base.report["title"],
        part=part,
        seeds=list(seeds),
        data=base.report["data"],
        recipe=base.report["recipe"],
        base=compared_base,
        adapted=others,
        warnings=_warnings(base, adapted, [compared_base, *others], seeds, part),
        command=command,
    )


def seed_folders(run: FinishedRun) -> list[Path]:
    """Where the predictions and the report of each seed are."""
    several = run.report.get("seeds")
    return [run.folder] if several is None else [run.folder / one["dir"] for one in several["runs"]]


def read_answers(folder: Path) -> StoredAnswers:
    """The predictions of a run; `DataError` if they are gone, or a row lacks an id, an answer or a true label."""
    ids, correct = [], []
    for row in read_rows(folder / "predictions.jsonl", "id", "label", "true_label"):
        ids.append(row["id"])
        correct.append(row["label"] == row["true_label"])
    return StoredAnswers(ids, np.array(correct, dtype=bool))


def verdict(low: float, high: float) -> Verdict:
    """What an interval of (adapted - base) says: a difference only where it is on one side of zero."""
    return "helped" if high < 0 else "hurt" if low > 0 else "no difference"


def sentence(base_error: float, error: float, difference: tuple[float, float, float]) -> str:
    """The verdict in words; errors in percent, the difference (adapted - base) in points with its interval."""
    value, low, high = difference
    return (
        f"{SENTENCES[verdict(low, high)]}: error {base_error:.2f} % -> {error:.2f} %, difference {points(value)} "
        f"points (95 % interval {points(low)} to {points(high)})"
    )


def points(value: float) -> str:
    """A difference with its sign; what rounds to nothing has none of its own."""
    return f"{round(value, 2) + 0.0:+.2f}"


def _versus(run: FinishedRun, answers: list[StoredAnswers], base: list[StoredAnswers], base_error: float) -> Versus:
    for one, other in zip(answers, base, strict=True):
        if one.ids != other.ids:
            raise DataError(
                f"{run.name}: its runs and those of the base encoder were not tested on the same documents, because "
                f"the tokenizers do not find the same ones empty; leave documents without any word out of the files"
            )
    # Without test data every seed that draws its own labels has its own validation documents.
    same = all(one.ids == base[0].ids for one in base)
    difference, low, high = paired_bootstrap_over_seeds(
        [one.correct for one in answers], [other.correct for other in base], same
    )
    said = verdict(low, high)
    return Versus(
        points=difference,
        low=low,
        high=high,
        by_seed=[_error(one) - _error(other) for one, other in zip(answers, base, strict=True)],
        verdict=said,
        sentence=sentence(base_error, _mean_error(answers), (difference, low, high)),
    )


def _error(answers: StoredAnswers) -> float:
    return 100 * float(1 - answers.correct.mean())


def _mean_error(answers: Sequence[StoredAnswers]) -> float:
    return float(np.mean([_error(one) for one in answers]))


def _compared(run: FinishedRun, seeds: Sequence[int]) -> Compared:
    reports = [_seed_report(run, folder) for folder in seed_folders(run)]
    judged = [Metrics.from_json(report["test"] or report["validation"]) for report in reports]
    summary = seed_interval([metrics.error_percent for metrics in judged])
    low, high = judged[0].error_interval_percent
    if summary.low is not None and summary.high is not None:
        low, high = summary.low, summary.high
    return Compared(
        name=run.name,
        encoder=run.encoder,
        run=str(run.folder),
        error_percent=summary.to_json(),
        interval_percent=[low, high],
        train_seconds=[report["time"]["train_seconds"] for report in reports],
        collapsed=[number for number, metrics in zip(seeds, judged, strict=True) if is_collapsed(metrics)],
    )


def _seed_report(run: FinishedRun, folder: Path) -> Report:
    return run.report if folder == run.folder else read_report(folder / "report.json")


def _facts(facts: PretrainingFacts) -> PretrainingJson:
    values: Any = facts.model_dump()
    found: PretrainingJson = values
    return found


def _warnings(
    base: FinishedRun, adapted: Sequence[FinishedRun], compared: Sequence[Compared], seeds: Sequence[int], part: str
) -> list[str]:
    """What a reader must know before believing the verdict."""
    said = encoder_warnings(base, adapted)
    if part == "validation":
        said.append(VALIDATION_FLATTERS)
    if len(seeds) == 1:
        said.append(
            "There is one seed only: the intervals cover other documents, not other seeds. Give --seeds 3 or more."
        )
    for one in compared:
        if one["collapsed"]:
            which = "its run" if len(seeds) == 1 else f"seed {', '.join(map(str, one['collapsed']))}"
            said.append(f"{one['name']}: {which} collapsed, that is, learnt nothing; the mean includes this.")
    return said


def encoder_warnings(base: FinishedRun, adapted: Sequence[FinishedRun]) -> list[str]:
    """What an adapted encoder was trained on, or is, that makes the comparison less than fair."""
    corpora = {run.name: CorpusFacts() if run.pretraining is None else run.pretraining.corpus for run in adapted}
    left_out = base.report["data"]["left_out_empty"]
    about = {
        "further pre-trained on the texts of the test documents themselves (transductive): these errors hold for these "
        "documents, and flatter for new ones.": [
            r.name for r in adapted if r.pretraining and r.pretraining.saw_test_texts
        ],
        "the corpus was not searched for the test texts, so it may hold some; make it anew with doctune corpus "
        "--exclude.": [n for n, corpus in corpora.items() if corpus.exclude == [] and not corpus.transductive],
        "another tokenizer than that of the base encoder: the difference is of encoder and tokenizer together, and the "
        "same length limit keeps more or less of a text.": [r.name for r in adapted if r.tokenizer != base.tokenizer],
        "the tokenizer finds other documents empty than that of the base encoder, so training was not on quite the "
        "same.": [run.name for run in adapted if run.report["data"]["left_out_empty"] != left_out],
    }
    warnings = [f"{', '.join(names)}: {warning}" for warning, names in about.items() if names]
    judged = Metrics.from_json(base.report["test"] or base.report["validation"])
    if judged.unseen:
        warnings.append(
            f"Of the {judged.count:,} documents that were judged {judged.unseen:,} are of classes that training lacks, "
            f"and count as errors for every encoder."
        )
    return warnings
