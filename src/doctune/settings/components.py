"""The parts of a classifier and of its training that are chosen by name: each with its name and its own settings.

A component is a class here and a class that does the work, where `made_by` says; nothing else knows its name. What a
flag may say, which setting belongs to which component, what a model's folder may hold: all of it is derived from the
unions below. A new component is its file and its class in the union of its kind; or a class in a file of one's own,
given as `my_file.py:MyClass`. docs/extending.md has an example of each kind.

Never imports torch, as all settings: `doctune.settings.implementations` finds the class that does the work.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import Field, GetCoreSchemaHandler, SerializerFunctionWrapHandler, model_serializer, model_validator
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from doctune.config import Settings
from doctune.errors import ConfigError
from doctune.own_code import is_place

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


class HeadOnly(Component):
    name = "head-only"
    made_by = "doctune.text.truncation:HeadOnly"


class TailOnly(Component):
    name = "tail-only"
    made_by = "doctune.text.truncation:TailOnly"


class HeadTail(Component):
    name = "head+tail"
    made_by = "doctune.text.truncation:HeadTail"
    unread_elsewhere = True
    head_tokens: NotNegative | None = Field(
        None, description="head+tail: tokens kept at the head, 0 for half; default: a quarter, which is 128 of 510"
    )
    original_truncation: bool = Field(
        False, description="repeat the original's loss of one token at an odd budget cut in half"
    )


class Windows(Component):
    name = "windows"
    made_by = "doctune.text.truncation:Windows"
    overlap: NotNegative = Field(0, description="windows: tokens that neighbouring windows share")
    max_windows: Positive | None = Field(
        None, description="windows: read only so many of a text, from its beginning; default: all"
    )


class TokenPooling(Component):
    """`weights`: whether it has none, those that came with the encoder, or new ones that training must find."""

    weights: ClassVar[Literal["none", "encoder's", "new"]] = "none"


class Pooler(TokenPooling):
    name = "pooler"
    made_by = "doctune.pooling.tokens:Pooler"
    weights = "encoder's"


class Cls(TokenPooling):
    name = "cls"
    made_by = "doctune.pooling.tokens:Cls"


class Mean(TokenPooling):
    name = "mean"
    made_by = "doctune.pooling.tokens:Mean"


class Max(TokenPooling):
    name = "max"
    made_by = "doctune.pooling.tokens:Max"


class Attention(TokenPooling):
    name = "attention"
    made_by = "doctune.pooling.tokens:Attention"
    weights = "new"


class ConcatLayers(Component):
    name = "concat"
    made_by = "doctune.pooling.layers:Concat"


class MeanLayers(Component):
    name = "mean"
    made_by = "doctune.pooling.layers:Mean"


class MaxLayers(Component):
    name = "max"
    made_by = "doctune.pooling.layers:Max"


class AttentionLayers(Component):
    name = "attention"
    made_by = "doctune.pooling.layers:Attention"


class MeanWindows(Component):
    name = "mean"
    made_by = "doctune.pooling.tokens:Mean"


class MaxWindows(Component):
    name = "max"
    made_by = "doctune.pooling.tokens:Max"


class AttentionWindows(Component):
    name = "attention"
    made_by = "doctune.pooling.tokens:Attention"


class Linear(Component):
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


class SlantedTriangular(Component):
    name = "slanted-triangular"
    made_by = "doctune.training.schedule:SlantedTriangular"


class Trapezoid(Component):
    name = "trapezoid"
    made_by = "doctune.training.schedule:Trapezoid"
    unread_elsewhere = True
    decay: Share = Field(0.2, description="trapezoid: share of the steps in which the rate falls")


class Constant(Component):
    name = "constant"
    made_by = "doctune.training.schedule:Constant"


class Cosine(Component):
    name = "cosine"
    made_by = "doctune.training.schedule:Cosine"


class WarmupLinear(Component):
    name = "warmup-linear"
    made_by = "doctune.training.schedule:WarmupLinear"


class WarmupConstant(Component):
    name = "warmup-constant"
    made_by = "doctune.training.schedule:WarmupConstant"


class WarmupCosine(Component):
    name = "warmup-cosine"
    made_by = "doctune.training.schedule:WarmupCosine"


class AdamW(Component):
    name = "adamw"
    made_by = "doctune.training.optim:AdamW"


class BertAdam(Component):
    name = "bert-adam"
    made_by = "doctune.training.optim:BertAdam"


class Accuracy(Component):
    name = "accuracy"
    made_by = "doctune.metrics.choosing:Accuracy"


class MacroF1(Component):
    name = "macro_f1"
    made_by = "doctune.metrics.choosing:MacroF1"


class LogLoss(Component):
    name = "loss"
    made_by = "doctune.metrics.choosing:LogLoss"


Truncations = HeadOnly | TailOnly | HeadTail | Windows
TokenPoolings = Pooler | Cls | Mean | Max | Attention
LayerPoolings = ConcatLayers | MeanLayers | MaxLayers | AttentionLayers
WindowPoolings = MeanWindows | MaxWindows | AttentionWindows
Heads = Linear | BiLstmSettings
Schedules = SlantedTriangular | Trapezoid | Constant | Cosine | WarmupLinear | WarmupConstant | WarmupCosine
Optimizers = AdamW | BertAdam
Metrics = Accuracy | MacroF1 | LogLoss


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of component: the setting that chooses one, its section, and what the code of one must have.

    `methods` it must have, `attributes` it has once it is made, and `arguments` are what its constructor may ask for
    by name, beside its own settings: each by its name, or all of them as `settings`. `words` are what the setting may
    say without naming a component.
    """

    setting: str
    section: str
    components: tuple[type[Component], ...]
    methods: tuple[str, ...]
    arguments: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
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
        Kind(
            "token_pooling", "features", get_args(TokenPoolings), ("forward",), ("hidden_size",),
            words=("auto", "tokens"),
        ),
        Kind(
            "layer_pooling", "features", get_args(LayerPoolings), ("forward",), ("hidden_size", "num_layers"),
            ("output_size",),
        ),
        Kind("window_pooling", "features", get_args(WindowPoolings), ("forward", "shares"), ("hidden_size",)),
        Kind("head", "features", get_args(Heads), ("forward",), ("hidden_size",), ("output_size",)),
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


@dataclass(frozen=True, slots=True)
class Choice:
    """The values of a setting that chooses a component: `options`, or `my_file.py:MyClass`.

    `stored`: in an artefact, which holds the name of a component, also of the user's own, and never a place of code.
    """

    setting: str
    listed: Callable[[], tuple[str, ...]]
    stored: bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """What may stand here without code of the user's."""
        return self.listed()

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def check(self, value: Any) -> str:
        """The value itself, if it may stand here."""
        if isinstance(value, str):
            if self.stored and is_place(value):
                raise ValueError(
                    f"{value!r} names a file with code, which is never taken from a model; a model holds the name only"
                )
            if value in self.options or (NAME.fullmatch(value) if self.stored else is_place(value)):
                return value
        *others, last = map(repr, self.options)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}" if others else last})


def chosen(setting: str, before: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> Choice:
    """A user's choice of a component; `before` and `after` are words that stand around their names."""
    return Choice(setting, lambda: (*before, *names(setting), *after))


def stored(setting: str, after: tuple[str, ...] = ()) -> Choice:
    """The name of a component in an artefact."""
    return Choice(setting, lambda: (*names(setting), *after), stored=True)


class Section(Settings):
    """A section of settings in which components are chosen.

    Beside each choice there is `SETTING_options`: those settings of the chosen component that have no place of their
    own in the section, so all of a class of the user's. Where they are not given they are not written either.
    """

    @model_validator(mode="after")
    def _settings_belong_to_what_is_chosen(self) -> Self:
        for setting, kind in KINDS.items():
            if f"{setting}{OPTIONS}" in type(self).model_fields:
                self._check(kind, getattr(self, setting), getattr(self, f"{setting}{OPTIONS}"))
        return self

    def _check(self, kind: Kind, name: str, options: dict[str, Any] | None) -> None:
        places = type(self).model_fields
        for one in kind.components:
            for field, definition in one.model_fields.items():
                refused = one.name != name and not one.unread_elsewhere and field in places
                if refused and getattr(self, field) != definition.default:
                    raise ValueError(f"{field} is for {kind.setting} = {one.name}, found {name}; leave {field} out")
        component = kind.component(name)
        if component is not None and set(component.model_fields) - set(places):
            try:
                component.build(self.values_for(component) | (options or {}))
            except ConfigError as error:
                raise ValueError(f"{kind.setting}{OPTIONS}.{error}") from None
        elif options is not None and (component is not None or name in kind.words):
            raise ValueError(
                f"{kind.setting}{OPTIONS} is for {kind.setting} = my_file.py:MyClass, found {name}; leave it out"
            )

    def values_for(self, component: type[Component]) -> dict[str, Any]:
        """What the section itself says of the settings of one of doctune's components."""
        return {name: getattr(self, name) for name in component.model_fields if name in type(self).model_fields}

    @model_serializer(mode="wrap")
    def _without_options_that_are_not_there(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {name: value for name, value in fields.items() if value is not None or not name.endswith(OPTIONS)}


def field_of(component: type[Component], name: str) -> Any:
    """A component's setting as a field of the section that it is chosen in: the same default and description."""
    definition = component.model_fields[name]
    return Field(definition.default, description=definition.description)


def options_field() -> Any:
    """The field for settings of the chosen component that have no flag."""
    return Field(
        None, description="settings of a component that have no flag, by name, as those of a class of your own"
    )


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
    return truncation == Windows.name or KINDS["truncation"].component(truncation) is None
