"""What models on an encoder have in common: the encoder can stand still, and every parameter has a layer."""

from __future__ import annotations

from typing import Self

import torch
from torch import nn

from doctune.encoders.packed import TransformersEncoder


class EncoderModel(nn.Module):
    """An encoder with heads on it."""

    def __init__(self, encoder: TransformersEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.encoder_frozen = False

    def freeze_encoder(self, frozen: bool = True) -> None:
        """Train the heads only, with the encoder as it is and without dropout; or everything again."""
        self.encoder_frozen = frozen
        self.encoder.requires_grad_(not frozen)
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """As in PyTorch, but a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.encoder_frozen:
            self.encoder.eval()
        return self

    def layer_of(self, parameter_name: str) -> int:
        """The layer of a parameter: -1 embeddings, 0 .. num_layers - 1, and `num_layers` for poolings and heads."""
        if parameter_name.startswith("encoder."):
            return self.encoder.layer_of(parameter_name.removeprefix("encoder."))
        return self.encoder.num_layers

    def encoder_grad(self) -> torch.set_grad_enabled:
        """Inside it the encoder records its gradients, unless it is frozen."""
        return torch.set_grad_enabled(torch.is_grad_enabled() and not self.encoder_frozen)
