"""Probabilities of a model for the documents of a data set."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from doctune.batches.collate import Collator
from doctune.batches.plan import sorted_plan
from doctune.devices import Device
from doctune.distributed import World
from doctune.errors import TrainingError
from doctune.evaluation.schema import WindowWeight
from doctune.files import atomic_path
from doctune.models.classifier import Classifier
from doctune.progress import Progress
from doctune.store.splits import Dataset
from doctune.tensors import Batch

TOKENS_PER_BATCH = 8192
WEIGHT_DIGITS = 4
Probabilities = npt.NDArray[np.float64]
Windows = dict[int, list[WindowWeight]]
"""The windows of each document that has several, by its place in the data set."""


def predict(
    model: Classifier, dataset: Dataset, collator: Collator, device: Device, what: str | None = None,
    world: World | None = None,
) -> Probabilities:  # fmt: skip
    """Class probabilities [D, C] in the data set's order; `what` names the progress bar, None shows none.

    Of several processes each predicts some of the batches, and all get all of the probabilities.
    Raises `TrainingError` naming the documents for which the model gives no finite number.
    """
    return predict_windows(model, dataset, collator, device, what, world)[0]


@torch.inference_mode()
def predict_windows(
    model: Classifier, dataset: Dataset, collator: Collator, device: Device, what: str | None = None,
    world: World | None = None,
) -> tuple[Probabilities, Windows]:  # fmt: skip
    """As `predict`, and what each window of a document with several added to its answer."""
    training = model.training
    model.eval()
    probabilities = np.zeros((len(dataset), len(dataset.names)))
    windows: Windows = {}
    plan = sorted_plan(collator.lengths(dataset), TOKENS_PER_BATCH)
    progress = Progress(len(dataset), what, "documents") if what else None
    rank, size = (0, 1) if world is None else (world.rank, world.size)
    for places in islice(plan, rank, None, size):
        batch = collator(dataset, places).to(device.torch)
        with device.autocast():
            if batch.num_windows == batch.num_documents:
                logits = model(batch)
            else:
                logits, added = model.explained(batch)
                for place, weights in zip(places.tolist(), _weights(batch, logits, added), strict=True):
                    where = collator.places(dataset, place)
                    if where:
                        windows[place] = _windows(where, weights)
        probabilities[places] = torch.softmax(logits.cpu().double(), dim=-1).numpy()
        if progress:
            progress.advance(min(size * len(places), len(dataset) - progress.count))
    if progress:
        progress.close()
    model.train(training)
    if world is not None:
        world.all_reduce(torch.from_numpy(probabilities))
        windows = dict(pair for one in world.gather(list(windows.items())) for pair in one)
    lost = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(lost):
        named = ", ".join(dataset.ids(lost[:8])) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
        raise TrainingError(f"{dataset.name}: the model gives no finite number for these documents: {named}")
    return probabilities, windows


def _weights(batch: Batch, logits: torch.Tensor, added: torch.Tensor) -> list[list[float]]:
    """What each window adds to the logit of its document's answer, above the mean of all classes; by document.

    Only differences between logits mean anything: what a window adds to all of them decides nothing.
    """
    predicted = logits.argmax(dim=1)[batch.window_of]
    weights = added.gather(1, predicted.unsqueeze(1)).squeeze(1) - added.mean(dim=1)
    counts = torch.bincount(batch.window_of, minlength=batch.num_documents).tolist()
    values = iter(weights.tolist())
    return [list(islice(values, count)) for count in counts]


def _windows(places: Sequence[tuple[int, int]], weights: Sequence[float]) -> list[WindowWeight]:
    return [
        {"start": start, "tokens": tokens, "weight": round(weight, WEIGHT_DIGITS) + 0.0}  # never -0.0
        for (start, tokens), weight in zip(places, weights, strict=True)
    ]


def prediction_rows(
    ids: Sequence[str], names: tuple[str, ...], probabilities: Probabilities, labels: Sequence[int] | None = None,
    windows: Mapping[int, list[WindowWeight]] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """One dict a document: id, predicted label, its probability, all probabilities, and the true label if known.

    `windows` by place are added to the documents that have several.
    """
    for place, (identity, row) in enumerate(zip(ids, probabilities, strict=True)):
        best = int(row.argmax())
        true = -1 if labels is None else int(labels[place])
        yield {
            "id": identity,
            "label": names[best],
            "probability": round(float(row[best]), 6),
            "probabilities": {name: round(float(p), 6) for name, p in zip(names, row, strict=True)},
            **({"true_label": names[true]} if true >= 0 else {}),
            **({"windows": windows[place]} if windows and place in windows else {}),
        }


def write_predictions(
    path: Path, dataset: Dataset, probabilities: Probabilities, windows: Windows | None = None
) -> None:
    """`prediction_rows` of a data set as JSON lines."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in prediction_rows(dataset.ids(), dataset.names, probabilities, dataset.labels.tolist(), windows):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
