"""A comparison to read: compare.json, the page, the Markdown table, the plot, and the table on the terminal.

Everything here reads the `Comparison` dictionary only, so that an older compare.json can be shown again.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any, cast

from markupsafe import Markup

from doctune.evaluation.comparison import Compared, Comparison, points
from doctune.files import write_json, write_text
from doctune.progress import duration
from doctune.report.comparison_charts import Gap, StepPoint, differences, error_by_steps, standalone
from doctune.report.finetuning import TABLE_WIDTH, pages, writable

PLOT = "error-by-steps.svg"
NOT_KNOWN = "not known"
NAME_WIDTH = 32


def write_comparison(folder: Path, comparison: Comparison) -> None:
    """Write compare.json, compare.html, compare.md, and error-by-steps.svg where several checkpoints are given."""
    safe = cast(Comparison, writable(comparison))
    write_json(folder / "compare.json", safe)
    write_text(folder / "compare.html", render_html(safe))
    write_text(folder / "compare.md", markdown(safe))
    plot = steps_plot(safe)
    if plot:
        write_text(folder / PLOT, standalone(plot, pages().get_template("charts.css").render()))


def steps_plot(comparison: Comparison) -> Markup:
    """Error against steps of pre-training, of the checkpoints that tell their steps; nothing for fewer than two."""
    adapted = []
    for one in comparison["adapted"]:
        facts = one.get("pretraining")
        steps = None if facts is None else facts["steps"] if facts["kept_step"] is None else facts["kept_step"]
        if facts is not None and steps is not None:
            adapted.append(_step_point(one, steps, facts["corpus"]["name"]))
    if len(adapted) < 2:
        return Markup("")
    return error_by_steps(_step_point(comparison["base"], 0, None), adapted, f"{comparison['part']} error")


def render_html(comparison: Comparison) -> str:
    """The page as text; everything that comes from the comparison is escaped."""
    what = f"{comparison['part']} error"
    gaps = [
        Gap(one["name"], one["against_base"]["points"], one["against_base"]["low"], one["against_base"]["high"])
        for one in comparison["adapted"]
    ]
    environment = pages()
    environment.filters |= {"points": _signed}
    return environment.get_template("compare.html").render(
        comparison=comparison,
        encoders=[comparison["base"], *comparison["adapted"]],
        rows=[_row(one) for one in [comparison["base"], *comparison["adapted"]]],
        steps_plot=steps_plot(comparison),
        without_steps=_without_steps(comparison),
        differences=differences(gaps, what),
        labels=_labels(comparison),
    )


def markdown(comparison: Comparison) -> str:
    """Verdicts, a table and the warnings, to paste into notes."""
    part, count = comparison["part"], len(comparison["seeds"])
    head = [
        "encoder", "pre-training steps", "pre-training", "fine-tuning, each run",
        f"{part} error %, mean of {count} seed{'s' if count > 1 else ''}", "adapted - base, points", "verdict",
    ]  # fmt: skip
    lines = [f"# Did further pre-training help? {_escaped(comparison['title'])}", ""]
    lines += [f"- **{_escaped(one['name'])}**: {one['against_base']['sentence']}" for one in comparison["adapted"]]
    lines += ["", f"| {' | '.join(head)} |", f"| --- | {'---: | ' * 5}--- |"]
    for one in [comparison["base"], *comparison["adapted"]]:
        row = _row(one)
        cells = [row["name"], row["steps"], row["pretraining"], row["finetuning"], row["error"], row["difference"],
                 row["verdict"]]  # fmt: skip
        lines.append(f"| {' | '.join(_escaped(cell) for cell in cells)} |")
    lines += ["", f"{_labels(comparison)} Intervals in brackets: 95 %.", ""]
    lines += [f"- {_escaped(warning)}" for warning in comparison["warnings"]]
    return "\n".join([*lines, "", "```", comparison["command"], "```", ""])


def summary_table(comparison: Comparison) -> str:
    """The plain text that the command line prints at the end; no line is wider than 100 columns."""
    rows = [_row(one) for one in [comparison["base"], *comparison["adapted"]]]
    width = min(NAME_WIDTH, max(len("encoder"), *(len(row["name"]) for row in rows)))
    head = f"{comparison['part']} error %"
    lines = [_labels(comparison), ""]
    lines.append(f"{'encoder':<{width}}  {head:>22}  {'pre-training':>14}  {'fine-tuning, each run':>22}")
    for row in rows:
        name = row["name"] if len(row["name"]) <= width else f"{row['name'][: width - 1]}…"
        lines.append(f"{name:<{width}}  {row['error']:>22}  {row['pretraining']:>14}  {row['finetuning']:>22}")
    lines.append("")
    for one in comparison["adapted"]:
        lines += textwrap.wrap(f"{one['name']}: {one['against_base']['sentence']}", TABLE_WIDTH, subsequent_indent="  ")
    for warning in comparison["warnings"]:
        lines += textwrap.wrap(f"warning: {warning}", TABLE_WIDTH, subsequent_indent="  ")
    return "\n".join(line.rstrip() for line in lines)


def _row(one: Compared) -> dict[str, str]:
    """What the tables show of an encoder."""
    facts, versus = one.get("pretraining"), one.get("against_base")
    low, high = one["interval_percent"]
    known = dict.fromkeys(("steps", "tokens", "pretraining", "corpus", "start"), NOT_KNOWN)
    if versus is None:
        known = {**dict.fromkeys(known, "–"), "steps": "0"}
    elif facts is not None:
        corpus = facts["corpus"]
        documents = "" if corpus["documents"] is None else f"{corpus['documents']:,} documents"
        named = ", ".join(part for part in (corpus["name"], documents) if part)
        if corpus["transductive"]:
            named = f"{named or NOT_KNOWN}, transductive"
        known = {
            "steps": _steps(facts["steps"], facts["kept_step"]),
            "tokens": NOT_KNOWN if facts["tokens"] is None else _tokens(facts["tokens"]),
            "pretraining": NOT_KNOWN if facts["seconds"] is None else duration(facts["seconds"]),
            "corpus": named or NOT_KNOWN,
            "start": facts["base_encoder"] or NOT_KNOWN,
        }
    return {
        **known,
        "name": one["name"],
        # The interval of two or three seeds may leave 0..100, where no error can lie.
        "error": f"{one['error_percent']['mean']:.2f} ({max(low, 0.0):.2f} to {min(high, 100.0):.2f})",
        "finetuning": duration(_mean(one["train_seconds"])),
        "difference": "–" if versus is None else _interval(versus["points"], versus["low"], versus["high"]),
        "verdict": "–" if versus is None else versus["verdict"],
    }


def _labels(comparison: Comparison) -> str:
    """How many labels and seeds the figures rest on."""
    data, count = comparison["data"], len(comparison["seeds"])
    seeds = f"{count} seeds" if count > 1 else "1 seed"
    documents = f"{data[comparison['part']]:,} {comparison['part']} documents"  # type: ignore[literal-required]
    if "train_examples" not in data:
        return f"{data['train']:,} training documents, {documents}, {seeds}."
    chosen = data["train_examples"]
    own = "; each seed draws its own labels" if count > 1 else ""
    return f"{chosen['count']:,} of {chosen['of']:,} labelled documents, {documents}, {seeds}{own}."


def _without_steps(comparison: Comparison) -> list[str]:
    """The checkpoints that the plot cannot show."""
    facts = {one["name"]: one.get("pretraining") for one in comparison["adapted"]}
    return [n for n, known in facts.items() if known is None or known["steps"] is known["kept_step"] is None]


def _step_point(one: Compared, steps: int, corpus: str | None) -> StepPoint:
    low, high = one["interval_percent"]
    return StepPoint(one["name"], steps, one["error_percent"]["mean"], low, high, corpus)


def _interval(value: float, low: float, high: float) -> str:
    return f"{points(value)} ({points(low)} to {points(high)})"


def _steps(steps: int | None, kept: int | None) -> str:
    if steps is None:
        return NOT_KNOWN
    return f"{steps:,}" if kept in (None, steps) else f"{steps:,}, of which {kept:,} kept"


def _signed(value: float) -> str:
    return points(value).replace("-", "\u2212")


def _tokens(count: int) -> str:
    return f"{count / 1e6:,.1f} million" if count >= 1_000_000 else f"{count:,}"


def _mean(values: list[Any]) -> float:
    return float(sum(values) / len(values))


def _escaped(text: str) -> str:
    """Markdown reads a bar as the end of a cell."""
    return " ".join(text.split()).replace("|", "\\|")
