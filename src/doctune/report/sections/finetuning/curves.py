"""Loss and accuracy over epochs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from doctune.evaluation.schema import Report
from doctune.report.charts import Series, learning_curve
from doctune.report.numbers import known
from doctune.report.page import Section

HTML = """
{{ ui.in_two(curves) }}
<p class="note">The weights of epoch {{ report.best.epoch | value }} (step {{ report.best.step | whole }}) were kept.</p>
"""


def values(report: Report) -> dict[str, Any] | None:
    """Nothing where no evaluation was recorded."""
    epochs, best = report["epochs"], report["best"]["epoch"]

    def line(name: str, kind: str, figures: Sequence[float]) -> Series:
        return Series(name, [(e["epoch"], figure) for e, figure in zip(epochs, figures, strict=True)], kind)

    loss = [
        line("train loss", "other", [epoch["train_loss"] for epoch in epochs]),
        line("validation loss", "main", [epoch["validation"]["loss"] for epoch in epochs]),
    ]
    accuracy = [line("validation accuracy", "main", [100 * epoch["validation"]["accuracy"] for epoch in epochs])]
    charts = (
        learning_curve("Training and validation loss by epoch", loss, best, lambda y: f"{y:.3g}"),
        learning_curve(
            f"Validation accuracy by epoch{f', best at {best:g}' if known(best) else ''}",
            accuracy,
            best,
            lambda y: f"{y:.4g} %",
            100.0,
        ),
    )
    curves = [chart for chart in charts if chart]
    return {"curves": curves} if curves else None


SECTION = Section(name="curves", place=40, title="Learning curves", html=HTML, values=values)
