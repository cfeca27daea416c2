"""Probes to read: probe.json, the page, the Markdown table, and the table on the terminal.

Everything here reads the `Probe` dictionary only, so that an older probe.json can be shown again.
"""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Literal, cast

from markupsafe import Markup, escape

from doctune.evaluation.probe import CellJson, ErrorJson, Probe
from doctune.files import write_json, write_text
from doctune.report.charts import svg_start
from doctune.report.finetuning import TABLE_WIDTH, pages, writable

Part = Literal["validation", "test"]
LEGEND = "* fewest errors on validation, ~ cannot be told from it there"


def write_probe(folder: Path, probe: Probe) -> None:
    """Write probe.json, probe.html and probe.md."""
    safe = cast(Probe, writable(probe))
    write_json(folder / "probe.json", safe)
    write_text(folder / "probe.html", render_html(safe))
    write_text(folder / "probe.md", markdown(safe))


def render_html(probe: Probe) -> str:
    """The page as text; everything that comes from the probe is escaped."""
    parts = _parts(probe)
    return (
        pages()
        .get_template("probe.html")
        .render(
            probe=probe,
            best=probe["cells"][probe["best"]],
            advised=probe["cells"][probe["advised"]],
            parts=parts,
            maps={part: heat_map(probe, part) for part in parts},
            labels=_labels(probe).replace(" %", "\u00a0%"),
            ties=sum(cell["tied"] for cell in probe["cells"]) - 1,
        )
    )


def markdown(probe: Probe) -> str:
    """Sentences, a table for each part, and the command, to paste into notes."""
    lines = [f"# Which layer to fine-tune? {_escaped(probe['title'])}", "", " ".join(probe["sentences"]), ""]
    lines += ["```", probe["finetune"], "```", ""]
    poolings = _poolings(probe)
    for part in _parts(probe):
        lines += [f"{part.capitalize()} error % of a linear probe, with 95 % intervals:", ""]
        lines += [f"| layer | {' | '.join(poolings)} |", f"| ---: |{' ---: |' * len(poolings)}"]
        for layer, row in _rows(probe):
            cells = [f"{_interval(_of(cell, part))}{_mark(probe, cell, ' **best**', ' ~')}" for cell in row]
            lines.append(f"| {layer} | {' | '.join(cells)} |")
        lines.append("")
    lines += ["~: cannot be told from the best on validation. " + _labels(probe), ""]
    lines += [f"- {_escaped(warning)}" for warning in probe["warnings"]]
    return "\n".join([*lines, "", "```", probe["command"], "```", ""])


def summary_table(probe: Probe) -> str:
    """The plain text that the command line prints at the end; no line is wider than 100 columns."""
    poolings, lines = _poolings(probe), [_labels(probe)]
    for part in _parts(probe):
        lines += ["", f"{part} error % of a linear probe", f"layer{''.join(f'{name:>10}  ' for name in poolings)}"]
        for layer, row in _rows(probe):
            cells = [
                f"{_of(cell, part)['error_percent']:>10.2f}{_mark(probe, cell, ' *', ' ~') or '  '}" for cell in row
            ]
            lines.append(f"{layer:>5}{''.join(cells)}".rstrip())
    lines += [LEGEND, ""]
    for text in (*probe["sentences"], *(f"warning: {warning}" for warning in probe["warnings"])):
        lines += textwrap.wrap(text, TABLE_WIDTH, subsequent_indent="  ")
    return "\n".join(line.rstrip() for line in [*lines, "", f"  {probe['finetune']}"])


def heat_map(probe: Probe, part: Part) -> Markup:
    """Errors by layer, the highest on top, and by pooling: the fewer, the darker; what to fine-tune is framed."""
    rows, poolings = _rows(probe), _poolings(probe)
    wide, high, left, top = 108, 34 if len(rows) <= 14 else 25, 96, 34
    errors = [_of(cell, part)["error_percent"] for cell in probe["cells"]]
    span = max(errors) - min(errors) or 1.0
    best = probe["cells"][probe["best"]]
    title = (
        f"{part.capitalize()} error of linear probes on {len(rows)} layers and {len(poolings)} poolings; the best on "
        f"validation is layer {best['layer']} with {best['token_pooling']}"
    )
    parts = [svg_start(left + wide * len(poolings) + 6, top + high * len(rows) + 4, title, "confusion", fixed=True)]
    for j, name in enumerate(poolings):
        place = f'x="{left + (j + 0.5) * wide:.0f}" y="{top - 11}"'
        parts.append(f'<text class="side" text-anchor="middle" {place}>{escape(name)}</text>')
    for i, (layer, row) in enumerate(rows):
        y, last = top + i * high, layer == probe["encoder"]["num_layers"] - 1
        middle = y + high / 2 + 4
        parts.append(
            f'<text class="side" text-anchor="end" x="{left - 10}" y="{middle:.1f}">'
            f"{f'last layer, {layer}' if last else f'layer {layer}'}</text>"
        )
        for j, cell in enumerate(row):
            found, x = _of(cell, part), left + j * wide
            shade = 0.05 + 0.87 * (max(errors) - found["error_percent"]) / span
            mark = _mark(probe, cell, " ★", " ≈")
            tip = f"layer {layer}, {cell['token_pooling']}: {_interval(found)} %, L2 {cell['l2']:g}"
            tip += {" ★": ", best on validation", " ≈": ", cannot be told from the best"}.get(mark, "")
            advised = cell is probe["cells"][probe["advised"]]
            tip += ", to fine-tune" if advised else ""
            frame = ' stroke="var(--ink)" stroke-width="2"' if advised else ""
            parts.append(
                f'<g><title>{escape(tip)}</title><rect class="right" x="{x + 1}" y="{y + 1}" width="{wide - 2}" '
                f'height="{high - 2}" fill-opacity="{shade:.2f}"{frame}/>'
                f'<text class="{"on" if shade > 0.6 else "off"}" font-size="13" text-anchor="middle" '
                f'x="{x + wide / 2:.0f}" y="{middle:.1f}">{found["error_percent"]:.2f} %{mark}</text></g>'
            )
    return Markup("".join(parts) + "</svg>")


def _parts(probe: Probe) -> list[Part]:
    return ["validation", "test"] if probe["cells"][probe["best"]]["test"] is not None else ["validation"]


def _poolings(probe: Probe) -> list[str]:
    return list(dict.fromkeys(cell["token_pooling"] for cell in probe["cells"]))


def _rows(probe: Probe) -> list[tuple[int, list[CellJson]]]:
    """The cells of each layer, the highest first."""
    layers = sorted({cell["layer"] for cell in probe["cells"]}, reverse=True)
    return [(layer, [cell for cell in probe["cells"] if cell["layer"] == layer]) for layer in layers]


def _of(cell: CellJson, part: Part) -> ErrorJson:
    found = cell[part]
    assert found is not None
    return found


def _mark(probe: Probe, cell: CellJson, best: str, tied: str) -> str:
    if cell is probe["cells"][probe["best"]]:
        return best
    return tied if cell["tied"] else ""


def _interval(found: ErrorJson) -> str:
    return f"{found['error_percent']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _labels(probe: Probe) -> str:
    """What the figures rest on."""
    data, encoder = probe["data"], probe["encoder"]
    train = f"{data['train']:,}"
    if data["chosen_from"] is not None:
        train += f" (chosen from {data['chosen_from']:,})"
    counts = f"{train} training, {data['validation']:,} validation"
    counts += f", {data['test']:,} test documents" if data["test"] else " documents"
    return (
        f"{encoder['name']}, {encoder['num_layers']} layers of {encoder['hidden_size']}; {probe['title']}, {counts}; "
        f"always answering the largest class: {data['majority_error_percent']:.2f} % error on validation."
    )


def _escaped(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
