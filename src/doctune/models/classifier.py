"""The classifier: an encoder, and what one task has on it."""

from __future__ import annotations

from torch import Tensor

from doctune.encoders.load import Loaded
from doctune.encoders.packed import TransformersEncoder
from doctune.heads.links import Link
from doctune.models.base import EncoderModel
from doctune.models.pieces import encode_pieces
from doctune.models.task_module import TaskModule, build_task_module
from doctune.settings.implementations import Part
from doctune.tensors import Batch, HiddenStates, Loss, one_token_each

# Full windows that are encoded at a time, where documents have several: as many as the paper's batch has texts.
WINDOWS_PER_PASS = 24
TASK = "task."
"""Where the weights of the task module stand in a classifier's state; on disk their names do without."""


class Classifier(EncoderModel):
    """Packed batch in, logits [D, num_outputs] out."""

    def __init__(self, encoder: TransformersEncoder, task: TaskModule) -> None:
        super().__init__(encoder)
        self.task = task
        self.windows_per_pass = WINDOWS_PER_PASS

    def features(self, batch: Batch) -> Tensor:
        """What the head sees: [D, F]."""
        return self.task.features(self.window_vectors(batch), batch)

    def window_vectors(self, batch: Batch) -> Tensor:
        """The vector of each window: [N, F].

        Where documents have several windows, and these more tokens than `windows_per_pass` full ones, they are encoded
        piece by piece. Of a piece only its vectors are kept, and the rest is computed again when its gradient is due:
        memory has a bound that does not depend on the length of the document.
        """
        bound = self.windows_per_pass * batch.max_seqlen
        if batch.num_windows == batch.num_documents or batch.num_tokens <= bound:
            return self._encode(batch)
        parts = (self.encoder, *self.task.first_stage)
        trained = any(parameter.requires_grad for part in parts for parameter in part.parameters())
        return encode_pieces(self._encode, list(batch.pieces(bound)), trained)

    def _encode(self, batch: Batch) -> Tensor:
        with self.encoder_grad():
            states = self._states(batch)
        return self.task.vectors(states)

    def _states(self, batch: Batch) -> HiddenStates:
        """The chosen layers' hidden states; those of the first tokens where the task reads no others."""
        if self.task.reads_first_tokens_only:
            return one_token_each(self.encoder.read(batch, batch.cu_seqlens[:-1]))
        states: HiddenStates = self.encoder(batch)
        return states

    def forward(self, batch: Batch) -> Tensor:
        return self.task.answer(self.window_vectors(batch), batch)

    def explained(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits, and what each window adds to its document's: [N, num_outputs]; see `TaskModule.explained`."""
        return self.task.explained(self.window_vectors(batch), batch)

    def losses(self, batch: Batch) -> tuple[dict[str, Loss], Tensor]:
        """The loss of a labelled batch by name, and the logits it came from: [D, num_outputs]."""
        assert batch.labels is not None
        logits = self(batch)
        return {"label": self.task.link.loss(logits, batch.labels)}, logits

    def counts(self, batch: Batch) -> dict[str, float]:
        """What the loss will be divided by, known before it is computed."""
        assert batch.labels is not None
        return {"label": self.task.link.count(batch.labels)}

    def freeze_encoder(self, frozen: bool = True) -> None:
        """As for every model; a pooler that came with the encoder belongs to it."""
        super().freeze_encoder(frozen)
        self.task.freeze_pretrained(frozen)


def build_classifier(
    loaded: Loaded,
    token_pooling: Part | str,
    layer_pooling: Part | str,
    num_outputs: int,
    link: Link | None = None,
    dropout: float | None = None,
    window_pooling: Part | str | None = None,
    head: Part | str = "linear",
) -> Classifier:
    """Put a classifier on a loaded encoder; the other parameters are those of `build_task_module`."""
    task = build_task_module(
        loaded, token_pooling, layer_pooling, num_outputs, link, dropout, window_pooling, head
    )  # fmt: skip
    return Classifier(loaded.encoder, task)
