"""Everything of a classifier but the encoder: pooling over tokens, layers and windows, head, and the link's loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from doctune.encoders.base import FAMILIES
from doctune.encoders.dropout import ByteDropout
from doctune.encoders.load import Loaded
from doctune.heads.linear import LinearHead
from doctune.heads.links import Link, Softmax
from doctune.pooling.layers import LayerPooling
from doctune.pooling.tokens import Pooler
from doctune.pooling.windows import WindowPooling
from doctune.settings.implementations import Part, choose
from doctune.tensors import Batch, HiddenStates


class TaskModule(nn.Module):
    """What turns the hidden states of an encoder into the answers of one task, in two stages.

    The first stage, `vectors`, makes one vector of each sequence; it is what is computed again where a long document is
    encoded piece by piece. The second, `answer`, makes logits of each document's vectors. Tokens are pooled in every
    chosen layer first, then the layers: "max over the last four layers" is the maximum of their [CLS] vectors, as in
    the paper. The pooler, if chosen, is shared by the layers. Only a head that reads the tokens, in place of the token
    pooling, comes `after_layers`: it reads one vector a token. Windows come last; `window_pooling` is None where every
    document is one window.
    """

    def __init__(
        self, token_pooling: nn.Module, layer_pooling: LayerPooling, head: LinearHead,
        window_pooling: WindowPooling | None = None, link: Link | None = None, after_layers: bool = False, *,
        num_layers: int,
    ) -> None:  # fmt: skip
        super().__init__()
        self.after_layers, self.num_layers = after_layers, num_layers
        self.token_pooling, self.layer_pooling, self.head = token_pooling, layer_pooling, head
        self.window_pooling = window_pooling
        self.link = link or Softmax()

    @property
    def reads_first_tokens_only(self) -> bool:
        """Whether nothing but the first token of each sequence, in one layer, is looked at."""
        return self.num_layers == 1 and getattr(self.token_pooling, "first_token_only", False)

    @property
    def first_stage(self) -> tuple[nn.Module, ...]:
        """The modules that `vectors` uses."""
        return (self.token_pooling, self.layer_pooling)

    def vectors(self, states: HiddenStates) -> Tensor:
        """The vector of each of N sequences, [N, F]."""
        if self.after_layers:
            read: Tensor = self.token_pooling(self.layer_pooling(states.layers), states)
            return read
        pooled: Tensor = self.layer_pooling([self.token_pooling(layer, states) for layer in states.layers])
        return pooled

    def features(self, vectors: Tensor, batch: Batch) -> Tensor:
        """What the head sees, [D, F], of the vectors [N, F] of a batch's sequences."""
        if batch.num_windows == batch.num_documents:
            return vectors
        assert self.window_pooling is not None, "documents of several windows need a window pooling"
        pooled: Tensor = self.window_pooling(vectors, batch.window_of, batch.num_documents)
        return pooled

    def answer(self, vectors: Tensor, batch: Batch) -> Tensor:
        """Logits of each document, [D, num_outputs], of the vectors [N, F] of a batch's sequences."""
        logits: Tensor = self.head(self.features(vectors, batch))
        return logits

    def explained(self, vectors: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """Logits, and what each window adds to its document's: [N, num_outputs], in sum the logits without the bias.

        Exact for every window pooling in evaluation mode, because the head is linear.
        """
        assert not self.training
        assert self.window_pooling is not None
        logits: Tensor = self.head(self.window_pooling(vectors, batch.window_of, batch.num_documents))
        shares = self.window_pooling.shares(vectors, batch.window_of, batch.num_documents)
        with torch.autocast(shares.device.type, enabled=False):
            return logits, shares @ self.head.linear.weight.float().t()

    def freeze_pretrained(self, frozen: bool) -> None:
        """Freeze, or train again, what came with the encoder and belongs to it: its pooler."""
        if isinstance(self.token_pooling, Pooler) and self.token_pooling.pretrained:
            self.token_pooling.requires_grad_(not frozen)


def build_task_module(
    loaded: Loaded,
    token_pooling: Part | str,
    layer_pooling: Part | str,
    num_outputs: int,
    link: Link | None = None,
    dropout: float | None = None,
    window_pooling: Part | str | None = None,
    head: Part | str = "linear",
) -> TaskModule:
    """What stands on a loaded encoder for one task; new layers are drawn from the current random state, head first.

    A name alone is one of doctune's parts with its default settings. `window_pooling` is needed where documents have
    several windows. A `head` that reads the tokens stands in place of `token_pooling`.
    """
    encoder, config = loaded.encoder, loaded.config
    std = getattr(config, "initializer_range", 0.02)
    layers = _part("layer_pooling", layer_pooling).make(hidden_size=encoder.hidden_size, num_layers=len(encoder.layers))
    chosen_head = _part("head", head)
    reader = None if chosen_head.made_of is LinearHead else chosen_head.make(hidden_size=layers.output_size)
    size = layers.output_size if reader is None else reader.output_size
    dropout_rate = _dropout_rate(config) if dropout is None else dropout
    linear = LinearHead(ByteDropout(dropout_rate), size, num_outputs, std)
    tokens = _token_pooling(loaded, _part("token_pooling", token_pooling), std) if reader is None else reader
    windows = None
    if window_pooling is not None:
        windows = WindowPooling(_part("window_pooling", window_pooling).make(hidden_size=size))
    return TaskModule(tokens, layers, linear, windows, link, reader is not None, num_layers=len(encoder.layers))


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
