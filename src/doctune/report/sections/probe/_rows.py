"""What the maps and tables of linear probes show."""

from __future__ import annotations

from typing import Literal

from doctune.evaluation.probe import CellJson, ErrorJson, Probe
from doctune.report.numbers import fixed, interval, known, value, whole

Part = Literal["validation", "test"]


def at(probe: Probe, which: Literal["best", "advised"]) -> CellJson | None:
    """The cell of the fewest errors, or the one to fine-tune; None where a report does not tell."""
    place = probe[which]
    return probe["cells"][int(place)] if known(place) and 0 <= place < len(probe["cells"]) else None


def parts(probe: Probe) -> list[Part]:
    """Of what there are errors: validation, and test where there was a test set."""
    return ["validation", "test"] if all(cell["test"] is not None for cell in probe["cells"]) else ["validation"]


def poolings(probe: Probe) -> list[str]:
    """The poolings, in their order."""
    return list(dict.fromkeys(cell["token_pooling"] for cell in probe["cells"]))


def rows(probe: Probe) -> list[tuple[int, list[CellJson]]]:
    """The cells of each layer, the highest first."""
    layers = sorted({cell["layer"] for cell in probe["cells"] if known(cell["layer"])}, reverse=True)
    return [(layer, [cell for cell in probe["cells"] if cell["layer"] == layer]) for layer in layers]


def errors_of(cell: CellJson, part: Part) -> ErrorJson:
    """The errors of a cell on a part that there is."""
    errors = cell[part]
    assert errors is not None
    return errors


def mark(probe: Probe, cell: CellJson, best: str, tied: str) -> str:
    """What stands beside the best cell, and beside those that cannot be told from it."""
    if cell is at(probe, "best"):
        return best
    return tied if cell["tied"] else ""


def written(errors: ErrorJson) -> str:
    """An error with its interval."""
    return interval(errors["error_percent"], errors["low"], errors["high"])


def labels(probe: Probe) -> str:
    """What the figures rest on."""
    data, encoder = probe["data"], probe["encoder"]
    train = whole(data["train"])
    if data["chosen_from"] is not None:
        train += f" (chosen from {whole(data['chosen_from'])})"
    counts = f"{train} training, {whole(data['validation'])} validation"
    counts += f", {whole(data['test'])} test documents" if data["test"] else " documents"
    return (
        f"{encoder['name']}, {value(encoder['num_layers'])} layers of {value(encoder['hidden_size'])}; "
        f"{probe['title']}, {counts}; always answering the largest class: {fixed(data['majority_error_percent'])} % "
        f"error on validation."
    )
