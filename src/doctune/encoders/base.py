"""What is known of each family of encoders, as data, and which layer is which."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

EMBEDDINGS = -1
_LAYER = re.compile(r"(?:^|\.)layers?\.(\d+)\.")


@dataclass(frozen=True, slots=True)
class Family:
    """What distinguishes one family of encoders, by transformers' `model_type`.

    `layers` is the path of the list of layers; `shared_layers`: one set of weights is used by all of them (ALBERT).
    `position_offset`: positions begin at `pad_token_id + 1` (RoBERTa and what descends from it).
    `pooler_activation` and `pooler_norm`: what the family's own classifier has between its dense and its output layer.
    """

    layers: str = "encoder.layer"
    packed: bool = True
    position_offset: bool = False
    shared_layers: bool = False
    pooler_activation: str = "tanh"
    pooler_norm: bool = False

    def first_position(self, config: Any) -> int:
        """The position id of a sequence's first token."""
        return int(config.pad_token_id) + 1 if self.position_offset else 0


FAMILIES: dict[str, Family] = {
    "bert": Family(),
    "electra": Family(pooler_activation="gelu"),
    "roberta": Family(position_offset=True),
    "xlm-roberta": Family(position_offset=True),
    "camembert": Family(position_offset=True),
    "distilbert": Family(layers="transformer.layer", pooler_activation="relu"),
    "albert": Family(layers="encoder.albert_layer_groups", shared_layers=True),
    "modernbert": Family(layers="layers", pooler_activation="gelu", pooler_norm=True),
    "deberta": Family(packed=False, pooler_activation="gelu"),
    "deberta-v2": Family(packed=False, pooler_activation="gelu"),
    "mpnet": Family(packed=False, position_offset=True),
}


def layer_of(parameter_name: str, num_layers: int, shared: bool) -> int:
    """The layer of an encoder's parameter: -1 embeddings and relative positions, `num_layers` above the last layer."""
    if shared and "albert_layer_groups" in parameter_name:
        return num_layers - 1
    found = _LAYER.search(parameter_name)
    if found:
        return int(found.group(1))
    if parameter_name.startswith(("pooler.", "final_norm.")):
        return num_layers
    return EMBEDDINGS


# The outputs of the layers of the forward pass that runs in this thread; None outside of one, where a layer runs on its
# own: when its activations are computed again in a backward pass. Nothing of a call is kept on the model, which
# several threads may be using.
_layer_outputs: ContextVar[list[Tensor] | None] = ContextVar("layer outputs", default=None)


def watch_layers(model: nn.Module, family: Family) -> None:
    """Make an encoder's layers give their outputs to `layer_outputs`.

    Hooks and not `output_hidden_states`, because transformers puts ModernBERT's final norm into the last entry.
    """
    container = model.get_submodule(family.layers)
    assert isinstance(container, nn.ModuleList)
    for layer in container:
        layer.register_forward_hook(_keep)


def _keep(module: nn.Module, args: Any, output: Any) -> None:
    outputs = _layer_outputs.get()
    if outputs is not None:
        outputs.append(output[0] if isinstance(output, tuple) else output)


@contextlib.contextmanager
def layer_outputs() -> Iterator[list[Tensor]]:
    """A list that the layers of the forward pass inside fill with their outputs, in the order in which they run."""
    outputs: list[Tensor] = []
    outer = _layer_outputs.set(outputs)
    try:
        yield outputs
    finally:
        _layer_outputs.reset(outer)


def chosen_layers(layers: tuple[int, ...] | str, num_layers: int) -> tuple[int, ...]:
    """Layer numbers from 0, in the order given; negative ones count from the end, "all" is every layer.

    Raises `IndexError` with a plain message for a layer that the encoder does not have.
    """
    if isinstance(layers, str):
        return tuple(range(num_layers))
    for layer in layers:
        if not -num_layers <= layer < num_layers:
            raise IndexError(
                f"layer {layer} does not exist: there are {num_layers}, 0 to {num_layers - 1} or -1 to -{num_layers}"
            )
    return tuple(layer % num_layers for layer in layers)
