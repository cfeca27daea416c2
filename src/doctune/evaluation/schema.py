"""What report.json holds: the types that its writer is checked against.

Keys are stable: an older report.json must stay readable. Counts are documents, `_percent` is 0..100, accuracy and F1
are 0..1, times are seconds.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from doctune.evaluation.intervals import SeedSummaryJson
from doctune.metrics.single import MetricsJson


class EncoderSection(TypedDict):
    """The encoder; `packing` is packed or padded."""

    name: str
    hidden_size: int
    num_layers: int
    num_parameters: int
    packing: str


class ChosenExamples(TypedDict):
    """The few labelled documents that were drawn from `of` documents; a hold-out is taken from those of train."""

    count: int
    of: int


class DataSection(TypedDict):
    """The documents: counts by part; `mean_tokens` before truncation, `truncated_percent` 0..100, by part.

    `train_examples` is there where not all training documents were used, `test_examples` where not all test documents.
    """

    train: int
    validation: int
    test: int
    labels: list[str]
    left_out_empty: dict[str, int]
    truncated_percent: dict[str, float]
    mean_tokens: dict[str, float]
    train_per_class: dict[str, int]
    validation_from: str
    train_examples: NotRequired[ChosenExamples]
    test_examples: NotRequired[ChosenExamples]


class LearningRate(TypedDict):
    """The peak learning rate of one part of the model and how many parameters have it."""

    part: str
    learning_rate: float
    parameters: int


class EpochValidation(TypedDict):
    """What an evaluation during training gives; more keys (all of `MetricsJson`) are welcome."""

    accuracy: float
    error_percent: float
    macro_f1: float
    loss: float


class Epoch(TypedDict):
    """One evaluation during training; `epoch` counts passes and may be a fraction."""

    epoch: float
    step: int
    train_loss: float
    validation: EpochValidation
    learning_rate: float
    examples_per_second: float


class Best(TypedDict):
    """The evaluation whose weights were kept."""

    epoch: float
    step: int


class WindowWeight(TypedDict):
    """One window of a document: `start` and `tokens` count tokens of the text, from 0 and without special ones.

    `weight` is what it adds to the logit of the predicted class, above the mean of all classes: negative if it speaks
    for others. The weights of a document and the bias of the head sum up to that logit.
    """

    start: int
    tokens: int
    weight: float


FORMAT = 1
"""The format of report.json, compare.json, multitask.json, probe.json and study.json: the key `format` in each."""

Windows = dict[int, list[WindowWeight]]
"""The windows of each document that has several, by its place in the data set."""


class WindowExample(TypedDict):
    """A document of several windows; `text` is how the window of the highest weight begins, from its tokens."""

    id: str
    label: NotRequired[str]
    prediction: str
    probability: float
    windows: list[WindowWeight]
    text: str


class WindowsSection(TypedDict):
    """Which window decided, that is, has the highest weight: of `documents` with several, and of some of them each.

    `decided` counts documents by where that window stands.
    """

    documents: int
    decided: dict[Literal["first", "between", "last"], int]
    examples: list[WindowExample]


class HardError(TypedDict):
    """One wrong answer; `probability` 0..1 is what the model gave to its `prediction`.

    `windows` are there where the document has several.
    """

    id: str
    text: str
    label: str
    prediction: str
    probability: float
    windows: NotRequired[list[WindowWeight]]


class Time(TypedDict):
    """Time in training, without tokenising and the final evaluation."""

    train_seconds: float
    examples_per_second: float
    tokens_per_second: float


class SeedRun(TypedDict):
    """One seed; `error_percent` on the test set, or on validation where there is none; `collapsed` is the reason."""

    seed: int
    dir: str
    error_percent: float
    validation_accuracy: float
    collapsed: str | None


class SeedsSection(TypedDict):
    """Several seeds of one recipe; error in percent, accuracy and macro-F1 0..1.

    The rest of the report then describes one of them, whose seed is `details_of` (default: the first).
    """

    seeds: list[int]
    error_percent: SeedSummaryJson
    accuracy: SeedSummaryJson
    macro_f1: SeedSummaryJson
    runs: list[SeedRun]
    details_of: NotRequired[int]


class ComparedTexts(TypedDict):
    """Validation or test texts that a corpus was searched for."""

    name: str
    texts: int


class PretrainingSection(TypedDict):
    """One run of further pre-training behind the encoder; `left_out` counts documents of its corpus by reason.

    None is not known. `kept_step` is the step whose weights it kept, `transductive`: its corpus holds test texts.
    """

    base_encoder: str | None
    objective: str | None
    steps: int | None
    kept_step: int | None
    tokens: int | None
    seconds: float | None
    corpus: str | None
    documents: int | None
    compared_with: list[ComparedTexts]
    left_out: dict[str, int]
    transductive: bool


class Report(TypedDict):
    """All of report.json, in the format `FORMAT`.

    `further_pretraining` is there where the encoder's folder tells of any, the latest first.

    `windows` is there where a tested document was read in several.
    """

    format: int
    doctune: str
    created: str
    title: str
    encoder: EncoderSection
    data: DataSection
    recipe: dict[str, str | int | float | bool | None]
    learning_rates: list[LearningRate]
    epochs: list[Epoch]
    best: Best
    validation: MetricsJson
    test: MetricsJson | None
    hardest: list[HardError]
    time: Time
    warnings: list[str]
    command: str
    seeds: NotRequired[SeedsSection]
    further_pretraining: NotRequired[list[PretrainingSection]]
    windows: NotRequired[WindowsSection]


def judged(report: Report) -> tuple[Literal["test", "validation"], MetricsJson]:
    """What the figures that count are of, and the figures: of the test set if there is one."""
    return ("validation", report["validation"]) if report["test"] is None else ("test", report["test"])
