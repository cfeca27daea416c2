"""Settings that choose a component, and the sections in which they stand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from pydantic import (
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from doctune.config import Settings
from doctune.errors import ConfigError
from doctune.own_code import is_place
from doctune.settings.components import KINDS, NAME, OPTIONS, Component, Kind, names


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

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "examples": list(self.options)}

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
