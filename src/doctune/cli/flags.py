"""Flags from a command, and settings from flags."""

from __future__ import annotations

import argparse
import types
import typing
from typing import TYPE_CHECKING, Any

from doctune.commands.command import DRY_RUN, OPTIONS, Command

if TYPE_CHECKING:
    from doctune.config import Settings, Tree

Arguments = argparse.Namespace


def add_flags(parser: argparse.ArgumentParser, command: Command) -> None:
    """All flags of a command: those of its settings, grouped by section, and its own."""
    groups: dict[str, argparse._ActionsContainer] = {OPTIONS: parser}
    if command.settings is None:
        groups[""] = parser
    else:
        _settings_flags(parser, command, command.settings(), groups)
    own = command.flags
    if command.dry_run is not None and not any(DRY_RUN.names == one.names for one in own):
        own = (*own, DRY_RUN)
    choices: dict[str, argparse._ActionsContainer] = {}
    for one in own:
        by_place = not one.names[0].startswith("-")
        if one.group not in groups:
            groups[one.group] = parser.add_argument_group(one.group)
        group = parser if by_place else groups[one.group]
        if one.choice:
            if one.choice not in choices:
                choices[one.choice] = group.add_mutually_exclusive_group()
            group = choices[one.choice]
        group.add_argument(*one.names, **one.options)


def _settings_flags(
    parser: argparse.ArgumentParser, command: Command, settings: type[Settings], groups: dict[str, Any]
) -> None:
    from doctune.config import dotted_fields, flat_names

    for section, title in command.sections.items():
        groups[section] = parser.add_argument_group(title)
    if "" not in groups:
        groups[""] = parser.add_argument_group("run")
    groups[""].add_argument("--config", metavar="FILE", help="TOML file with settings; flags win over it")
    groups[""].add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="any setting by its full name"
    )
    fields = dotted_fields(settings)
    for name, dotted in flat_names(settings).items():
        section = dotted.rpartition(".")[0]
        if section not in groups:
            groups[section] = parser.add_argument_group(section)
        if dotted not in command.skip and not name.endswith("_options"):  # a component's, for --set
            groups[section].add_argument(
                f"--{name.replace('_', '-')}", dest=dotted, default=None, **_flag(fields[dotted])
            )


def _flag(field: Any) -> dict[str, Any]:
    """argparse's arguments for a setting; values stay text, the settings themselves check them."""
    default = field.get_default()
    text = (field.description or "").replace("%", "%%")
    if default is not None and not field.is_required() and default != ():
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" (default: {shown})"
    kind = field.annotation
    components = [one.options for one in field.metadata if hasattr(one, "options")]
    if components:  # or my_file.py:MyClass
        return {"metavar": f"{{{','.join(components[0])}}}", "help": text}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction, "help": text}
    if typing.get_origin(kind) is typing.Literal:
        return {"metavar": f"{{{','.join(map(str, typing.get_args(kind)))}}}", "help": text}
    members = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if any(typing.get_origin(member) is tuple for member in members):
        return {"nargs": "+", "metavar": "VALUE", "help": text}
    return {"metavar": "VALUE", "help": text}


def settings_tree(command: Command, args: Arguments) -> Tree:
    """The settings that were given: config file, then --set, then flags; none for a command without settings."""
    if command.settings is None:
        return {}
    from pathlib import Path

    from doctune.config import dotted_fields, merge, parse_overrides, read_toml

    flags: Tree = {}
    for dotted in dotted_fields(command.settings()):
        value = getattr(args, dotted, None)
        if value is not None:
            for part in reversed(dotted.split(".")):
                value = {part: value}
            flags = merge(flags, value)
    return merge({} if args.config is None else read_toml(Path(args.config)), parse_overrides(args.set), flags)
