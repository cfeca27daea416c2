"""What is wrong with a setting, in words of the user's: where it is, what it takes, what was found."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

Place = tuple[int | str, ...]


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`"; did you mean X?"` for a near word, else the list of what there is."""
    there = list(words)
    near = difflib.get_close_matches(word, there, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; there is {', '.join(there)}"


def explain(
    root: type[BaseModel], tree: Any, errors: Sequence[ErrorDetails], flags: Mapping[str, str]
) -> Iterator[str]:
    """A line for each setting that is wrong, however many complaints there are about it.

    `flags` are the settings' names as flags (`{"epochs": "training.epochs"}`), where there is a command line.
    """
    complaints: dict[Place, list[ErrorDetails]] = {}
    for error in errors:
        place, _ = _setting(root, error["loc"])
        complaints.setdefault(place, []).append(error)
    for place, about in complaints.items():
        # The one that is deepest in a list names the value of it that is wrong.
        yield _line(root, tree, place, max(about, key=lambda one: len(one["loc"])), flags)


def is_list(kind: Any) -> bool:
    """Whether values of this type are lists, or may be."""
    return any(typing.get_origin(member) is tuple for member in _members(kind))


def takes_truth(kind: Any) -> bool:
    """Whether a value of this type may be true or false, or anything at all."""
    return any(member in (bool, Any) or typing.get_origin(member) is dict for member in _members(kind))


def literals(kind: Any) -> tuple[Any, ...]:
    """The words that may stand for a value of this type."""
    return tuple(
        word
        for member in _members(kind)
        if typing.get_origin(member) is typing.Literal
        for word in typing.get_args(member)
    )


def allowed(field: FieldInfo) -> str:
    """What a setting takes: "a whole number from 1", "auto, fp32 or bf16"."""
    names = [name for one in field.metadata for name in getattr(one, "options", ())]
    if names:  # of components, or of kinds of answers
        return _joined(names)
    limits = [limit for one in field.metadata for limit in _limits(one)]
    return _any_of(field.annotation, limits)


def _line(root: type[BaseModel], tree: Any, place: Place, error: ErrorDetails, flags: Mapping[str, str]) -> str:
    where = ".".join(map(str, place))
    _, field = _setting(root, place)
    flag = next((f"--{name.replace('_', '-')}" for name, dotted in flags.items() if dotted == where), "")
    if error["type"] == "extra_forbidden":
        section = _section(root, place[:-1])
        hint = did_you_mean(str(place[-1]), section.model_fields) if section else ""
        return f"{where}: no such setting{hint}"
    if error["type"] == "missing" and len(error["loc"]) == len(place):
        if any(isinstance(part, int) for part in place):  # a list of sections is in config files only
            return f"{where}: must be given"
        own = flag or f"--{str(place[-1]).replace('_', '-')}"
        return f"{where}: must be given, as {own} or in a config file"
    if error["type"] == "value_error":
        message = error["msg"].removeprefix("Value error, ")
        return f"{where}: {message}" if where else message
    if field is None:
        section = _section(root, place)
        names = ", ".join(section.model_fields) if section else "name = value"
        return f"{where or 'settings'}: a section is needed, with {names}, found {error['input']!r}"
    return f"{where}: give {f'{flag} ' if flag else ''}{allowed(field)}, found {_found(error, place, tree)}"


def _found(error: ErrorDetails, place: Place, tree: Any) -> str:
    """The value that is wrong: one of a list, or all there is."""
    rest = error["loc"][len(place) :]
    if rest and isinstance(rest[-1], int) and not isinstance(error["input"], (list, tuple)):
        return repr(error["input"])
    value = tree
    for part in place:
        try:
            value = value[part]
        except (KeyError, IndexError, TypeError):
            return repr(error["input"])
    return repr(value)


def _setting(root: type[BaseModel], loc: Place) -> tuple[Place, FieldInfo | None]:
    """The place of the setting that a complaint is about, and its field; None for a section or an unknown name."""
    section: type[BaseModel] | None = root
    for depth, part in enumerate(loc):
        if isinstance(part, int):  # one of a list of sections
            continue
        field = None if section is None else section.model_fields.get(part)
        if field is None:
            return loc, None
        section = _model(field.annotation)
        if section is None:
            return loc[: depth + 1], field
    return loc, None


def _section(root: type[BaseModel], place: Place) -> type[BaseModel] | None:
    section: type[BaseModel] | None = root
    for part in place:
        if isinstance(part, str) and section is not None:
            field = section.model_fields.get(part)
            section = None if field is None else _model(field.annotation)
    return section


def _model(kind: Any) -> type[BaseModel] | None:
    """The settings class that a type is, or is a list of."""
    for member in _members(kind):
        inner = typing.get_args(member)[0] if typing.get_origin(member) is tuple else member
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            return inner
    return None


def _members(kind: Any) -> tuple[Any, ...]:
    """The types of a union, without None and without what is annotated; of another type it alone."""
    if typing.get_origin(kind) is typing.Annotated:
        return _members(typing.get_args(kind)[0])
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return tuple(one for member in typing.get_args(kind) for one in _members(member) if one is not type(None))
    return (kind,)


def _limits(metadata: Any) -> list[tuple[str, float]]:
    """`[("ge", 1)]` of pydantic's or annotated_types' ways to write a limit."""
    inner = getattr(metadata, "metadata", None)
    if isinstance(metadata, FieldInfo) and inner is not None:
        return [limit for one in inner for limit in _limits(one)]
    return [(name, getattr(metadata, name)) for name in _BOUNDS if getattr(metadata, name, None) is not None]


_BOUNDS: dict[str, Callable[[float], str]] = {
    "ge": lambda bound: f"from {bound:g}", "gt": lambda bound: f"above {bound:g}",
    "le": lambda bound: f"up to {bound:g}", "lt": lambda bound: f"below {bound:g}",
}  # fmt: skip


def _any_of(kind: Any, limits: Sequence[tuple[str, float]], several: bool = False) -> str:
    """All types of a union in words; `several` in the plural."""
    words: list[str] = []
    for member in _parts(kind):
        words += [word for word in _one(member, limits, several) if word not in words]
    return _joined(words)


def _joined(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _parts(kind: Any) -> list[Any]:
    """As `_members`, but annotated types keep their limits."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return [one for member in typing.get_args(kind) for one in _parts(member) if one is not type(None)]
    return [kind]


def _one(kind: Any, limits: Sequence[tuple[str, float]], several: bool) -> list[str]:
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        own = [limit for one in inner[1:] for limit in _limits(one)]
        return [_any_of(inner[0], [*limits, *own], several)]
    if origin is typing.Literal:
        return [str(word) for word in inner]
    if origin is tuple:
        if inner[-1] is ...:
            return [_any_of(inner[0], limits, True)]
        return [f"{len(inner)} {_any_of(inner[0], limits, True)}"]
    bounds = " and ".join(_BOUNDS[name](bound) for name, bound in limits).replace(" and up to ", " to ")
    noun = _NOUNS[kind][several] if kind in _NOUNS else "another value"
    return [f"{noun} {bounds}" if bounds and kind in (int, float) else noun]


_NOUNS = {
    int: ("a whole number", "whole numbers"), float: ("a number", "numbers"), str: ("text", "texts"),
    bool: ("true or false", "true or false"),
}  # fmt: skip
