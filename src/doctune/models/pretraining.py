"""The model of further pre-training: encoder, masked-language-model head, and a head for pairs of sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from doctune.encoders.base import FAMILIES
from doctune.encoders.load import Loaded, from_pretrained, load_encoder, read_config
from doctune.encoders.packed import TransformersEncoder
from doctune.errors import ConfigError
from doctune.heads.linear import LinearHead
from doctune.heads.links import Softmax
from doctune.heads.mlm import PATHS, MlmHead, masked_loss
from doctune.models.base import EncoderModel
from doctune.models.vocabulary import grow_vocabulary
from doctune.pooling.tokens import Pooler
from doctune.settings import EncoderSettings
from doctune.tensors import Loss, MaskedBatch, one_token_each

Objective = Literal["nsp", "sop", "none"]
# What the weights of a family's own pair head are called; other families have none, and get one under our name.
PAIR_HEADS = {"bert": "cls.seq_relationship", "albert": "sop_classifier.classifier"}
OWN_PAIR_HEAD = "sentence_pair"
PAIR_LINK = Softmax()


class PretrainingModel(EncoderModel):
    """Packed batch in; losses over the masked tokens and over the pairs out.

    Logits exist for masked tokens only: [M, V]. `pooler` and `pair_head` are None without pairs.
    """

    def __init__(
        self, encoder: TransformersEncoder, mlm: MlmHead, pooler: nn.Module | None, pair_head: LinearHead | None
    ) -> None:
        super().__init__(encoder)
        self.mlm, self.pooler, self.pair_head = mlm, pooler, pair_head

    def forward(self, batch: MaskedBatch) -> tuple[Tensor, Tensor | None]:
        """Logits of the masked tokens [M, V], and of the pairs [N, 2] where there are any."""
        pairs = self.pair_head is not None and batch.pair_labels is not None
        num_masked = len(batch.masked_positions)
        rows = torch.cat([batch.masked_positions, batch.cu_seqlens[:-1]]) if pairs else batch.masked_positions
        with self.encoder_grad():
            hidden = self.encoder.read(batch, rows)
        words = self.mlm(hidden[:num_masked])
        if not pairs:
            return words, None
        assert self.pooler is not None
        assert self.pair_head is not None
        return words, self.pair_head(self.pooler(hidden[num_masked:], one_token_each(hidden[num_masked:])))

    def losses(self, batch: MaskedBatch) -> tuple[dict[str, Loss], Tensor]:
        """The losses by name, and the logits of the masked tokens."""
        words, pairs = self(batch)
        return self.losses_of(words, pairs, batch), words

    def losses_of(self, words: Tensor, pairs: Tensor | None, batch: MaskedBatch) -> dict[str, Loss]:
        """The losses of logits that `forward` gave."""
        found = {"mlm": masked_loss(words, batch.masked_labels)}
        if pairs is not None and batch.pair_labels is not None and self.pair_head is not None:
            found["pair"] = PAIR_LINK.loss(pairs, batch.pair_labels)
        return found

    def counts(self, batch: MaskedBatch) -> dict[str, float]:
        """What each loss will be divided by, known before it is computed."""
        counts = {"mlm": float(len(batch.masked_labels))}
        if self.pair_head is not None and batch.pair_labels is not None:
            counts["pair"] = float(len(batch.pair_labels))
        return counts


@dataclass(frozen=True, slots=True)
class PretrainingLoaded:
    """A model ready for further pre-training, the checkpoint's config, and the names of the heads that are new."""

    model: PretrainingModel
    config: object
    new_heads: tuple[str, ...]


def load_pretraining(
    folder: Path, settings: EncoderSettings, objective: Objective, new_pieces: Mapping[int, Sequence[int]] | None = None
) -> PretrainingLoaded:
    """Load encoder and heads; heads that the folder lacks are drawn from the current random state.

    `new_pieces`: ids that the vocabulary gets, each with the old ids that it starts as the mean of.
    Raises `CheckpointError` for a folder that is incomplete or unsafe, `ConfigError` for one that was not trained by
    masked words.
    """
    loaded = load_encoder(folder, settings, (-1,), tied=True)
    config, family = read_config(folder), loaded.config.model_type
    if family == "electra" and not folder_has(folder, "generator_lm_head"):
        raise ConfigError(
            f"{folder}: an ELECTRA without generator head: a discriminator is not trained by masked words; "
            f"take the generator, or another encoder"
        )
    whole, missing = from_pretrained(folder, config, AutoModelForMaskedLM)
    embeddings = loaded.encoder.model.get_input_embeddings().weight
    assert isinstance(embeddings, nn.Parameter)
    mlm = MlmHead(whole, family, embeddings)
    if new_pieces:
        grow_vocabulary(loaded.encoder, mlm, loaded.config, new_pieces)
    new = [path for path in PATHS[family] if any(name.startswith(path) for name in missing)]
    new = ["masked words"] if new else []
    pooler, pair_head = None, None
    if objective != "none":
        pooler, known_pooler = _pooler(folder, loaded)
        pair_head, known_head = _pair_head(folder, loaded)
        new += [] if known_head else ["sentence pairs"]
        new += [] if known_pooler else ["pooler"]
    elif loaded.pooler is not None:
        # Not trained, but it belongs to the encoder and goes with it.
        pooler = Pooler(loaded.pooler, FAMILIES[family].pooler_activation, True)
        pooler.requires_grad_(False)
    return PretrainingLoaded(PretrainingModel(loaded.encoder, mlm, pooler, pair_head), loaded.config, tuple(new))


def _pooler(folder: Path, loaded: Loaded) -> tuple[Pooler, bool]:
    """The checkpoint's pooler, or a new one; and whether it is the checkpoint's."""
    hidden, activation = loaded.encoder.hidden_size, FAMILIES[loaded.config.model_type].pooler_activation
    if loaded.pooler is not None:
        return Pooler(loaded.pooler, activation, True), True
    dense = nn.Linear(hidden, hidden)
    nn.init.normal_(dense.weight, std=getattr(loaded.config, "initializer_range", 0.02))
    nn.init.zeros_(dense.bias)
    return Pooler(dense, activation, False), _fill(dense, folder, f"{OWN_PAIR_HEAD}.pooler.dense")


def _pair_head(folder: Path, loaded: Loaded) -> tuple[LinearHead, bool]:
    """The checkpoint's pair head, or a new one; and whether it is the checkpoint's."""
    std = getattr(loaded.config, "initializer_range", 0.02)
    head = LinearHead(nn.Identity(), loaded.encoder.hidden_size, 2, std)
    return head, _fill(head.linear, folder, PAIR_HEADS.get(loaded.config.model_type, OWN_PAIR_HEAD))


def _fill(linear: nn.Linear, folder: Path, name: str) -> bool:
    """Give a layer the weights of this name in the folder; whether they are there."""
    weight, bias = (read_tensor(folder, f"{name}.{part}") for part in ("weight", "bias"))
    if weight is None or bias is None:
        return False
    with torch.no_grad():
        linear.weight.copy_(weight)
        linear.bias.copy_(bias)
    return True


def read_tensor(folder: Path, name: str) -> Tensor | None:
    """One tensor of the folder's safetensors files, by name."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if name in file.keys():  # noqa: SIM118 - the file is no mapping
                tensor: Tensor = file.get_tensor(name)
                return tensor
    return None


def folder_has(folder: Path, prefix: str) -> bool:
    """Whether any tensor of the folder has a name that begins like this."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            if any(name.startswith(prefix) for name in file.keys()):  # noqa: SIM118
                return True
    return False
