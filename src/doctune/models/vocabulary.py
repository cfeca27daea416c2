"""A larger vocabulary for a loaded model: word embeddings and decoder get rows for new pieces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from doctune.encoders.packed import TransformersEncoder
from doctune.heads.mlm import MlmHead


def grow_vocabulary(
    encoder: TransformersEncoder, mlm: MlmHead, config: Any, pieces: Mapping[int, Sequence[int]]
) -> None:
    """Give each new piece the mean of the rows of its old pieces; `pieces` has these by the new piece's id.

    The word embeddings [V, H], the decoder, which stays tied to them where it was, and its bias [V] become longer; old
    rows stay. Rows that the model has beyond its tokenizer's ids are taken first. `config` gets the new size.
    """
    table: Any = encoder.model.get_input_embeddings()
    path = mlm.decoder_name.rpartition(".")[0]
    decoder: Any = mlm.get_submodule(path)
    above = mlm.get_submodule(path.rpartition(".")[0])  # some families have the decoder's bias there, too
    size = max(table.num_embeddings, *(number + 1 for number in pieces))
    grown: dict[nn.Parameter, nn.Parameter] = {}
    for module, name in ((table, "weight"), (decoder, "weight"), (decoder, "bias"), (above, "bias")):
        old = getattr(module, name, None)
        if isinstance(old, nn.Parameter):
            if old not in grown:  # what is shared stays shared
                grown[old] = nn.Parameter(_grown(old.detach(), size, pieces), old.requires_grad)
            setattr(module, name, grown[old])
    table.num_embeddings = decoder.out_features = size
    config.vocab_size = encoder.model.config.vocab_size = size


def _grown(rows: Tensor, size: int, pieces: Mapping[int, Sequence[int]]) -> Tensor:
    new = torch.cat([rows, rows.new_zeros(size - len(rows), *rows.shape[1:])])
    for number, old in pieces.items():
        new[number] = rows[torch.tensor(list(old), device=rows.device)].mean(0)
    return new
