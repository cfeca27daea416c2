"""The classifier: encoder, pooling over tokens, over layers and over windows, head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doctune.encoders.base import FAMILIES
from doctune.encoders.dropout import ByteDropout
from doctune.encoders.load import Loaded
from doctune.encoders.packed import TransformersEncoder
from doctune.heads.linear import LinearHead
from doctune.models.base import EncoderModel
from doctune.models.pieces import encode_pieces
from doctune.pooling.layers import LayerPooling
from doctune.pooling.tokens import Pooler
from doctune.pooling.windows import WindowPooling
from doctune.settings.implementations import Part, choose
from doctune.tensors import Batch, HiddenStates, Loss, one_token_each

# Full windows that are encoded at a time, where documents have several: as many as the paper's batch has texts.
WINDOWS_PER_PASS = 24


class Classifier(EncoderModel):
    """Packed batch in, logits [D, C] out.

    Tokens are pooled in every chosen layer first, then the layers: "max over the last four layers" is the maximum of
    their [CLS] vectors, as in the paper. The pooler, if chosen, is shared by the layers. Only a head that reads the
    tokens, in place of the token pooling, comes `after_layers`: it reads one vector a token. Windows come last;
    `window_pooling` is None where every document is one window.
    """

    def __init__(
        self, encoder: TransformersEncoder, token_pooling: nn.Module, layer_pooling: LayerPooling, head: LinearHead,
        window_pooling: WindowPooling | None = None, after_layers: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(encoder)
        self.after_layers = after_layers
        self.token_pooling, self.layer_pooling, self.head = token_pooling, layer_pooling, head
        self.window_pooling = window_pooling
        self.windows_per_pass = WINDOWS_PER_PASS

    def features(self, batch: Batch) -> Tensor:
        """What the head sees: [D, F]."""
        vectors = self.window_vectors(batch)
        if batch.num_windows == batch.num_documents:
            return vectors
        assert self.window_pooling is not None, "documents of several windows need a window pooling"
        pooled: Tensor = self.window_pooling(vectors, batch.window_of, batch.num_documents)
        return pooled

    def window_vectors(self, batch: Batch) -> Tensor:
        """The vector of each window: [N, F].

        Where documents have several windows, and these more tokens than `windows_per_pass` full ones, they are encoded
        piece by piece. Of a piece only its vectors are kept, and the rest is computed again when its gradient is due:
        memory has a bound that does not depend on the length of the document.
        """
        bound = self.windows_per_pass * batch.max_seqlen
        if batch.num_windows == batch.num_documents or batch.num_tokens <= bound:
            return self._encode(batch)
        parts = (self.encoder, self.token_pooling, self.layer_pooling)
        trained = any(parameter.requires_grad for part in parts for parameter in part.parameters())
        return encode_pieces(self._encode, list(batch.pieces(bound)), trained)

    def _encode(self, batch: Batch) -> Tensor:
        with self.encoder_grad():
            states = self._states(batch)
        if self.after_layers:
            read: Tensor = self.token_pooling(self.layer_pooling(states.layers), states)
            return read
        pooled: Tensor = self.layer_pooling([self.token_pooling(layer, states) for layer in states.layers])
        return pooled

    def _states(self, batch: Batch) -> HiddenStates:
        """The chosen layers' hidden states; those of the first tokens where only these are pooled, from one layer."""
        if len(self.encoder.layers) == 1 and getattr(self.token_pooling, "first_token_only", False):
            return one_token_each(self.encoder.read(batch, batch.cu_seqlens[:-1]))
        states: HiddenStates = self.encoder(batch)
        return states

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.head(self.features(batch))
        return logits

    def explained(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits [D, C], and what each window adds to its document's: [N, C], in sum the logits without the bias.

        Exact for every window pooling in evaluation mode, because the head is linear.
        """
        assert not self.training
        assert self.window_pooling is not None
        vectors = self.window_vectors(batch)
        logits: Tensor = self.head(self.window_pooling(vectors, batch.window_of, batch.num_documents))
        shares = self.window_pooling.shares(vectors, batch.window_of, batch.num_documents)
        with torch.autocast(shares.device.type, enabled=False):
            return logits, shares @ self.head.linear.weight.float().t()

    def losses(self, batch: Batch) -> tuple[dict[str, Loss], Tensor]:
        """The loss of a labelled batch by name, and the logits it came from: [D, C]."""
        assert batch.labels is not None
        logits = self(batch)
        return {"label": self.head.loss(logits, batch.labels)}, logits

    def counts(self, batch: Batch) -> dict[str, float]:
        """What the loss will be divided by, known before it is computed."""
        assert batch.labels is not None
        return {"label": self.head.count(batch.labels)}

    def freeze_encoder(self, frozen: bool = True) -> None:
        """As for every model; a pooler that came with the encoder belongs to it."""
        super().freeze_encoder(frozen)
        if isinstance(self.token_pooling, Pooler) and self.token_pooling.pretrained:
            self.token_pooling.requires_grad_(not frozen)


def build_classifier(
    loaded: Loaded,
    token_pooling: Part | str,
    layer_pooling: Part | str,
    num_labels: int,
    label_smoothing: float = 0.0,
    dropout: float | None = None,
    window_pooling: Part | str | None = None,
    head: Part | str = "linear",
) -> Classifier:
    """Put a classifier on a loaded encoder; new layers are drawn from the current random state.

    A name alone is one of doctune's parts with its default settings. `window_pooling` is needed where documents have
    several windows. A `head` that reads the tokens stands in place of `token_pooling`.
    """
    encoder, config = loaded.encoder, loaded.config
    std = getattr(config, "initializer_range", 0.02)
    layers = _part("layer_pooling", layer_pooling).make(hidden_size=encoder.hidden_size, num_layers=len(encoder.layers))
    chosen_head = _part("head", head)
    reader = None if chosen_head.made_of is LinearHead else chosen_head.make(hidden_size=layers.output_size)
    linear = LinearHead(
        ByteDropout(_dropout_rate(config) if dropout is None else dropout),
        layers.output_size if reader is None else reader.output_size,
        num_labels,
        std,
        label_smoothing,
    )
    tokens = _token_pooling(loaded, _part("token_pooling", token_pooling), std) if reader is None else reader
    windows = None
    if window_pooling is not None:
        pooling = _part("window_pooling", window_pooling).make(hidden_size=linear.linear.in_features)
        windows = WindowPooling(pooling)
    return Classifier(encoder, tokens, layers, linear, windows, reader is not None)


def _part(setting: str, part: Part | str) -> Part:
    return choose(setting, part) if isinstance(part, str) else part


def _token_pooling(loaded: Loaded, part: Part, std: float) -> nn.Module:
    hidden = loaded.encoder.hidden_size
    if part.made_of is not Pooler:
        pooling: nn.Module = part.make(hidden_size=hidden)
        return pooling
    family = FAMILIES[loaded.config.model_type]
    norm = None
    if family.pooler_norm:
        norm = nn.LayerNorm(hidden, eps=loaded.config.norm_eps, bias=loaded.config.norm_bias)
    if loaded.pooler is not None:
        return Pooler(loaded.pooler, family.pooler_activation, True, norm)
    dense = nn.Linear(hidden, hidden, bias=getattr(loaded.config, "classifier_bias", True))
    nn.init.normal_(dense.weight, std=std)
    if dense.bias is not None:
        nn.init.zeros_(dense.bias)
    return Pooler(dense, family.pooler_activation, False, norm)


def _dropout_rate(config: object) -> float:
    """The rate before the output layer, where each family's own classifier has it."""
    for name in (
        "classifier_dropout",
        "classifier_dropout_prob",
        "seq_classif_dropout",
        "hidden_dropout_prob",
        "dropout",
    ):
        rate = getattr(config, name, None)
        if rate is not None:
            return float(rate)
    return 0.0
