"""How the tokens of a sequence become one vector. Each takes packed [T, H] and gives [N, H].

Those that also pool the windows of a document say with `shares` what each token gives to its sequence's vector,
[T, H]: their sum over a sequence is that vector. `first_token_only`: of a sequence nothing else is looked at.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.activations import ACT2FN

from doctune.tensors import HiddenStates

ATTENTION_SIZE = 128


class Cls(nn.Module):
    """The hidden state of the first token."""

    first_token_only = True

    def forward(self, x: Tensor, states: HiddenStates) -> Tensor:
        return x.index_select(0, states.first_rows)


class Mean(nn.Module):
    """The mean over all tokens, special ones included, as sentence-transformers does."""

    def forward(self, x: Tensor, states: HiddenStates) -> Tensor:
        lengths = states.cu_seqlens.diff()
        sums = x.new_zeros(len(lengths), x.shape[1], dtype=torch.float32)
        return (sums.index_add(0, states.sequence_of, x.float()) / lengths.unsqueeze(1)).to(x.dtype)

    def shares(self, x: Tensor, states: HiddenStates) -> Tensor:
        """An equal part of each vector."""
        return x.float() / states.cu_seqlens.diff()[states.sequence_of].unsqueeze(1)


class Max(nn.Module):
    """The largest value of each dimension over all tokens."""

    def forward(self, x: Tensor, states: HiddenStates) -> Tensor:
        index = states.sequence_of.unsqueeze(1).expand(-1, x.shape[1])
        lowest = x.new_full((len(states.cu_seqlens) - 1, x.shape[1]), float("-inf"))
        return lowest.scatter_reduce(0, index, x, "amax")

    def shares(self, x: Tensor, states: HiddenStates) -> Tensor:
        """The dimensions in which a token is highest; one of equals, the first, gives it all."""
        of, count = states.sequence_of, len(states.cu_seqlens) - 1
        number = torch.arange(len(x), device=x.device).unsqueeze(1).expand_as(x)
        reaches = x == self(x, states)[of]
        first = number.new_full((count, x.shape[1]), len(x))
        first = first.scatter_reduce(0, of.unsqueeze(1).expand_as(x), number.masked_fill(~reaches, len(x)), "amin")
        return x.float() * (number == first[of])


class Attention(nn.Module):
    """A weighted mean over tokens; the weights are learned: softmax over w2 tanh(w1 x)."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear_first = nn.Linear(hidden_size, ATTENTION_SIZE)
        self.linear_second = nn.Linear(ATTENTION_SIZE, 1)

    def forward(self, x: Tensor, states: HiddenStates) -> Tensor:
        weighted = x.float() * self.weights(x, states).unsqueeze(1)
        sums = x.new_zeros(len(states.cu_seqlens) - 1, x.shape[1], dtype=torch.float32)
        return sums.index_add(0, states.sequence_of, weighted).to(x.dtype)

    def shares(self, x: Tensor, states: HiddenStates) -> Tensor:
        """A token's weight times its vector."""
        return x.float() * self.weights(x, states).unsqueeze(1)

    def weights(self, x: Tensor, states: HiddenStates) -> Tensor:
        """The weight of each token in its sequence's mean: float32 [T], summing to 1 over a sequence."""
        scores = self.linear_second(torch.tanh(self.linear_first(x))).squeeze(1).float()
        of, count = states.sequence_of, len(states.cu_seqlens) - 1
        highest = scores.new_full((count,), float("-inf")).scatter_reduce(0, of, scores.detach(), "amax")
        weights = torch.exp(scores - highest[of])
        return weights / weights.new_zeros(count).index_add(0, of, weights)[of]


class Pooler(nn.Module):
    """[CLS] through a dense layer and an activation: BERT's pooled output, or its like in other families.

    `pretrained` says whether `dense` came with the checkpoint. `norm` follows the activation where the family has one.
    """

    first_token_only = True

    def __init__(self, dense: nn.Linear, activation: str, pretrained: bool, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.dense = dense
        self.activation = ACT2FN[activation]
        self.norm = norm
        self.pretrained = pretrained

    def forward(self, x: Tensor, states: HiddenStates) -> Tensor:
        pooled: Tensor = self.activation(self.dense(x.index_select(0, states.first_rows)))
        return pooled if self.norm is None else self.norm(pooled)
