"""How settings are read: TOML files, `section.name=value` overrides, errors that name the place.

The settings themselves are in `doctune.settings`.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from doctune.errors import ConfigError
from doctune.files import write_text

Tree = dict[str, Any]


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def build(cls, tree: Mapping[str, Any]) -> Self:
        """Validate a tree of values; a `ConfigError` names the dotted key, what was found and what is allowed."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            raise ConfigError("; ".join(_explain(cls, e) for e in error.errors())) from None


def read_toml(path: Path) -> Tree:
    """Read a TOML file, or say where it is not TOML."""
    if not path.is_file():
        raise ConfigError(f"{path}: no such config file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not a TOML file: {error}") from None


def write_toml(path: Path, settings: Settings) -> None:
    """Write every setting, so that the file alone repeats the run; unset ones are left out (TOML has no null)."""
    write_text(path, to_toml(settings))


def to_toml(settings: Settings) -> str:
    """The settings as TOML."""
    return tomli_w.dumps(_without_none(settings.model_dump(mode="json")))


def merge(*trees: Mapping[str, Any]) -> Tree:
    """Merge trees of settings; the later one wins, section by section."""
    merged: Tree = {}
    for tree in trees:
        for key, value in tree.items():
            old = merged.get(key)
            merged[key] = merge(old, value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return merged


def parse_overrides(pairs: Iterable[str]) -> Tree:
    """`["optimizer.learning_rate=1e-4"]` as a tree; values are TOML, and bare words are strings."""
    tree: Tree = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or "." not in key:
            raise ConfigError(f"--set {pair}: write section.name=value, for instance optimizer.learning_rate=1e-4")
        try:
            value = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            value = text
        for part in reversed(key.strip().split(".")):
            value = {part: value}
        tree = merge(tree, value)
    return tree


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """`"; did you mean X?"` for a near word, else the list of what there is."""
    known = list(words)
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {near[0]!r}?" if near else f"; there is {', '.join(known)}"


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value


def _explain(root: type[Settings], error: ErrorDetails) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        section = _section(root, error["loc"][:-1])
        hint = did_you_mean(str(error["loc"][-1]), section.model_fields) if section else ""
        return f"{where}: no such setting{hint}"
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "missing":
        flag = str(error["loc"][-1]).replace("_", "-")
        return f"{where}: must be given, as --{flag} or in a config file"
    if error["type"] == "value_error":
        return f"{where}: {message}" if where else message
    return f"{where}: {message[0].lower()}{message[1:]}, found {error['input']!r}"


def _section(root: type[Settings], path: tuple[int | str, ...]) -> type[Settings] | None:
    for part in path:
        field = root.model_fields.get(str(part))
        if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, Settings)):
            return None
        root = field.annotation
    return root
