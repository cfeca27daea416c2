"""What linear probes say: errors of every layer and pooling, which is best, and which cannot be told from it.

Keys of probe.json are stable. `_percent` is 0..100, layers count from 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from doctune.evaluation.intervals import paired_bootstrap
from doctune.metrics.single import wilson_interval

# Layers and poolings that a sentence names; of more it gives the number.
NAMED = 6


class ErrorJson(TypedDict):
    """The errors of one probe on a set of documents, with Wilson's 95 % interval."""

    errors: int
    count: int
    error_percent: float
    low: float
    high: float


class CellJson(TypedDict):
    """One layer and pooling. `tied`: on validation it cannot be told from the best one (which is tied itself)."""

    layer: int
    token_pooling: str
    l2: float
    validation_loss: float
    validation: ErrorJson
    test: ErrorJson | None
    tied: bool


class ProbeData(TypedDict):
    """The documents; `chosen_from` is the number of training documents of which `train_examples` chose some."""

    train: int
    validation: int
    test: int
    validation_from: str
    chosen_from: int | None
    labels: list[str]
    majority_error_percent: float


class ProbeEncoder(TypedDict):
    """The encoder, as it is."""

    name: str
    num_layers: int
    hidden_size: int
    packing: str


class Probe(TypedDict):
    """probe.json. `best` and `advised` are positions in `cells`: the fewest errors, and what to fine-tune."""

    format: int
    doctune: str
    created: str
    command: str
    title: str
    encoder: ProbeEncoder
    data: ProbeData
    max_seq_len: int
    truncation: str
    cells: list[CellJson]
    best: int
    advised: int
    sentences: list[str]
    finetune: str
    warnings: list[str]
    seconds: dict[str, float]


@dataclass(frozen=True, slots=True)
class ProbeAnswers:
    """What the probe of one layer and pooling got right: booleans [D] for validation, and for test if there is one."""

    layer: int
    token_pooling: str
    l2: float
    validation_loss: float
    validation: npt.NDArray[np.bool_]
    test: npt.NDArray[np.bool_] | None


def judge(answers: Sequence[ProbeAnswers]) -> tuple[list[CellJson], int]:
    """The cells, and which of them makes the fewest errors on validation; of equal ones, that of the least loss.

    A cell is tied with the best one if the 95 % interval of their difference, by a paired bootstrap over the
    validation documents, reaches 0.
    """
    best = min(answers, key=lambda one: (int((~one.validation).sum()), one.validation_loss))
    cells: list[CellJson] = []
    for one in answers:
        tied = one is best or paired_bootstrap(one.validation, best.validation).low <= 0
        cells.append({
            "layer": one.layer, "token_pooling": one.token_pooling, "l2": one.l2,
            "validation_loss": one.validation_loss, "validation": _errors(one.validation),
            "test": None if one.test is None else _errors(one.test), "tied": bool(tied),
        })  # fmt: skip
    return cells, next(i for i, one in enumerate(answers) if one is best)


def _errors(correct: npt.NDArray[Any]) -> ErrorJson:
    errors, count = int((~correct).sum()), len(correct)
    low, high = wilson_interval(errors, count)
    return {"errors": errors, "count": count, "error_percent": 100 * errors / count, "low": low, "high": high}


def advise(cells: Sequence[CellJson], best: int) -> int:
    """Which cell to fine-tune: the highest layer that is tied with the best one, and its pooling of fewest errors.

    Fine-tuning trains all layers up to the one that is used, so of equal ones the highest has the most to learn with.
    """
    tied = [i for i, cell in enumerate(cells) if cell["tied"]]
    order = {i: (-cells[i]["layer"], cells[i]["validation"]["errors"], i != best) for i in tied}
    return min(tied, key=lambda i: order[i])


def sentences(cells: Sequence[CellJson], best: int, num_layers: int) -> list[str]:
    """Which layer and pooling to fine-tune, and how sure that is, in plain words."""
    advised = advise(cells, best)
    chosen, first = cells[advised], cells[best]
    found, count = first["validation"], first["validation"]["count"]
    fewest = f"makes the fewest errors of {len(cells)}, {_percent(found)} of {count:,} validation documents"
    if advised == best:
        said = [f"Fine-tune {_name(chosen)}: its linear probe {fewest}."]
    else:
        said = [
            f"Fine-tune {_name(chosen)}: the highest of the layers whose linear probes cannot be told from the best.",
            f"The best, {_name(first)}, {fewest}; {_name(chosen)} {_percent(chosen['validation'])}.",
        ]
    if first["test"] is not None and chosen["test"] is not None:
        other = "" if advised == best else f", that of {_name(first)} {_percent(first['test'])}"
        said.append(
            f"On the {chosen['test']['count']:,} test documents the error of {_name(chosen)} is "
            f"{_percent(chosen['test'])}{other}."
        )
    ties = [cell for i, cell in enumerate(cells) if cell["tied"] and i != best]
    if not ties:
        said.append("Every other one is worse by more than chance.")
        return said
    if len(ties) == len(cells) - 1:
        said.append("These validation documents cannot tell any of the others from the best.")
    else:
        named = ", ".join(_name(cell) for cell in sorted(ties, key=lambda cell: cell["validation"]["errors"])[:NAMED])
        more = f" and {len(ties) - NAMED} more" if len(ties) > NAMED else ""
        said.append(f"Near ties, which these documents cannot tell from the best: {named}{more}.")
    lowest = min(cell["layer"] for cell in (*ties, first))
    if lowest < chosen["layer"]:
        said.append(
            f"The cheapest is layer {lowest}: it would run {lowest + 1} of the encoder's {num_layers} layers instead "
            f"of {chosen['layer'] + 1}, and have less to learn with."
        )
    return said


def _name(cell: CellJson) -> str:
    return f"layer {cell['layer']} with {cell['token_pooling']}"


def _percent(found: ErrorJson) -> str:
    return f"{found['error_percent']:.2f} % ({found['low']:.2f} to {found['high']:.2f})"
