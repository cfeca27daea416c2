"""The error with its interval, and on the terminal what it is the error of."""

from __future__ import annotations

from statistics import median
from typing import Any

from doctune.evaluation.schema import ChosenExamples, EncoderSection, PretrainingSection, Report, SeedsSection, judged
from doctune.metrics.single import MetricsJson
from doctune.report.charts import Dot, seed_plot
from doctune.report.lines import TABLE_WIDTH, clipped
from doctune.report.numbers import DASH, duration, fixed, half, known, plus_minus, whole
from doctune.report.page import Section

HTML = """
<div>
<h2 id="result" class="what">{{ part | capitalize }} error{% if seeds %}, mean of {{ seeds.runs | length }} seeds{% endif %}</h2>
{% if seeds %}
<p class="big">{{ seeds.error_percent.mean | fixed }} %{% if seed_half is not none %} <small>± {{ seed_half | fixed }}</small>{% endif %}</p>
{% if seed_half is not none %}
<p class="what">95 % interval over seeds {{ [seeds.error_percent.low, 0] | max | fixed }} to {{ [seeds.error_percent.high, 100] | min | fixed }} %</p>
{% endif %}
{% else %}
<p class="big">{{ shown.error_percent | fixed }} %</p>
<p class="what">95 % interval {{ shown.error_interval_percent[0] | fixed }} to {{ shown.error_interval_percent[1] | fixed }} %</p>
{% endif %}
</div>
<dl class="figures">
{{ ui.figure("Accuracy", (seeds.accuracy.mean if seeds else shown.accuracy) | percent(2)) }}
{{ ui.figure("Macro-F1", (seeds.macro_f1.mean if seeds else shown.macro_f1) | fixed(3)) }}
{{ ui.figure(part | capitalize + " documents", shown.count | whole) }}
{% if majority %}
{{ ui.figure("Error if the answer were always “" + majority.name | truncate(24, true, "…") + "”", (1 - majority.support / shown.count) | percent(2)) }}
{% endif %}
</dl>
{% if seeds %}
<div class="plot">{{ plot }}
<p class="note">Each dot is one seed; the diamond is the mean and the bar its 95 % interval (Student’s t).
{% if seeds.runs | selectattr("collapsed") | list %}Rings are collapsed runs; the mean includes them. The median seed’s error is {{ seed_median | fixed }} %.{% endif %}</p></div>
{% endif %}
{% if part == "validation" %}
<p class="note plot">There was no test set. The best epoch was chosen on these same validation documents, so on new documents the error is likely to be somewhat higher.</p>
{% endif %}
"""


def values(report: Report) -> dict[str, Any]:
    """The figures of the headline."""
    part, shown = judged(report)
    seeds = report.get("seeds")
    errors = [value for value in seeds["error_percent"]["values"] if known(value)] if seeds else []
    return {
        "part": part, "shown": shown, "seeds": seeds,
        "seed_half": half(seeds["error_percent"]) if seeds else None,
        "seed_median": median(errors) if errors else None,
        "plot": _plot(seeds, part) if seeds else None,
        "majority": max(shown["per_class"], key=lambda row: row["support"], default=None) if shown["count"] else None,
    }  # fmt: skip


def _plot(seeds: SeedsSection, part: str) -> str:
    summary = seeds["error_percent"]
    dots = [Dot(f"seed {whole(run['seed'])}", run["error_percent"], bool(run["collapsed"])) for run in seeds["runs"]]
    return seed_plot(dots, summary["mean"], summary["low"], summary["high"], f"{part} error")


def text(report: Report) -> list[str]:
    """A line for each fact, its name before it."""
    encoder, data, best, time = report["encoder"], report["data"], report["best"], report["time"]
    counts = f"train {whole(data['train'])}, validation {whole(data['validation'])}, test {whole(data['test'])}"
    lines = [
        ("encoder", f"{encoder['name']} ({_shape(encoder)})"),
        *(("pre-trained", _pretrained(run)) for run in report.get("further_pretraining", ())),
        ("documents", counts),
        *([("labels", _chosen(data["train_examples"], "training documents, chosen by the seed"))]
          if "train_examples" in data else []),
        *([("tested on", _chosen(data["test_examples"], "test documents, the same for every run"))]
          if "test_examples" in data else []),
        ("classes", f"{len(data['labels']):,}"),
        ("validation", _figures(report["validation"])),
        *([("test", _figures(report["test"]))] if report["test"] is not None else []),
        ("best", f"epoch {_plain(best['epoch'])}, step {whole(best['step'])}"),
        ("time", f"{duration(time['train_seconds'])}, {fixed(time['examples_per_second'], 1)} documents/s"),
    ]  # fmt: skip
    seeds = report.get("seeds")
    if seeds:
        error = f"{judged(report)[0]} error {plus_minus(seeds['error_percent'], 2, ' %')}"
        lines.append((f"{len(seeds['runs'])} seeds", f"{error}, macro-F1 {plus_minus(seeds['macro_f1'], 3)}"))
    return [clipped(f"{name:<12}{value}", TABLE_WIDTH) for name, value in lines]


def _shape(encoder: EncoderSection) -> str:
    layers = f"{whole(encoder['num_layers'])} layers of {_plain(encoder['hidden_size'])}"
    return f"{layers}, {fixed(encoder['num_parameters'] / 1e6, 1)} M parameters, {encoder['packing']}"


def _pretrained(run: PretrainingSection) -> str:
    return f"on {run['corpus'] or DASH}, {whole(run['steps'])} steps, {whole(run['tokens'])} tokens"


def _chosen(chosen: ChosenExamples, what: str) -> str:
    return f"{whole(chosen['count'])} of {whole(chosen['of'])} {what}"


def _figures(metrics: MetricsJson) -> str:
    low, high = metrics["error_interval_percent"][:2]
    error = f"{fixed(metrics['error_percent']):>5} % ({fixed(low)} to {fixed(high)})"
    accuracy = fixed(100 * metrics["accuracy"])
    return f"error {error}, accuracy {accuracy:>5} %, macro-F1 {fixed(metrics['macro_f1'], 3)}"


def _plain(value: float) -> str:
    return f"{value:g}" if known(value) else DASH


SECTION = Section(name="result", place=10, html=HTML, style="headline", values=values, text=text)
