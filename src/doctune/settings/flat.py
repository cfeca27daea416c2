"""Settings by their own names, as flags and Python keywords give them."""

from __future__ import annotations

from typing import Any

from doctune.config import Settings, Tree, did_you_mean, dotted_fields, flat_names, merge
from doctune.errors import ConfigError
from doctune.settings.finetuning import FinetuneSettings

__all__ = ["dotted_fields", "flat_names", "from_flat"]


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
