"""Probabilities of a model for the documents of a data set."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
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
from doctune.files import atomic_path
from doctune.models.classifier import Classifier
from doctune.progress import Progress
from doctune.store.splits import Dataset

TOKENS_PER_BATCH = 8192
Probabilities = npt.NDArray[np.float64]


@torch.inference_mode()
def predict(
    model: Classifier, dataset: Dataset, collator: Collator, device: Device, what: str | None = None,
    world: World | None = None,
) -> Probabilities:  # fmt: skip
    """Class probabilities [D, C] in the data set's order; `what` names the progress bar, None shows none.

    Of several processes each predicts some of the batches, and all get all of the probabilities.
    Raises `TrainingError` naming the documents for which the model gives no finite number.
    """
    training = model.training
    model.eval()
    probabilities = np.zeros((len(dataset), len(dataset.names)))
    plan = sorted_plan(collator.lengths(dataset), TOKENS_PER_BATCH)
    progress = Progress(len(dataset), what, "documents") if what else None
    rank, size = (0, 1) if world is None else (world.rank, world.size)
    for places in itertools.islice(plan, rank, None, size):
        batch = collator(dataset, places).to(device.torch)
        with device.autocast():
            logits = model(batch)
        probabilities[places] = torch.softmax(logits.cpu().double(), dim=-1).numpy()
        if progress:
            progress.advance(min(size * len(places), len(dataset) - progress.count))
    if progress:
        progress.close()
    model.train(training)
    if world is not None:
        world.all_reduce(torch.from_numpy(probabilities))
    lost = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(lost):
        named = ", ".join(dataset.ids(lost[:8])) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
        raise TrainingError(f"{dataset.name}: the model gives no finite number for these documents: {named}")
    return probabilities


def prediction_rows(
    ids: Sequence[str], names: tuple[str, ...], probabilities: Probabilities, labels: Sequence[int] | None = None
) -> Iterator[dict[str, Any]]:
    """One dict a document: id, predicted label, its probability, all probabilities, and the true label if known."""
    for place, (identity, row) in enumerate(zip(ids, probabilities, strict=True)):
        best = int(row.argmax())
        true = -1 if labels is None else int(labels[place])
        yield {
            "id": identity,
            "label": names[best],
            "probability": round(float(row[best]), 6),
            "probabilities": {name: round(float(p), 6) for name, p in zip(names, row, strict=True)},
            **({"true_label": names[true]} if true >= 0 else {}),
        }


def write_predictions(path: Path, dataset: Dataset, probabilities: Probabilities) -> None:
    """`prediction_rows` of a data set as JSON lines."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in prediction_rows(dataset.ids(), dataset.names, probabilities, dataset.labels.tolist()):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
