"""Word embeddings whose gradient touches only the rows of the batch.

PyTorch's dense gradient of an embedding is a new tensor of zeros as large as the vocabulary, in every step: filling it
costs a small encoder on a CPU up to a fifth of its step. Here one buffer is kept, and only last step's rows are zeroed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel


class RowEmbedding(nn.Embedding):
    """The same table and the same gradient as the `nn.Embedding` it is made from, whose weights it takes over.

    In the backward pass it writes `weight.grad` itself. `shared`: the weights are used elsewhere in the same graph, too
    (a decoder is tied to them), so their dense gradient is there already, or comes and is added: no buffer is kept.
    """

    def __init__(self, plain: nn.Embedding, shared: bool = False) -> None:
        super().__init__(
            plain.num_embeddings, plain.embedding_dim, padding_idx=plain.padding_idx, _weight=plain.weight.detach()
        )
        self.weight = plain.weight
        self.shared = shared
        self._buffer: Tensor | None = None
        self._touched: list[Tensor] = []

    def forward(self, input: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and self.weight.requires_grad):
            return functional.embedding(input, self.weight, self.padding_idx)
        rows: Tensor = _Lookup.apply(self.weight, input, self)  # type: ignore[no-untyped-call]
        return rows

    def add_gradient(self, ids: Tensor, gradient: Tensor) -> None:
        """Add [T, H] to the rows `ids` [T] of `weight.grad`, which is a buffer that is kept from step to step."""
        if self.padding_idx is not None:
            gradient = gradient.masked_fill((ids == self.padding_idx).unsqueeze(1), 0.0)
        if self.shared:
            if self.weight.grad is None:
                self.weight.grad = torch.zeros_like(self.weight)
            self.weight.grad.index_add_(0, ids, gradient.to(self.weight.dtype))
            return
        if self.weight.grad is None:
            if self._buffer is None or self._buffer.device != self.weight.device:
                self._buffer, self._touched = torch.zeros_like(self.weight), []
            for rows in self._touched:
                self._buffer.index_fill_(0, rows, 0.0)
            self._touched = []
            self.weight.grad = self._buffer
        self._touched.append(ids)
        self.weight.grad.index_add_(0, ids, gradient.to(self.weight.dtype))


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, table: RowEmbedding) -> Tensor:
        ctx.table = table
        ctx.save_for_backward(ids)
        return functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None]:
        (ids,) = ctx.saved_tensors
        ctx.table.add_gradient(ids.flatten(), gradient.flatten(0, -2))
        return None, None, None


def replace_word_embeddings(model: PreTrainedModel, shared: bool = False) -> None:
    """Give the encoder word embeddings with a row-wise gradient; `shared`: a decoder is tied to them."""
    plain = model.get_input_embeddings()
    if type(plain) is nn.Embedding:
        model.set_input_embeddings(RowEmbedding(plain, shared))
