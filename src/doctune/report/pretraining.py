"""The report of a pre-training run: report.json and the page made from it.

Everything here reads the `PretrainingReport` dictionary only, so a report.json of an older run can be shown again.
What is on the page are the files of `sections/pretraining`.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from doctune.evaluation.schema import FORMAT, ComparedTexts
from doctune.files import write_json, write_text
from doctune.report.page import Page, writable
from doctune.version import __version__

METRICS = "metrics.jsonl"
MOST_POINTS = 120  # of a curve; the records of a long run are averaged to so many
OBJECTIVES = {
    "nsp": "masked words and next sentences (nsp)",
    "sop": "masked words and order of sentences (sop)",
    "none": "masked words alone",
}


class Files(TypedDict):
    """Where things are: the encoder, those on the way, the corpus' ledger (None: no document was left out)."""

    encoder: str
    snapshots: list[str]
    corpus: str
    ledger: str | None
    config: str


class Source(TypedDict):
    """A source of a corpus; `weight` is how often a document is used in one pass."""

    name: str
    weight: float
    documents: int
    sentences: int
    tokens: int
    left_out: int


class Pieces(TypedDict):
    """How a vocabulary cuts words; `broken` is the share of words in two or more pieces."""

    pieces_per_word: float
    broken: float


class Vocabulary(TypedDict):
    """What a corpus did to its vocabulary: new pieces, or (without `before`) one of its own."""

    pieces: int
    first: list[str]
    before: Pieces | None
    after: Pieces


class CorpusJson(TypedDict):
    """The corpus, with what its leak guard did."""

    name: str | None
    documents: int
    sentences: int
    tokens: int
    sources: list[Source]
    exclude: list[ComparedTexts]
    left_out: dict[str, int]
    kept: dict[str, int]
    vocabulary: Vocabulary | None
    transductive: bool


class HeldOut(TypedDict):
    """What was measured on held-out documents with the weights that were kept."""

    held_out_loss: float
    mlm_loss: float
    mlm_accuracy: float
    pair_accuracy: NotRequired[float]
    pair_majority: NotRequired[float]


class EncoderJson(TypedDict):
    """The encoder with its heads."""

    hidden_size: int
    num_layers: int
    num_parameters: int
    packing: str


class PairSettings(TypedDict):
    """Of the settings, those of the sequences that the page names."""

    sequence_len: int
    duplication: int | None


class MaskingSettings(TypedDict):
    """Those of the masked words."""

    masked_lm_prob: float
    masking: str


class OptimizerSettings(TypedDict):
    """Those of the optimiser."""

    learning_rate: float


class TrainingSettings(TypedDict):
    """Those of the steps."""

    batch_size: int
    accumulation: int


class SettingsJson(TypedDict):
    """All settings by section; the page shows the others, too."""

    pairs: PairSettings
    masking: MaskingSettings
    optimizer: OptimizerSettings
    training: TrainingSettings


class Facts(TypedDict):
    """The facts of doctune-pretraining.json in the encoder's folder; `before` are those of the run before."""

    base_encoder: str
    before: dict[str, Any] | None
    encoder: NotRequired[EncoderJson]
    objective: str
    steps: int
    tokens: int
    seconds: float
    kept_step: int
    new_heads: list[str]
    head_warmup: float | None
    held_out: HeldOut | None
    corpus: CorpusJson
    settings: SettingsJson


class PretrainingReport(TypedDict):
    """All of report.json; `steps` and `evaluations` are the records of metrics.jsonl, without their kind."""

    format: int
    kind: Literal["pretraining"]
    doctune: str
    created: str
    title: str
    facts: Facts
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    files: Files
    warnings: list[str]
    command: str
    repeat: str
    next: list[str]


def objective(report: PretrainingReport) -> str:
    """What was learnt, in words."""
    name = report["facts"]["objective"]
    return OBJECTIVES.get(name, name)


PAGE = Page(
    folder="doctune.report.sections.pretraining",
    template="pretraining.html",
    kind=PretrainingReport,
    values=lambda report: {"objective": objective(report)},
)
render_pretraining = PAGE.html


def write_pretraining_report(
    run_dir: Path, facts: dict[str, Any], command: str, snapshots: Sequence[Path] = ()
) -> Path:
    """Write report.json and report.html of a finished run into `run_dir`, from its facts and its metrics.jsonl.

    Gives the page's path. A number that is not finite becomes null, which the page shows as a dash.
    """
    report = writable(make_report(run_dir, facts, command, snapshots))
    write_json(run_dir / "report.json", report)
    write_text(run_dir / "report.html", render_pretraining(report))
    return run_dir / "report.html"


def make_report(
    run_dir: Path, facts: dict[str, Any], command: str, snapshots: Sequence[Path] = ()
) -> PretrainingReport:
    """The report of the run in `run_dir`."""
    start, settings = facts["settings"]["start"], facts["settings"]
    scratch = start["encoder"] is None
    steps, evaluations = _records(run_dir / METRICS)
    encoder = str(run_dir / "model")
    kept = facts["corpus"].get("kept") or {}
    files = Files(
        encoder=encoder,
        snapshots=[str(folder) for folder in snapshots],
        corpus=settings["corpus"],
        ledger=f"{encoder}/ledger.jsonl" if facts["corpus"]["left_out"] or kept else None,
        config=str(run_dir / "config.toml"),
    )
    what = f"Pre-training from scratch: {start['from_scratch']}" if scratch else f"{start['encoder']}, pre-trained on"
    told: Any = facts
    return PretrainingReport(
        format=FORMAT,
        kind="pretraining",
        doctune=__version__,
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        title=f"{what}, {facts['corpus']['name']}" if scratch else f"{what} {facts['corpus']['name']}",
        facts=told,
        steps=steps,
        evaluations=evaluations,
        files=files,
        warnings=warnings(facts),
        command=command,
        repeat=shlex.join(["doctune", "pretrain", "--config", files["config"], "--output", f"{run_dir}-again"]),
        next=_next(facts, files),
    )


def warnings(facts: dict[str, Any]) -> list[str]:
    """What a reader must know: test texts in the corpus, that nobody looked for them, that nothing was measured."""
    corpus, said = facts["corpus"], []
    if corpus["transductive"]:
        count = sum((corpus.get("kept") or {}).values())
        number = f"{count:,} of its documents are" if count else "its documents may be"
        said.append(
            f"Transductive: the corpus was told to keep the texts of the test set; {number} like them. Say so beside "
            f"every figure that is measured on that test set."
        )
    elif not corpus["exclude"]:
        said.append(
            "The corpus was compared with no validation or test texts (doctune corpus --exclude). If some of them are "
            "in it, figures measured on them flatter."
        )
    if any(before["corpus"].get("transductive") for before in history(facts)):
        said.append("The encoder that this run began with was pre-trained on the texts of a test set (transductive).")
    if facts["held_out"] is None:
        said.append("No document was held out: nothing was measured, and the last weights were kept.")
    return said


def history(facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The facts of the pre-training runs before this one, the latest first."""
    runs: list[dict[str, Any]] = []
    while isinstance(facts.get("before"), dict):
        facts = facts["before"]
        runs.append(dict(facts))
    return runs


def _records(path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The records of the steps, at most as many as a curve shows, and of the measurements."""
    steps: list[dict[str, Any]] = []
    evaluations: list[dict[str, Any]] = []
    places = {"step": steps, "evaluation": evaluations}
    for line in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        place = places.get(record.pop("kind", ""))
        if place is not None:
            place.append(record)
    return _thinned(steps), evaluations


def _thinned(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Means of neighbouring records, so that there are no more than a curve can show."""
    size = -(-len(records) // MOST_POINTS)
    if size <= 1:
        return records
    groups = [records[i : i + size] for i in range(0, len(records), size)]
    means = [
        {n: sum(one[n] for one in group) / len(group) for n in group[0] if all(n in one for one in group)}
        for group in groups
    ]
    # A step is a whole number; the curves stand over tokens, whose mean is where the means belong.
    return [{**mean, "step": group[-1]["step"]} for mean, group in zip(means, groups, strict=True)]


def _next(facts: dict[str, Any], files: Files) -> list[str]:
    """The commands that come next: does it help, and the classifier."""
    data = "--train TRAIN --test TEST --text COLUMN --label COLUMN"
    base = facts["settings"]["start"]["encoder"]
    encoder = shlex.quote(files["encoder"])
    lines = []
    if base is not None:
        # The snapshot of the step whose weights were kept is the same encoder again.
        others = [folder for folder in files["snapshots"] if not folder.endswith(f"step-{facts['kept_step']:07d}")]
        adapted = " ".join(shlex.quote(folder) for folder in [*others, files["encoder"]])
        lines.append(
            f"doctune compare --encoder {shlex.quote(base)} --adapted {adapted} {data} --seeds 5 "
            f"--output runs/did-it-help"
        )
    lines.append(f"doctune finetune --encoder {encoder} {data} --output runs/classifier")
    return lines
