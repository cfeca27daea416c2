"""The parts of a classifier and of its training that are chosen by name: each with its name and its own settings.

A component is a class here and a class that does the work, where `made_by` says; nothing else knows its name. What a
flag may say, which setting belongs to which component, what a model's folder may hold: all of it is derived from the
unions below. A new component is its file and its class in the union of its kind; or a class in a file of one's own,
given as `my_file.py:MyClass`. docs/extending.md has an example of each kind.

Never imports torch, as all settings: `doctune.settings.implementations` finds the class that does the work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, get_args

from pydantic import Field

from doctune.config import Settings

Positive = Annotated[int, Field(ge=1)]
NotNegative = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0.0, le=1.0)]
OPTIONS = "_options"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+_-]*")


class Component(Settings):
    """What is known of a component without its code: its name, the settings that are its own, and where the code is.

    `made_by` is `module:Class`, imported when it is used. Its settings are also settings of the section that it is
    chosen in: given for another component they are an error, unless `unread_elsewhere` (which is as it always was).
    """

    name: ClassVar[str]
    made_by: ClassVar[str]
    unread_elsewhere: ClassVar[bool] = False


class HeadOnlySettings(Component):
    name = "head-only"
    made_by = "doctune.text.truncation:HeadOnly"


class TailOnlySettings(Component):
    name = "tail-only"
    made_by = "doctune.text.truncation:TailOnly"


class HeadTailSettings(Component):
    name = "head+tail"
    made_by = "doctune.text.truncation:HeadTail"
    unread_elsewhere = True
    head_tokens: NotNegative | None = Field(
        None, description="head+tail: tokens kept at the head, 0 for half; default: a quarter, which is 128 of 510"
    )
    original_truncation: bool = Field(
        False, description="repeat the original's loss of one token at an odd budget cut in half"
    )


class WindowsSettings(Component):
    name = "windows"
    made_by = "doctune.text.truncation:Windows"
    overlap: NotNegative = Field(0, description="windows: tokens that neighbouring windows share")
    max_windows: Positive | None = Field(
        None, description="windows: read only so many of a text, from its beginning; default: all"
    )


class TokenPooling(Component):
    """`weights`: whether it has none, those that came with the encoder, or new ones that training must find."""

    weights: ClassVar[Literal["none", "encoder's", "new"]] = "none"


class PoolerSettings(TokenPooling):
    name = "pooler"
    made_by = "doctune.pooling.tokens:Pooler"
    weights = "encoder's"


class ClsSettings(TokenPooling):
    name = "cls"
    made_by = "doctune.pooling.tokens:Cls"


class MeanSettings(TokenPooling):
    name = "mean"
    made_by = "doctune.pooling.tokens:Mean"


class MaxSettings(TokenPooling):
    name = "max"
    made_by = "doctune.pooling.tokens:Max"


class AttentionSettings(TokenPooling):
    name = "attention"
    made_by = "doctune.pooling.tokens:Attention"
    weights = "new"


class ConcatLayersSettings(Component):
    name = "concat"
    made_by = "doctune.pooling.layers:Concat"


class MeanLayersSettings(Component):
    name = "mean"
    made_by = "doctune.pooling.layers:Mean"


class MaxLayersSettings(Component):
    name = "max"
    made_by = "doctune.pooling.layers:Max"


class AttentionLayersSettings(Component):
    name = "attention"
    made_by = "doctune.pooling.layers:Attention"


class MeanWindowsSettings(Component):
    name = "mean"
    made_by = "doctune.pooling.tokens:Mean"


class MaxWindowsSettings(Component):
    name = "max"
    made_by = "doctune.pooling.tokens:Max"


class AttentionWindowsSettings(Component):
    name = "attention"
    made_by = "doctune.pooling.tokens:Attention"


class LinearSettings(Component):
    """No reader of tokens: the last layer, which is linear in any case, stands on the pooled vector."""

    name = "linear"
    made_by = "doctune.heads.linear:LinearHead"


class BiLstmSettings(Component):
    """The sizes of a BiLSTM with self-attention; the defaults are those of Lin et al. (2017)."""

    name = "bilstm"
    made_by = "doctune.heads.bilstm:BiLstm"
    lstm_hidden: Positive = Field(300, description="bilstm: units in each direction")
    attention_hops: Positive = Field(30, description="bilstm: weighted sums of the tokens, side by side")
    attention_size: Positive = Field(350, description="bilstm: units behind the attention weights")


class SlantedTriangularSettings(Component):
    name = "slanted-triangular"
    made_by = "doctune.training.schedule:SlantedTriangular"


class TrapezoidSettings(Component):
    name = "trapezoid"
    made_by = "doctune.training.schedule:Trapezoid"
    unread_elsewhere = True
    decay: Share = Field(0.2, description="trapezoid: share of the steps in which the rate falls")


class ConstantSettings(Component):
    name = "constant"
    made_by = "doctune.training.schedule:Constant"


class CosineSettings(Component):
    name = "cosine"
    made_by = "doctune.training.schedule:Cosine"


class WarmupLinearSettings(Component):
    name = "warmup-linear"
    made_by = "doctune.training.schedule:WarmupLinear"


class WarmupConstantSettings(Component):
    name = "warmup-constant"
    made_by = "doctune.training.schedule:WarmupConstant"


class WarmupCosineSettings(Component):
    name = "warmup-cosine"
    made_by = "doctune.training.schedule:WarmupCosine"


class AdamWSettings(Component):
    name = "adamw"
    made_by = "doctune.training.optim:AdamW"


class BertAdamSettings(Component):
    name = "bert-adam"
    made_by = "doctune.training.optim:BertAdam"


class AccuracySettings(Component):
    name = "accuracy"
    made_by = "doctune.metrics.choosing:Accuracy"


class MacroF1Settings(Component):
    name = "macro_f1"
    made_by = "doctune.metrics.choosing:MacroF1"


class LogLossSettings(Component):
    name = "loss"
    made_by = "doctune.metrics.choosing:LogLoss"


Truncations = HeadOnlySettings | TailOnlySettings | HeadTailSettings | WindowsSettings
TokenPoolings = PoolerSettings | ClsSettings | MeanSettings | MaxSettings | AttentionSettings
LayerPoolings = ConcatLayersSettings | MeanLayersSettings | MaxLayersSettings | AttentionLayersSettings
WindowPoolings = MeanWindowsSettings | MaxWindowsSettings | AttentionWindowsSettings
Heads = LinearSettings | BiLstmSettings
Schedules = (
    SlantedTriangularSettings
    | TrapezoidSettings
    | ConstantSettings
    | CosineSettings
    | WarmupLinearSettings
    | WarmupConstantSettings
    | WarmupCosineSettings
)
Optimizers = AdamWSettings | BertAdamSettings
Metrics = AccuracySettings | MacroF1Settings | LogLossSettings


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of component: the setting that chooses one, its section, and what the code of one must have.

    `methods` it must have, and `arguments` are what its constructor may ask for by name, beside its own settings: each
    by its name, or all of them as `settings`. `words` are what the setting may say without naming a component.
    """

    setting: str
    section: str
    components: tuple[type[Component], ...]
    methods: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def place(self) -> str:
        """The setting by its full name."""
        return f"{self.section}.{self.setting}"

    def component(self, name: str) -> type[Component] | None:
        """The component of this name, or None where doctune has none."""
        return next((one for one in self.components if one.name == name), None)


_ARGUMENTS_OF_OPTIMIZERS = ("groups", "betas", "epsilon", "max_grad_norm", "factor")
KINDS = {
    kind.setting: kind
    for kind in (
        Kind("truncation", "truncation", get_args(Truncations), ("windows",)),
        Kind("token_pooling", "features", get_args(TokenPoolings), ("forward",), ("hidden_size",),
             words=("auto", "tokens")),
        Kind("layer_pooling", "features", get_args(LayerPoolings), ("forward",), ("hidden_size", "num_layers")),
        Kind("window_pooling", "features", get_args(WindowPoolings), ("forward", "shares"), ("hidden_size",)),
        Kind("head", "features", get_args(Heads), ("forward",), ("hidden_size",)),
        Kind("schedule", "schedule", get_args(Schedules), ("__call__",), ("warmup", "total_steps")),
        Kind("optimizer", "optimizer", get_args(Optimizers), ("step", "zero_grad"), _ARGUMENTS_OF_OPTIMIZERS),
        Kind("select", "training", get_args(Metrics), ("__call__",), words=("last",)),
    )
}  # fmt: skip


def names(setting: str) -> tuple[str, ...]:
    """The names of a kind's components, in the order of its union."""
    return tuple(component.name for component in KINDS[setting].components)


def poolings_without(*weights: str) -> tuple[str, ...]:
    """The token poolings whose weights are not of these sorts: what pools without training."""
    poolings = KINDS["token_pooling"].components
    return tuple(one.name for one in poolings if issubclass(one, TokenPooling) and one.weights not in weights)


def foreign_fields(setting: str, name: str) -> tuple[str, ...]:
    """The settings that are an error where the component of this name is chosen."""
    return tuple(
        field
        for component in KINDS[setting].components
        if component.name != name and not component.unread_elsewhere
        for field in component.model_fields
    )


def may_read_windows(truncation: str) -> bool:
    """Whether a document may be several windows: with doctune's own, and with a class of the user's, which may do so.

    `implementations.reads_windows` knows the second for certain, because it looks into the class.
    """
    return truncation == WindowsSettings.name or KINDS["truncation"].component(truncation) is None
