"""What the tables show of each encoder."""

from __future__ import annotations

from doctune.evaluation.comparison import Compared, Comparison, PretrainingJson, Versus
from doctune.report.numbers import DASH, NOT_KNOWN, duration, interval, known, signed_interval, whole


def encoders(report: Comparison) -> list[Compared]:
    """The base encoder and the adapted ones."""
    return [report["base"], *report["adapted"]]


def rows(report: Comparison) -> list[dict[str, str]]:
    """The cells of each encoder's row, by name."""
    adapted = [_row(one, one["against_base"], one["pretraining"]) for one in report["adapted"]]
    return [_row(report["base"], None, None), *adapted]


def _row(one: Compared, versus: Versus | None, facts: PretrainingJson | None) -> dict[str, str]:
    low, high = one["interval_percent"][:2]
    cells = dict.fromkeys(("steps", "tokens", "pretraining", "corpus", "start"), NOT_KNOWN)
    if versus is None:
        cells = {**dict.fromkeys(cells, DASH), "steps": "0"}
    elif facts is not None:
        corpus = facts["corpus"]
        documents = "" if corpus["documents"] is None else f"{whole(corpus['documents'])} documents"
        named = ", ".join(part for part in (corpus["name"], documents) if part)
        if corpus["transductive"]:
            named = f"{named or NOT_KNOWN}, transductive"
        cells = {
            "steps": _steps(facts["steps"], facts["kept_step"]),
            "tokens": NOT_KNOWN if facts["tokens"] is None else _tokens(facts["tokens"]),
            "pretraining": NOT_KNOWN if facts["seconds"] is None else duration(facts["seconds"]),
            "corpus": named or NOT_KNOWN,
            "start": facts["base_encoder"] or NOT_KNOWN,
        }
    seconds = one["train_seconds"]
    return {
        **cells,
        "name": one["name"],
        # The interval of two or three seeds may leave 0..100, where no error can lie.
        "error": interval(one["error_percent"]["mean"], max(low, 0.0) if known(low) else low, min(high, 100.0)),
        "finetuning": duration(float(sum(seconds) / len(seconds)) if seconds else None),
        "difference": DASH if versus is None else signed_interval(versus["points"], versus["low"], versus["high"]),
        "verdict": DASH if versus is None else versus["verdict"],
    }


def _steps(steps: int | None, kept: int | None) -> str:
    if steps is None:
        return NOT_KNOWN
    return whole(steps) if kept in (None, steps) else f"{whole(steps)}, of which {whole(kept)} kept"


def _tokens(count: int) -> str:
    return f"{count / 1e6:,.1f} million" if count >= 1_000_000 else whole(count)


def labels(report: Comparison) -> str:
    """How many labels and seeds the figures rest on."""
    data, count = report["data"], len(report["seeds"])
    seeds = f"{count} seeds" if count > 1 else "1 seed"
    judged = data["test"] if report["part"] == "test" else data["validation"]
    documents = f"{whole(judged)} {report['part']} documents"
    if "train_examples" not in data:
        return f"{whole(data['train'])} training documents, {documents}, {seeds}."
    chosen = data["train_examples"]
    own = "; each seed draws its own labels" if count > 1 else ""
    return f"{whole(chosen['count'])} of {whole(chosen['of'])} labelled documents, {documents}, {seeds}{own}."


def how_intervals(report: Comparison) -> str:
    """What the intervals of the errors are over."""
    return "over seeds (Student’s t)" if len(report["seeds"]) > 1 else "over documents (Wilson)"
