"""The classifier: encoder, pooling over tokens, pooling over layers, head."""

from __future__ import annotations

from torch import Tensor, nn

from doctune.encoders.base import FAMILIES
from doctune.encoders.dropout import ByteDropout
from doctune.encoders.load import Loaded
from doctune.encoders.packed import TransformersEncoder
from doctune.heads.bilstm import BiLstm
from doctune.heads.linear import LinearHead
from doctune.models.base import EncoderModel
from doctune.pooling.layers import Kind, LayerPooling
from doctune.pooling.tokens import Attention, Cls, Max, Mean, Pooler
from doctune.settings import BiLstmSettings
from doctune.tensors import Batch, HiddenStates, Loss, one_token_each

TOKEN_POOLINGS = {"cls": Cls, "mean": Mean, "max": Max}


class Classifier(EncoderModel):
    """Packed batch in, logits [D, C] out.

    Tokens are pooled in every chosen layer first, then the layers: "max over the last four layers" is the maximum of
    their [CLS] vectors, as in the paper. The pooler, if chosen, is shared by the layers. Only a BiLSTM in place of the
    token pooling comes after the layers: it reads one vector a token.
    """

    def __init__(
        self, encoder: TransformersEncoder, token_pooling: nn.Module, layer_pooling: LayerPooling, head: LinearHead
    ) -> None:
        super().__init__(encoder)
        self.token_pooling, self.layer_pooling, self.head = token_pooling, layer_pooling, head

    def features(self, batch: Batch) -> Tensor:
        """What the head sees: [D, F]."""
        with self.encoder_grad():
            states = self._states(batch)
        if isinstance(self.token_pooling, BiLstm):
            read: Tensor = self.token_pooling(self.layer_pooling(states.layers), states)
            return read
        pooled: Tensor = self.layer_pooling([self.token_pooling(layer, states) for layer in states.layers])
        return pooled

    def _states(self, batch: Batch) -> HiddenStates:
        """The chosen layers' hidden states; those of the first tokens where only these are pooled, from one layer."""
        if len(self.encoder.layers) == 1 and isinstance(self.token_pooling, Cls | Pooler):
            return one_token_each(self.encoder.read(batch, batch.cu_seqlens[:-1]))
        states: HiddenStates = self.encoder(batch)
        return states

    def forward(self, batch: Batch) -> Tensor:
        logits: Tensor = self.head(self.features(batch))
        return logits

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
    token_pooling: str,
    layer_pooling: Kind,
    num_labels: int,
    label_smoothing: float = 0.0,
    dropout: float | None = None,
    bilstm: BiLstmSettings | None = None,
) -> Classifier:
    """Put a classifier on a loaded encoder; new layers are drawn from the current random state.

    `bilstm`: a BiLSTM of these sizes reads the tokens, in place of `token_pooling`.
    """
    encoder, config = loaded.encoder, loaded.config
    std = getattr(config, "initializer_range", 0.02)
    layers = LayerPooling(layer_pooling, len(encoder.layers), encoder.hidden_size)
    reader = None if bilstm is None else BiLstm(layers.output_size, bilstm)
    head = LinearHead(
        ByteDropout(_dropout_rate(config) if dropout is None else dropout),
        layers.output_size if reader is None else reader.output_size,
        num_labels,
        std,
        label_smoothing,
    )
    return Classifier(encoder, reader or _token_pooling(loaded, token_pooling, std), layers, head)


def _token_pooling(loaded: Loaded, kind: str, std: float) -> nn.Module:
    hidden = loaded.encoder.hidden_size
    if kind == "attention":
        return Attention(hidden)
    if kind != "pooler":
        return TOKEN_POOLINGS[kind]()
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
