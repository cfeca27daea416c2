"""What answers: texts in, probabilities out."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch

from doctune.batches.collate import Collator, TokenisedDocuments, make_collator
from doctune.batches.plan import sorted_plan
from doctune.classifier.folder import DESCRIPTION, Description, load_model
from doctune.classifier.forks import answering
from doctune.classifier.texts import Text, as_examples, each_example, tokenise
from doctune.devices import Device, choose_device
from doctune.distributed import World
from doctune.encoders.resolve import encoder_in
from doctune.errors import CheckpointError, TrainingError
from doctune.evaluation.schema import Windows, WindowWeight
from doctune.examples import Example
from doctune.files import atomic_path
from doctune.heads.links import Link
from doctune.metrics.single import Probabilities
from doctune.models.classifier import Classifier
from doctune.progress import Progress
from doctune.settings.implementations import own_classes
from doctune.store.splits import Dataset
from doctune.targets import Target
from doctune.tensors import Batch
from doctune.text.tokenizer import TextTokenizer

TOKENS_PER_BATCH = 8192
# Documents read, tokenised and predicted at a time, so that a file of any size needs constant memory.
DOCUMENTS_AT_A_TIME = 20_000
WEIGHT_DIGITS = 4
LABELS_SHOWN = 5


@torch.inference_mode()
def predict_documents(
    model: Classifier, documents: TokenisedDocuments, collator: Collator, device: Device, what: str | None = None,
    world: World | None = None,
) -> tuple[Probabilities, Windows]:  # fmt: skip
    """Class probabilities [D, C] in the documents' order, and what each window of one with several added to its answer.

    The model must be in evaluation mode, and nothing of the call stays on it: several threads may use it at a time.
    `what` names the progress bar, None shows none. Of several processes each predicts some of the batches, and all get
    all of the probabilities. Raises `TrainingError` naming the documents for which the model gives no finite number.
    """
    if model.training:
        raise TrainingError("the model is in training mode, where dropout makes answers random; call its eval() first")
    probabilities = np.zeros((len(documents), len(documents.names)))
    windows: Windows = {}
    plan = sorted_plan(collator.lengths(documents), TOKENS_PER_BATCH)
    progress = Progress(len(documents), what, "documents") if what else None
    rank, size = (0, 1) if world is None else (world.rank, world.size)
    for places in islice(plan, rank, None, size):
        batch = collator(documents, places).to(device.torch)
        with device.autocast():
            if batch.num_windows == batch.num_documents:
                logits = model(batch)
            else:
                logits, added = model.explained(batch)
                for place, weights in zip(
                    places.tolist(), _weights(model.task.link, batch, logits, added), strict=True
                ):
                    where = collator.places(documents, place)
                    if where:
                        windows[place] = _windows(where, weights)
        probabilities[places] = model.task.link.probabilities(logits).numpy()
        if progress:
            progress.advance(min(size * len(places), len(documents) - progress.count))
    if progress:
        progress.close()
    if world is not None:
        world.all_reduce(torch.from_numpy(probabilities))
        windows = dict(pair for one in world.gather(list(windows.items())) for pair in one)
    lost = np.flatnonzero(~np.isfinite(probabilities).all(axis=1))
    if len(lost):
        named = ", ".join(documents.ids(lost[:8])) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
        raise TrainingError(f"{documents.name}: the model gives no finite number for these documents: {named}")
    return probabilities, windows


def _weights(link: Link, batch: Batch, logits: torch.Tensor, added: torch.Tensor) -> list[list[float]]:
    """How much each window speaks for its document's answer, by document."""
    weights = link.evidence(logits[batch.window_of], added)
    counts = torch.bincount(batch.window_of, minlength=batch.num_documents).tolist()
    values = iter(weights.tolist())
    return [list(islice(values, count)) for count in counts]


def _windows(places: Sequence[tuple[int, int]], weights: Sequence[float]) -> list[WindowWeight]:
    return [
        {"start": start, "tokens": tokens, "weight": round(weight, WEIGHT_DIGITS) + 0.0}  # never -0.0
        for (start, tokens), weight in zip(places, weights, strict=True)
    ]


def prediction_rows(
    ids: Sequence[str], target: Target, probabilities: Probabilities, label_texts: Sequence[str | None] | None = None,
    windows: Mapping[int, list[WindowWeight]] | None = None, empty: Container[int] = (),
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """One dict a document: id, predicted label, its probability, all probabilities, and the true label if known.

    `windows` by place are added to the documents that have several. At the places in `empty` nothing could be read:
    label and probability are None there, and `empty` is true.
    """
    for place, (identity, row) in enumerate(zip(ids, probabilities, strict=True)):
        true = None if label_texts is None else label_texts[place]
        yield {
            "id": identity,
            **target.row(row),
            **({"label": None, "probability": None} if place in empty else {}),
            **({} if true is None else {"true_label": true}),
            **({"windows": windows[place]} if windows and place in windows else {}),
            **({"empty": True} if place in empty else {}),
        }


def write_predictions(
    path: Path, dataset: Dataset, probabilities: Probabilities, windows: Windows | None = None
) -> None:
    """`prediction_rows` of a data set as JSON lines."""
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in prediction_rows(dataset.ids(), dataset.target, probabilities, dataset.label_texts(), windows):
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


@dataclass(frozen=True, slots=True, repr=False)
class Predictor:
    """A model with everything that use needs; several threads may share one.

    It has two doors: texts in memory, and a data set that is tokenised already.
    """

    model: Classifier
    description: Description
    tokenizer: TextTokenizer
    collator: Collator
    device: Device

    def __repr__(self) -> str:
        encoder = self.model.encoder
        shown = ", ".join(self.labels[:LABELS_SHOWN]) + (", ..." if len(self.labels) > LABELS_SHOWN else "")
        return (
            f"Predictor({encoder.config.model_type}, {max(encoder.layers) + 1} layers of {encoder.hidden_size}; "
            f"{len(self.labels)} classes: {shown}; {self.device.torch}, {self.device.precision})"
        )

    @property
    def target(self) -> Target:
        """What an answer is."""
        return self.description.target

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order of the columns of `predict_proba`."""
        return self.description.labels

    def predict_proba(self, texts: str | Iterable[Text]) -> Probabilities:
        """Class probabilities [D, C] of texts or text pairs, columns as in `labels`; [C] of a single `str`.

        A text without any token has no evidence in it and gets equal probabilities. Raises `DataError` that names the
        place of what is no text.
        """
        if isinstance(texts, str):
            row: Probabilities = self._answer(as_examples([texts])).probabilities[0]
            return row
        return self._answer(as_examples(texts)).probabilities

    @overload
    def predict(self, texts: str) -> str | None: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, texts: Iterable[Text]) -> list[str | None]: ...

    def predict(self, texts: str | Iterable[Text]) -> str | list[str | None] | None:
        """The most probable label of each text or text pair, None for one without any token; of a `str` its label.

        Raises `DataError` that names the place of what is no text.
        """
        if isinstance(texts, str):
            return self.predict([texts])[0]
        answer = self._answer(as_examples(texts))
        decided = self.target.decide(answer.probabilities)
        return [None if place in answer.empty else self.target.text(one) for place, one in enumerate(decided)]

    def rows(self, examples: Iterable[Example | Text], what: str | None = None) -> Iterator[dict[str, Any]]:
        """One dict a document, in order: id, label, probability, probabilities; windows where there are several.

        A document without any token has neither label nor probability, and `empty` is true. The ids of texts are their
        places, from "0". Raises `DataError` that names the place of what is no text.
        """
        waiting = each_example(examples)
        while part := list(islice(waiting, DOCUMENTS_AT_A_TIME)):
            answer = self._answer(part, what)
            yield from prediction_rows(
                [example.id for example in part], self.target, answer.probabilities, windows=answer.windows,
                empty=answer.empty,
            )  # fmt: skip

    def predict_dataset(
        self, dataset: Dataset, what: str | None = None, world: World | None = None
    ) -> tuple[Probabilities, Windows]:
        """`predict_documents` for documents that are tokenised already."""
        with answering(self.device):
            return predict_documents(self.model, dataset, self.collator, self.device, what, world)

    def _answer(self, examples: Sequence[Example], what: str | None = None) -> _Answer:
        result = np.full((len(examples), len(self.labels)), 1.0 / len(self.labels))
        with answering(self.device):
            texts = tokenise(examples, self.tokenizer, self.labels)
            if not len(texts):
                return _Answer(result, {}, frozenset(range(len(examples))))
            found, windows = predict_documents(self.model, texts, self.collator, self.device, what)
        result[texts.places] = found
        places = texts.places.tolist()
        by_place = {places[place]: weights for place, weights in windows.items()}
        return _Answer(result, by_place, frozenset(range(len(examples))).difference(places))


@dataclass(frozen=True, slots=True)
class _Answer:
    """Probabilities [D, C] of all documents, the windows of those with several, and the places of the empty ones."""

    probabilities: Probabilities
    windows: Windows
    empty: frozenset[int]


def load(
    model: str | Path, device: str = "auto", precision: Literal["auto", "fp32", "bf16"] = "auto",
    components: Sequence[str | type] = (),
) -> Predictor:  # fmt: skip
    """Load a model folder, or the model of a run directory.

    `components` are classes of your own that the model is made of (a pooling, say), as such or as
    `my_file.py:MyClass`: a model's folder holds their names and never code. Raises `CheckpointError` for a folder that
    doctune did not write, `ConfigError` where a class is missing.
    """
    folder = model_folder(Path(model).expanduser())
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: no such folder; give a run directory of doctune finetune, or its model folder"
        )
    chosen, own = choose_device(device, precision), own_classes(components)
    classifier, description = load_model(folder, own=own)
    tokenizer = TextTokenizer.load(encoder_in(folder))
    collator = make_collator(tokenizer, description.truncation, own)
    return Predictor(classifier.to(chosen.torch), description, tokenizer, collator, chosen)


def model_folder(folder: Path) -> Path:
    """The folder itself, or the model of a run directory."""
    inside = folder / "model"
    return inside if not (folder / DESCRIPTION).is_file() and (inside / DESCRIPTION).is_file() else folder
