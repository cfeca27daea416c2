"""The report of a pre-training run: report.json and the page made from it.

Everything here reads the `PretrainingReport` dictionary only, so a report.json of an older run can be shown again.
Keys are stable. `facts` are those of doctune-pretraining.json in the encoder's folder.
"""

from __future__ import annotations

import itertools
import json
import math
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, cast

from markupsafe import Markup

from doctune.files import write_json, write_text
from doctune.report.charts import Series, learning_curve
from doctune.report.finetuning import pages, writable
from doctune.version import __version__

METRICS = "metrics.jsonl"
MOST_POINTS = 120  # of a curve; the records of a long run are averaged to so many
OBJECTIVES = {
    "nsp": "masked words and next sentences (nsp)",
    "sop": "masked words and order of sentences (sop)",
    "none": "masked words alone",
}

SECTIONS = {"start": "encoder", "pairs": "sequences", "masking": "masked words", "optimizer": "optimiser"}


class Files(TypedDict):
    """Where things are: the encoder, those on the way, the corpus' ledger (None: no document was left out)."""

    encoder: str
    snapshots: list[str]
    corpus: str
    ledger: str | None
    config: str


class PretrainingReport(TypedDict):
    """All of report.json; `steps` and `evaluations` are the records of metrics.jsonl, without their kind."""

    kind: Literal["pretraining"]
    doctune: str
    created: str
    title: str
    facts: dict[str, Any]
    steps: list[dict[str, Any]]
    evaluations: list[dict[str, Any]]
    files: Files
    warnings: list[str]
    command: str
    repeat: str
    next: list[str]


def write_pretraining_report(
    run_dir: Path, facts: dict[str, Any], command: str, snapshots: Sequence[Path] = ()
) -> Path:
    """Write report.json and report.html of a finished run into `run_dir`, from its facts and its metrics.jsonl.

    Gives the page's path. A number that is not finite becomes null, which the page shows as a dash.
    """
    report = cast(PretrainingReport, writable(make_report(run_dir, facts, command, snapshots)))
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
    return PretrainingReport(
        kind="pretraining",
        doctune=__version__,
        created=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        title=f"{what}, {facts['corpus']['name']}" if scratch else f"{what} {facts['corpus']['name']}",
        facts=facts,
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


def history(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The facts of the pre-training runs before this one, the latest first."""
    found: list[dict[str, Any]] = []
    while isinstance(facts.get("before"), dict):
        facts = facts["before"]
        found.append(facts)
    return found


def render_pretraining(report: PretrainingReport) -> str:
    """The page as text; everything that comes from the report is escaped."""
    facts = report["facts"]
    held_out, evaluations = facts["held_out"], report["evaluations"]
    return (
        pages()
        .get_template("pretraining.html")
        .render(
            report=report,
            facts=facts,
            corpus={"kept": {}, "vocabulary": None, **facts["corpus"]},
            history=history(facts),
            held_out=held_out,
            first=evaluations[0] if held_out and len(evaluations) > 1 else None,
            objective=OBJECTIVES.get(facts["objective"], facts["objective"]),
            speed=facts["tokens"] / facts["seconds"] if facts["seconds"] else None,
            perplexity=_perplexity(held_out),
            passes=evaluations[-1]["epoch"] if evaluations else None,
            curves=_curves(report),
            columns=_columns(facts["settings"]),
        )
    )


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


def _curves(report: PretrainingReport) -> list[Markup]:
    """Losses, accuracies and the learning rate over tokens; points that are not finite are left out."""
    steps, evaluations = report["steps"], report["evaluations"]
    kept = [record["tokens"] for record in evaluations if record["step"] == report["facts"]["kept_step"]]
    best = kept[0] if kept and report["facts"]["held_out"] else None

    def line(name: str, kind: str, records: Sequence[dict[str, Any]], key: str, scale: float = 1.0) -> Series:
        points = [(one["tokens"], scale * one[key]) for one in records if one.get(key) is not None]
        return Series(name, points, kind)

    def chart(title: str, say: Callable[[float], str], *lines: Series, limit: float = float("inf")) -> Markup:
        drawn = [one for one in lines if one.points]
        marked = best if any(one.kind == "main" for one in drawn) else None
        return learning_curve(title, drawn, marked, say, limit, "tokens", short_count)

    words = "mlm" if any("mlm" in record for record in steps) else "loss"
    peak = report["facts"]["settings"]["optimizer"]["learning_rate"]
    rate = line(f"learning rate, of its peak {peak:g}", "other", steps, "learning_rate", 100.0 / peak)
    charts = [
        chart("Loss on masked words", _three, line("training", "other", steps, words),
              line("held-out masked words", "main", evaluations, "mlm_loss")),
        chart("Held-out masked words found", _percent,
              line("masked words found", "main", evaluations, "mlm_accuracy", 100.0), limit=100.0),
        chart("Loss on sentence pairs", _three, line("training", "other", steps, "pair"),
              line("held-out pairs", "main", evaluations, "pair_loss")),
        chart("Held-out sentence pairs told", _percent,
              line("pairs told", "main", evaluations, "pair_accuracy", 100.0), limit=100.0),
        chart("Learning rate", _percent, *([rate] if len(rate.points) > 1 else []), limit=100.0),
    ]  # fmt: skip
    return [drawn for drawn in charts if drawn]


def short_count(count: float) -> str:
    """A number of tokens as an axis has room for: 800, 25k, 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.4g}{unit}"
    return f"{count:g}"


def _three(value: float) -> str:
    return f"{value:.3g}"


def _percent(value: float) -> str:
    return f"{value:.4g} %"


def _perplexity(held_out: dict[str, Any] | None) -> float | None:
    """e to the loss on masked words; None where there is none, or it is beyond a number."""
    loss = None if held_out is None else held_out["mlm_loss"]
    return None if loss is None or loss > 700 else math.exp(loss)


def _columns(settings: dict[str, Any]) -> list[list[tuple[str, dict[str, Any]]]]:
    """The settings that have a value, by section, in two columns of about equal length."""
    found: list[tuple[str, dict[str, Any]]] = []
    for section, values in settings.items():
        if isinstance(values, dict):
            shown = {
                name: ", ".join(map(str, value)) if isinstance(value, list) else value
                for name, value in values.items()
                if value is not None
            }
            found.append((SECTIONS.get(section, section).capitalize(), shown))
    lengths = list(itertools.accumulate(len(shown) + 1 for _, shown in found))
    first = sum(2 * length <= lengths[-1] + len(found[0][1]) for length in lengths)
    return [found[:first], found[first:]]


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
