"""How settings are read: TOML files, `section.name=value` overrides, errors that name the place.

The settings themselves are in `doctune.settings`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from doctune.config.words import allowed, did_you_mean, explain, is_list, literals, takes_truth
from doctune.errors import ConfigError
from doctune.files import write_text

__all__ = [
    "Settings", "Tree", "did_you_mean", "dotted_fields", "flat_names", "merge", "parse_overrides", "read_toml",
    "to_toml", "write_toml",
]  # fmt: skip
Tree = dict[str, Any]


class Settings(BaseModel):
    """Base of all settings: frozen, and an unknown name is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    @classmethod
    def build(cls, tree: Mapping[str, Any], flags: bool = False) -> Self:
        """Validate a tree of values; a `ConfigError` names the dotted key, what was found and what is allowed.

        `flags`: the values come from a command line, so that the error names the flag, too.
        """
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            names = flat_names(cls) if flags else {}
            raise ConfigError("; ".join(explain(cls, tree, error.errors(), names))) from None

    @field_validator("*", mode="before")
    @classmethod
    def _one_makes_a_list(cls, value: Any, info: ValidationInfo) -> Any:
        """Where a setting is a list, one value is a list of one; where a word may stand in its place, it may."""
        field = cls.model_fields[info.field_name or ""]
        kind = field.annotation
        parts = value if isinstance(value, (list, tuple)) else (value,)
        if any(isinstance(part, bool) for part in parts) and not takes_truth(kind):
            raise ValueError(f"give {allowed(field)}, found {value!r}")  # Python takes True for 1
        if not is_list(kind) or value is None:
            return value
        several = isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping, BaseModel))
        values = list(value) if several else [value]
        return values[0] if len(values) == 1 and values[0] in literals(kind) else values


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


def dotted_fields(settings: type[Settings], prefix: str = "") -> dict[str, Any]:
    """`{"optimizer.learning_rate": FieldInfo, ...}` for every setting below `settings`."""
    fields: dict[str, Any] = {}
    for name, field in settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
            fields |= dotted_fields(field.annotation, f"{prefix}{name}.")
        else:
            fields[f"{prefix}{name}"] = field
    return fields


def flat_names(kind: type[Settings]) -> dict[str, str]:
    """`{"learning_rate": "optimizer.learning_rate", ...}`: the name of each setting as a flag and a keyword.

    A setting whose own name an earlier section has taken carries its section's: `continuation_epochs`.
    """
    names: dict[str, str] = {}
    for dotted in dotted_fields(kind):
        own = dotted.rpartition(".")[2]
        names[own if own not in names else dotted.replace(".", "_")] = dotted
    return names


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    return [_without_none(v) for v in value] if isinstance(value, list) else value
