"""The masked-language-model head: a family's own one from transformers, on the masked tokens only."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from doctune.tensors import Loss

# The modules of transformers' `...ForMaskedLM` that stand above the encoder, in the order in which they are applied.
PATHS: dict[str, tuple[str, ...]] = {
    "bert": ("cls.predictions",),
    "electra": ("generator_predictions", "generator_lm_head"),
    "roberta": ("lm_head",),
    "xlm-roberta": ("lm_head",),
    "camembert": ("lm_head",),
    "distilbert": ("vocab_transform", "activation", "vocab_layer_norm", "vocab_projector"),
    "albert": ("predictions",),
    "modernbert": ("head", "decoder"),
    "deberta": ("cls.predictions",),
    "deberta-v2": ("cls.predictions",),
    "mpnet": ("lm_head",),
}


# Rows of logits that are worked on at a time: a megabyte at 30,000 words, which a processor's cache holds.
ROWS = 8
# The same on a GPU, which has no such cache and waits for calls: a quarter of a gigabyte.
GPU_ROWS = 2048


class MlmHead(nn.Module):
    """Hidden states of masked tokens [M, H] to logits [M, V].

    Parameters have the names that they have in transformers' own class. The decoder is tied to `embeddings`, the
    encoder's word embeddings [V, H], where the config says so (all of the BERT family do).
    """

    def __init__(self, model: PreTrainedModel, family: str, embeddings: nn.Parameter) -> None:
        super().__init__()
        self.paths = PATHS[family]
        for path in self.paths:
            self._put(path, model.get_submodule(path))
        self.tied = bool(getattr(model.config, "tie_word_embeddings", True))
        decoder = model.get_output_embeddings()
        self.decoder_name = next(f"{name}.weight" for name, module in self.named_modules() if module is decoder)
        if self.tied:
            decoder.weight = embeddings

    def embeddings(self) -> Tensor:
        """The decoder's weights [V, H], which are the word embeddings where they are tied."""
        return self.get_parameter(self.decoder_name)

    def _put(self, path: str, module: nn.Module) -> None:
        """Add a module under its full path, so that its parameters keep their names."""
        *parents, name = path.split(".")
        place: nn.Module = self
        for parent in parents:
            if not hasattr(place, parent):
                place.add_module(parent, nn.Module())
            place = place.get_submodule(parent)
        place.add_module(name, module)

    def forward(self, x: Tensor) -> Tensor:
        for path in self.paths:
            x = self.get_submodule(path)(x)
        return x


def masked_loss(logits: Tensor, labels: Tensor) -> Loss:
    """Summed cross entropy of logits [M, V] for the tokens that were masked, and M."""
    total: Tensor = _CrossEntropy.apply(logits, labels)  # type: ignore[no-untyped-call]
    return Loss(total, torch.tensor(float(len(labels)), device=total.device))


class _CrossEntropy(torch.autograd.Function):
    """The sum of cross entropies over a large vocabulary, its gradient made on the way.

    The same numbers as PyTorch's `cross_entropy(logits.float(), labels, reduction="sum")`, which on a CPU takes
    a quarter of a small encoder's step: its backward pass fills and reads whole float32 matrices. Here a few rows at a
    time, which stay in the cache, become probabilities and are kept in the logits' own precision.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, labels: Tensor) -> Tensor:
        total = logits.new_zeros((), dtype=torch.float32)
        gradient = torch.empty_like(logits) if ctx.needs_input_grad[0] else None
        step = GPU_ROWS if logits.is_cuda else ROWS
        for start in range(0, len(labels), step):
            rows = slice(start, start + step)
            places = labels[rows].unsqueeze(1)
            x = logits[rows].float()
            x = x - x.amax(1, keepdim=True)
            wanted = x.gather(1, places)
            x.exp_()
            sums = x.sum(1, keepdim=True)
            total += (sums.log() - wanted).sum()
            if gradient is not None:
                x.div_(sums)
                x.scatter_add_(1, places, x.new_full((1, 1), -1.0).expand(len(x), 1))
                gradient[rows] = x
        ctx.gradient = gradient
        return total

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None]:
        gradient, ctx.gradient = ctx.gradient, None
        # As a number, not as a tensor of the logits' precision: all of it would be off by the same rounding error.
        if gradient.is_cuda:  # without waiting for the number
            return torch.mul(gradient, outer.float().view(1, 1), out=gradient), None
        return gradient.mul_(outer.item()), None
