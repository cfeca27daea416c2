"""A BiLSTM with structured self-attention over token states (Lin et al. 2017): what reads BERT-Feat's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from doctune.settings import BiLstmSettings
from doctune.tensors import HiddenStates


class BiLstm(nn.Module):
    """Token states [T, F] of N packed sequences to one vector each: [N, attention_hops * 2 * lstm_hidden].

    Every hop weighs the tokens by softmax over w2 tanh(w1 h), without biases; the hops stand side by side. The paper's
    penalty on hops that look at the same tokens is not here. The LSTM runs packed and in float32: no vector depends on
    what else is in the batch.
    """

    def __init__(self, hidden_size: int, settings: BiLstmSettings) -> None:
        super().__init__()
        width = 2 * settings.lstm_hidden
        self.output_size = settings.attention_hops * width
        self.lstm = nn.LSTM(hidden_size, settings.lstm_hidden, bidirectional=True)
        self.linear_first = nn.Linear(width, settings.attention_size, bias=False)
        self.linear_second = nn.Linear(settings.attention_size, settings.attention_hops, bias=False)

    def forward(self, x: Tensor, states: HiddenStates) -> Tensor:
        lengths = states.cu_seqlens.diff()
        order = torch.argsort(lengths, descending=True, stable=True)
        steps = torch.arange(int(lengths.max()), device=x.device).unsqueeze(1)
        real = steps < lengths[order]
        rows = (states.cu_seqlens[:-1][order] + steps)[real]
        with torch.autocast(x.device.type, enabled=False):
            packed = PackedSequence(x.float().index_select(0, rows), real.sum(dim=1).cpu())
            read = self.lstm(packed)[0].data
            scores = self.linear_second(torch.tanh(self.linear_first(read)))
            # From here on padded: the weights of what is no token are 0.
            tokens = read.new_zeros(*real.shape, read.shape[1]).index_put((real,), read)
            filled = scores.new_full((*real.shape, scores.shape[1]), float("-inf")).index_put((real,), scores)
            weights = torch.softmax(filled, dim=0)
            vectors = torch.einsum("lnr,lnh->nrh", weights, tokens).flatten(1)
        return vectors.index_select(0, torch.argsort(order))
