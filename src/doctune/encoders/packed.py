"""An encoder of transformers, run on packed tokens."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface
from transformers.modeling_utils import AttentionInterface

from doctune.encoders import attention, flash
from doctune.encoders.base import Family, layer_of, layer_outputs, watch_layers
from doctune.encoders.flash import Spans
from doctune.encoders.layout import Layout
from doctune.encoders.post_norm import PostNormLayer
from doctune.tensors import Batch, HiddenStates


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """The layout says who attends to whom; there is no mask to build."""


def register_attention() -> None:
    """Make packed attention known to transformers under its name; calling it again changes nothing."""
    AttentionInterface.register(attention.NAME, attention.packed_attention)
    AttentionMaskInterface.register(attention.NAME, _no_mask)


class TransformersEncoder(nn.Module):
    """Common to packed and padded encoders: which layers are read, and what their parameters are called.

    `layers` are the layers that `forward` returns, from 0; `num_layers` is how many the encoder had before those above
    the highest one used were cut off.
    """

    packing = ""

    def __init__(self, model: PreTrainedModel, family: Family, layers: tuple[int, ...], num_layers: int) -> None:
        super().__init__()
        self.model, self.family, self.layers, self.num_layers = model, family, layers, num_layers
        self.config = model.config
        self.hidden_size: int = model.config.hidden_size
        self.position_offset = family.first_position(model.config)
        watch_layers(model, family)
        self._takes_types = "token_type_ids" in inspect.signature(model.forward).parameters

    def layer_of(self, parameter_name: str) -> int:
        """The layer of a parameter; see `doctune.encoders.base.layer_of`."""
        return layer_of(parameter_name.removeprefix("model."), self.num_layers, self.family.shared_layers)

    def read(self, batch: Batch, rows: Tensor) -> Tensor:
        """The highest layer's hidden states of some tokens, `rows` [R] of the packed row: [R, H]."""
        states: HiddenStates = self(batch)
        return states.layers[self.layers.index(max(self.layers))].index_select(0, rows)

    def recompute_activations(self) -> bool:
        """Trade time for memory: recompute the layers' activations in the backward pass; whether the family can."""
        if not self.model.supports_gradient_checkpointing:
            return False
        # Renamed within transformers 5; the old name warns there.
        enable = (
            getattr(self.model, "activation_checkpointing_enable", None) or self.model.gradient_checkpointing_enable
        )
        enable({"use_reentrant": False})
        return True

    def _run(self, inputs: dict[str, Any], token_type_ids: Tensor) -> list[Tensor]:
        """Run the model; the chosen layers' outputs."""
        if self._takes_types:
            inputs["token_type_ids"] = token_type_ids
        with layer_outputs() as outputs:
            last = self.model(**inputs, return_dict=True).last_hidden_state
        if max(self.layers) == self.num_layers - 1:
            # Behind the last layer some families have a norm that belongs to its output.
            outputs[max(self.layers)] = last
        return [outputs[layer] for layer in self.layers]


class PackedEncoder(TransformersEncoder):
    """Runs the packed row as a batch of one; attention is told the sequences by the layout."""

    packing = "packed"

    def read(self, batch: Batch, rows: Tensor) -> Tensor:
        """As for every encoder; but the highest layer is computed for these rows only, where the family allows it.

        That saves most of a layer, exactly: all it needs of the other tokens is their keys and values.
        """
        if not isinstance(_layers(self.model, self.family)[-1], PostNormLayer):
            return super().read(batch, rows)
        states = self._states(batch, rows)
        return states.layers[self.layers.index(max(self.layers))]

    def forward(self, batch: Batch) -> HiddenStates:
        """`Batch` of T tokens to the chosen layers' hidden states, each [T, H]."""
        return self._states(batch, None)

    def recompute_activations(self) -> bool:
        """As for every encoder."""
        fast = [module for module in self.model.modules() if isinstance(module, PostNormLayer)]
        for layer in fast:
            layer.recompute = True
        return bool(fast) or super().recompute_activations()

    def _states(self, batch: Batch, rows: Tensor | None) -> HiddenStates:
        layout = self._layout(batch, rows)

        def filled(x: Tensor, value: int) -> Tensor:
            return nn.functional.pad(x, (0, layout.num_filling), value=value).unsqueeze(0)

        inputs = {
            "input_ids": filled(batch.input_ids, self.config.pad_token_id or 0),
            "position_ids": filled(batch.position_ids + self.position_offset, self.position_offset),
            "layout": layout,
        }
        outputs = self._run(inputs, filled(batch.token_type_ids, 0))
        # The highest layer may have given the rows that are read, and those are fewer than the tokens.
        states = tuple(x[0, : batch.num_tokens] for x in outputs)
        return HiddenStates(states, batch.cu_seqlens, batch.window_of, batch.num_documents)

    def _layout(self, batch: Batch, rows: Tensor | None) -> Layout | Spans:
        heads = self.config.num_attention_heads
        if flash.usable(batch.input_ids.device, self.hidden_size // heads):
            return Spans.of(batch, rows)
        fills = all(isinstance(layer, PostNormLayer) for layer in _layers(self.model, self.family))
        return Layout.of(batch, heads, rows, fills)


def use_fast_layers(model: PreTrainedModel, family: Family) -> None:
    """Put `PostNormLayer` in the place of every layer that it fits, with the same parameters."""
    container = _layers(model, family)
    for place, layer in enumerate(container):
        if PostNormLayer.fits(layer, model.config):
            container[place] = PostNormLayer(layer, model.config.num_attention_heads, place == len(container) - 1)


def use_plain_layers(model: PreTrainedModel, family: Family) -> None:
    """Undo `use_fast_layers`."""
    container = _layers(model, family)
    for place, layer in enumerate(container):
        if isinstance(layer, PostNormLayer):
            container[place] = layer.plain


def _layers(model: PreTrainedModel, family: Family) -> nn.ModuleList:
    container = model.get_submodule(family.layers)
    assert isinstance(container, nn.ModuleList)
    return container


class PaddedEncoder(TransformersEncoder):
    """The fallback for encoders whose attention does not go through transformers' interface: unpack, run, re-pack."""

    packing = "padded"

    def forward(self, batch: Batch) -> HiddenStates:
        """As `PackedEncoder.forward`, with padding inside."""
        lengths = batch.cu_seqlens.diff()
        real = torch.arange(batch.max_seqlen, device=lengths.device) < lengths.unsqueeze(1)
        shape = (len(lengths), batch.max_seqlen)
        ids = batch.input_ids.new_full(shape, self.config.pad_token_id or 0).masked_scatter(real, batch.input_ids)
        types = batch.token_type_ids.new_zeros(shape).masked_scatter(real, batch.token_type_ids)
        inputs = {"input_ids": ids, "attention_mask": real.long()}
        outputs = self._run(inputs, types)
        return HiddenStates(tuple(x[real] for x in outputs), batch.cu_seqlens, batch.window_of, batch.num_documents)
