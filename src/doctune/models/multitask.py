"""Several tasks on one encoder: each is an ordinary classifier, and they share the encoder's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Self

from torch import Tensor, nn

from doctune.models.base import EncoderModel
from doctune.models.classifier import Classifier
from doctune.tensors import Batch, Loss


class MultitaskModel(EncoderModel):
    """Packed batch of one task in, that task's logits [D, C] out; the batch names its task.

    What came with the encoder, its pooler too, is shared by the tasks, as in the original; what is new (a head, and a
    pooling that is learnt) is each task's own. The weights are listed once: the encoder, and the tasks' modules in the
    order of the tasks, so that they are exactly those of the classifiers.
    """

    def __init__(self, classifiers: Mapping[str, Classifier]) -> None:
        encoder = next(iter(classifiers.values())).encoder
        assert all(classifier.encoder is encoder for classifier in classifiers.values())
        super().__init__(encoder)
        # A plain dict, which PyTorch does not look into: it would list the encoder once for each.
        self._classifiers = dict(classifiers)
        # A list, because the names of tasks cannot all be names of modules ("type", or one with a dot).
        self.tasks = nn.ModuleList(classifier.task for classifier in classifiers.values())

    @property
    def classifiers(self) -> dict[str, Classifier]:
        """The classifier of each task, on the shared encoder."""
        return self._classifiers

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.classifiers[batch.task](batch)
        return logits

    def losses(self, batch: Batch) -> tuple[dict[str, Loss], Tensor]:
        """The loss of a labelled batch by the name of its task, and the logits it came from: [D, C]."""
        losses, logits = self.classifiers[batch.task].losses(batch)
        return {batch.task: losses["label"]}, logits

    def counts(self, batch: Batch) -> dict[str, float]:
        """What the loss will be divided by, known before it is computed."""
        return {batch.task: self.classifiers[batch.task].counts(batch)["label"]}

    def freeze_encoder(self, frozen: bool = True) -> None:
        """As for every model, for each of the classifiers."""
        for classifier in self.classifiers.values():
            classifier.freeze_encoder(frozen)
        super().freeze_encoder(frozen)

    def train(self, mode: bool = True) -> Self:
        """As for every model, for each of the classifiers, too."""
        for classifier in self.classifiers.values():
            classifier.train(mode)
        return super().train(mode)
