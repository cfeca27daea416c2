"""The errors by layer and pooling."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from doctune.evaluation.probe import Probe
from doctune.report.figure import Cells
from doctune.report.lines import row_of
from doctune.report.numbers import fixed, known, value
from doctune.report.page import Section
from doctune.report.sections.probe._rows import Part, at, errors_of, labels, mark, parts, poolings, rows, written
from doctune.report.sections.probe.answer import sentences

LEGEND = "* fewest errors on validation, ~ cannot be told from it there"

HTML = """
<div class="two">
{% for part, map in maps.items() %}
<div>
<p class="what">{{ part | capitalize }}, {{ report.data[part] | whole }} documents</p>
<div class="scroll">{{ map }}</div>
</div>
{% endfor %}
</div>
<p class="note">★ fewest errors on validation. ≈ cannot be told from it there: the 95 % interval of the difference, by a paired bootstrap over the validation documents, reaches 0. Framed: what to fine-tune, the highest layer of these. The darker, the fewer errors{% if maps | length > 1 %}; each map has its own scale{% endif %}.</p>
<p class="note">A probe is a logistic regression on vectors of an encoder that stands still: it shows where the classes already lie apart by a plane. Its strength of L2 was chosen by the loss on the validation documents, which flatters all validation errors a little. Fine-tuning changes the layers, and the more of them it may change, the further it gets from what a probe sees: so a good probe is a good place to begin, and no promise.</p>
"""


def heat_map(probe: Probe, part: Part) -> Markup:
    """Errors by layer, the highest on top, and by pooling: the fewer, the darker; what to fine-tune is framed."""
    layers, names = rows(probe), poolings(probe)
    errors = [e for cell in probe["cells"] if known(e := errors_of(cell, part)["error_percent"])]
    if not errors:
        return Markup("")
    span = max(errors) - min(errors) or 1.0
    best, advised = at(probe, "best"), at(probe, "advised")
    title = f"{part.capitalize()} error of linear probes on {len(layers)} layers and {len(names)} poolings"
    if best is not None:
        title += f"; the best on validation is layer {value(best['layer'])} with {best['token_pooling']}"
    last = probe["encoder"]["num_layers"] - 1
    sides = [f"last layer, {layer}" if layer == last else f"layer {layer}" for layer, _ in layers]
    field = Cells(title, sides, names, (108, 34 if len(layers) <= 14 else 25))
    for i, (layer, row) in enumerate(layers):
        for cell in row:
            of_part = errors_of(cell, part)
            error = of_part["error_percent"]
            beside = mark(probe, cell, " ★", " ≈")
            tip = f"layer {layer}, {cell['token_pooling']}: {written(of_part)} %, L2 {value(cell['l2'])}"
            tip += {" ★": ", best on validation", " ≈": ", cannot be told from the best"}.get(beside, "")
            tip += ", to fine-tune" if cell is advised else ""
            shade = 0.05 + 0.87 * (max(errors) - error) / span if known(error) else 0.0
            place = i, names.index(cell["token_pooling"])
            field.cell(*place, f"{fixed(error)} %{beside}", shade, tip, framed=cell is advised)
    return field.svg()


def values(probe: Probe) -> dict[str, Any]:
    """A map for each part."""
    return {"maps": {part: heat_map(probe, part) for part in parts(probe)}}


def text(probe: Probe) -> list[str]:
    """A table for each part, and what they say."""
    lines = []
    for part in parts(probe):
        lines += ["", f"{part} error % of a linear probe"]
        lines.append(f"layer{''.join(f'{name:>10}  ' for name in poolings(probe))}")
        for layer, row in rows(probe):
            cells = [
                f"{fixed(errors_of(cell, part)['error_percent']):>10}{mark(probe, cell, ' *', ' ~') or '  '}"
                for cell in row
            ]
            lines.append(f"{layer:>5}{''.join(cells)}")
    return [*lines, LEGEND, "", *sentences(probe)]


def markdown(probe: Probe) -> list[str]:
    """A table for each part."""
    lines, names = [], poolings(probe)
    for part in parts(probe):
        lines += [f"{part.capitalize()} error % of a linear probe, with 95 % intervals:", ""]
        lines += [row_of(["layer", *names]), f"| ---: |{' ---: |' * len(names)}"]
        for layer, row in rows(probe):
            cells = [f"{written(errors_of(cell, part))}{mark(probe, cell, ' **best**', ' ~')}" for cell in row]
            lines.append(row_of([str(layer), *cells]))
        lines.append("")
    return [*lines, "~: cannot be told from the best on validation. " + labels(probe), ""]


SECTION = Section(
    name="maps", place=20, title="Error by layer and pooling", html=HTML, values=values, text=text, markdown=markdown
)
