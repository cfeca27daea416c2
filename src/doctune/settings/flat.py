"""Settings by their own names, as flags and Python keywords give them."""

from __future__ import annotations

from typing import Any

from doctune.config import Settings, Tree, did_you_mean, merge
from doctune.errors import ConfigError
from doctune.settings.finetuning import FinetuneSettings


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


def from_flat(settings: dict[str, Any], kind: type[Settings] = FinetuneSettings) -> Tree:
    """`{"learning_rate": 1e-4}` as a tree of sections; names are those of `flat_names`. None: not given."""
    places = flat_names(kind)
    tree: Tree = {}
    for name, value in settings.items():
        if name not in places:
            raise ConfigError(f"{name}: no such setting{did_you_mean(name, places)}")
        if value is not None:
            for part in reversed(places[name].split(".")):
                value = {part: value}
            tree = merge(tree, value)
    return tree
