"""A learning rate for each layer, and the parameter groups that follow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from torch import nn

from doctune.encoders.base import EMBEDDINGS
from doctune.errors import ConfigError
from doctune.settings import LayerwiseSettings
from doctune.training.rates import RateRow

# The original's code has the twelve layers of BERT-base written into it.
ORIGINAL_LAYERS = 12


def layer_rate(layer: int, num_layers: int, top: int, base: float, settings: LayerwiseSettings) -> float:
    """The peak learning rate of one layer.

    `layer`: -1 for the embeddings, `num_layers` for what is above the encoder; `top` is the highest layer in use.
    "decay" gives that layer and everything above it the base rate, and each layer below `layer_decay` times the rate of
    the one above, the embeddings last. The original's modes leave the embeddings at the base rate.
    """
    if layer > top:
        return base
    if settings.layerwise == "decay" and settings.layer_rates is None:
        return float(base * settings.layer_decay ** (top - layer))
    if layer == EMBEDDINGS:
        return base
    rates = settings.layer_rates
    if settings.layerwise == "original-decay" and (rates is None or len(rates) == 1):
        highest = base if rates is None else rates[0]
        steps = ORIGINAL_LAYERS - 1 - layer
        return highest * settings.layer_decay**steps if steps >= 0 else base
    if rates is not None:
        if len(rates) != num_layers:
            raise ConfigError(
                f"layerwise.layer_rates: {len(rates)} rates for an encoder of {num_layers} layers; give one for each"
            )
        return rates[layer]
    if settings.layerwise == "three-group":
        third = layer * 3 // num_layers
        return (base / settings.group_factor, base, base * settings.group_factor)[third]
    return base


class Layered(Protocol):
    """A model whose parameters belong to layers of its encoder."""

    encoder: Any

    def layer_of(self, parameter_name: str) -> int:
        """The layer of a parameter: -1 embeddings, 0 .. num_layers - 1, and `num_layers` for what is above."""
        ...

    def named_parameters(self) -> Iterable[tuple[str, nn.Parameter]]:
        """As of `nn.Module`."""
        ...

    def parameters(self) -> Iterable[nn.Parameter]:
        """As of `nn.Module`."""
        ...


def parameter_groups(
    model: Layered, base: float, weight_decay: float, settings: LayerwiseSettings
) -> tuple[list[dict[str, Any]], list[RateRow]]:
    """Groups for an optimiser, each with `lr`, `base_lr` and `weight_decay`, and the table of rates from the top down.

    Biases and norms (one-dimensional parameters) have no weight decay. A layer whose rate is 0 is not trained.
    """
    num_layers, top = model.encoder.num_layers, max(model.encoder.layers)
    by_layer: dict[int, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            by_layer.setdefault(model.layer_of(name), []).append(parameter)
    groups, table = [], []
    for layer in sorted(by_layer, reverse=True):
        rate = layer_rate(layer, num_layers, top, base, settings)
        table.append(RateRow(_part(layer, num_layers), rate, _size(by_layer[layer])))
        for decays in (True, False):
            members = [p for p in by_layer[layer] if (p.ndim > 1) == decays]
            if members and rate > 0:
                decay = weight_decay if decays else 0.0
                groups.append({"params": members, "lr": rate, "base_lr": rate, "weight_decay": decay})
            elif members:
                for parameter in members:
                    parameter.requires_grad_(False)
    frozen = _size(p for p in model.parameters() if not p.requires_grad)
    if frozen and not any(row.learning_rate == 0 for row in table):
        table.append(RateRow("encoder (frozen)", 0.0, frozen))
    return groups, table


def _part(layer: int, num_layers: int) -> str:
    if layer == EMBEDDINGS:
        return "embeddings"
    return f"layer {layer}" if layer < num_layers else "pooling and head"


def _size(parameters: Iterable[nn.Parameter]) -> int:
    return sum(p.numel() for p in parameters)
