"""What each window of a document added to its answer, as bars; see `charts`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from doctune.evaluation.schema import WindowWeight
from doctune.report.charts import svg_start

WIDTH, HEIGHT = 560, 44
WIDEST = 40.0


def deciding(windows: Sequence[WindowWeight]) -> int:
    """The place of the window of the highest weight, the first of equals."""
    return max(range(len(windows)), key=lambda place: windows[place]["weight"])


def window_bars(windows: Sequence[WindowWeight]) -> Markup:
    """A bar a window, in the order of the text: upwards for the answer, downwards against it."""
    weights = [window["weight"] for window in windows]
    highest, lowest = max(0.0, *weights), min(0.0, *weights)
    scale = HEIGHT / ((highest - lowest) or 1.0)
    step = min(WIDTH / len(windows), WIDEST)
    gap = min(1.5, step / 4)
    zero = highest * scale
    best = deciding(windows)
    parts = [
        svg_start(
            math.ceil(step * len(windows)), HEIGHT, "What each window adds, in the order of the text", "windows", True
        )
    ]
    for place, (window, weight) in enumerate(zip(windows, weights, strict=True)):
        top, height = (zero - weight * scale, weight * scale) if weight >= 0 else (zero, -weight * scale)
        kind = "against" if weight < 0 else "decided" if place == best else "for"
        said = f"tokens {window['start']:,} to {window['start'] + window['tokens']:,}: {weight:+.3f}"
        parts.append(
            f'<rect class="{kind}" x="{place * step:.1f}" y="{top:.1f}" width="{step - gap:.1f}" '
            f'height="{max(height, 1.0):.1f}"><title>{said}</title></rect>'
        )
    parts.append(f'<line class="axis" x1="0" x2="{step * len(windows):.1f}" y1="{zero:.1f}" y2="{zero:.1f}"/></svg>')
    return Markup("".join(parts))
