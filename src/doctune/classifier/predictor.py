"""Probabilities of a model for the documents of a data set."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from doctune.batches.collate import Collator, make_collator
from doctune.batches.plan import sorted_plan
from doctune.classifier.folder import DESCRIPTION, Description, load_model
from doctune.devices import Device, choose_device
from doctune.distributed import World
from doctune.errors import CheckpointError, TrainingError
from doctune.evaluation.schema import Windows, WindowWeight
from doctune.examples import Example
from doctune.files import atomic_path
from doctune.metrics.single import Probabilities
from doctune.models.classifier import Classifier
from doctune.progress import Progress
from doctune.store.build import NothingToReadError, build_shard
from doctune.store.splits import Dataset, make_dataset, unseen_line
from doctune.targets.base import Target, Unseen
from doctune.tensors import Batch
from doctune.text.tokenizer import TextTokenizer

TOKENS_PER_BATCH = 8192
# Documents read, tokenised and predicted at a time, so that a file of any size needs constant memory.
DOCUMENTS_AT_A_TIME = 20_000
WEIGHT_DIGITS = 4


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
        probabilities[places] = model.task.link.probabilities(logits).numpy()
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
    ids: Sequence[str], target: Target, probabilities: Probabilities, labels: Sequence[str | None] | None = None,
    windows: Mapping[int, list[WindowWeight]] | None = None,
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """One dict a document: id, predicted label, its probability, all probabilities, and the true label if known.

    `windows` by place are added to the documents that have several.
    """
    for place, (identity, row) in enumerate(zip(ids, probabilities, strict=True)):
        true = None if labels is None else labels[place]
        yield {
            "id": identity,
            **target.row(row),
            **({} if true is None else {"true_label": true}),
            **({"windows": windows[place]} if windows and place in windows else {}),
        }


def write_predictions(
    path: Path, dataset: Dataset, probabilities: Probabilities, windows: Windows | None = None
) -> None:
    """`prediction_rows` of a data set as JSON lines."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in prediction_rows(dataset.ids(), dataset.target, probabilities, dataset.label_texts(), windows):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


@dataclass(frozen=True, slots=True)
class Predictor:
    """A model with everything that use needs."""

    model: Classifier
    description: Description
    tokenizer: TextTokenizer
    collator: Collator
    device: Device

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the columns of `predict_proba`."""
        return self.description.labels

    def dataset(
        self, examples: Iterable[Example], folder: Path, name: str, labelled: bool = False,
        unseen_labels: Unseen = "error",
    ) -> Dataset:  # fmt: skip
        """Examples as a data set of this model, with its shard in `folder`."""
        built = build_shard(examples, self.tokenizer, folder, name, show_progress=labelled)
        if labelled and built.left_out_empty:
            print(f"{name}: left out {built.left_out_empty:,} empty documents", file=sys.stderr)
        dataset = make_dataset(name, built.shard, self.description.target, labelled, unseen_labels)
        if labelled and (unseen := dataset.unseen()):
            print(unseen_line(name, unseen), file=sys.stderr)
        return dataset

    def predict_proba(self, texts: Sequence[str | tuple[str, str]]) -> Probabilities:
        """Class probabilities [D, C] of texts or text pairs, columns as in `labels`.

        A text without any token has no evidence in it and gets equal probabilities.
        """
        pairs = [(text, None) if isinstance(text, str) else text for text in texts]
        examples = [Example(str(i), text, text_pair=pair) for i, (text, pair) in enumerate(pairs)]
        return self._probabilities(examples)[0]

    def predict(self, texts: Sequence[str | tuple[str, str]]) -> list[str]:
        """The most probable label of each text."""
        target = self.description.target
        return [target.text(answer) for answer in target.decide(self.predict_proba(texts))]

    def _probabilities(self, examples: list[Example], what: str | None = None) -> tuple[Probabilities, Windows]:
        result = np.full((len(examples), len(self.labels)), 1.0 / len(self.labels))
        with tempfile.TemporaryDirectory(prefix="doctune-") as folder:
            numbered = [Example(str(i), e.text, text_pair=e.text_pair) for i, e in enumerate(examples)]
            try:
                dataset = self.dataset(numbered, Path(folder), "documents")
            except NothingToReadError:
                return result, {}
            places = [int(i) for i in dataset.ids()]
            result[places], windows = predict_windows(self.model, dataset, self.collator, self.device, what)
        return result, {places[place]: found for place, found in windows.items()}

    def rows(self, examples: Iterable[Example], what: str | None = None) -> Iterator[dict[str, Any]]:
        """One dict a document, in order: id, label, probability, probabilities; windows where there are several."""
        waiting: list[Example] = []
        for example in examples:
            waiting.append(example)
            if len(waiting) == DOCUMENTS_AT_A_TIME:
                yield from self._rows(waiting, what)
                waiting = []
        if waiting:
            yield from self._rows(waiting, what)

    def _rows(self, examples: list[Example], what: str | None) -> Iterator[dict[str, Any]]:
        probabilities, windows = self._probabilities(examples, what)
        return prediction_rows([e.id for e in examples], self.description.target, probabilities, windows=windows)


def load(model: str | Path, device: str = "auto", precision: Literal["auto", "fp32", "bf16"] = "auto") -> Predictor:
    """Load a model folder, or the model of a run directory.

    Raises `CheckpointError` for a folder that doctune did not write.
    """
    folder = model_folder(Path(model).expanduser())
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: no such folder; give a run directory of doctune finetune, or its model folder"
        )
    chosen = choose_device(device, precision)
    classifier, description = load_model(folder)
    tokenizer = TextTokenizer.load(folder)
    collator = make_collator(tokenizer, description.truncation)
    return Predictor(classifier.to(chosen.torch), description, tokenizer, collator, chosen)


def model_folder(folder: Path) -> Path:
    """The folder itself, or the model of a run directory."""
    inside = folder / "model"
    return inside if not (folder / DESCRIPTION).is_file() and (inside / DESCRIPTION).is_file() else folder
