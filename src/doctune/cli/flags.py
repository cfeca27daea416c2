"""Flags from settings, and settings from flags."""

from __future__ import annotations

import argparse
import shlex
import sys
import types
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doctune.config import Settings

Arguments = argparse.Namespace
# Lists of numbers in whose place a word may stand: all, balanced, none.
LIST_OR_WORD = ("features.layers", "training.class_weights")
NOT_SETTINGS = (
    "config", "set", "dry_run", "resume", "run", "command", "flags", "source", "weights", "adapted", "base_run",
    "stats", "task", "json", "interrupted", "sizes", "on", "workers", "keep_models", "components",
)  # fmt: skip


def settings_flags(
    command: argparse.ArgumentParser, settings: type[Settings], sections: dict[str, str], skip: Sequence[str] = ()
) -> argparse._ArgumentGroup:
    """A flag for every setting but those to `skip`, grouped by section; gives the group of the command's own flags."""
    from doctune.settings import dotted_fields, flat_names

    groups = {key: command.add_argument_group(title) for key, title in sections.items()}
    groups[""].add_argument("--config", metavar="FILE", help="TOML file with settings; flags win over it")
    groups[""].add_argument(
        "--set", action="append", default=[], metavar="SECTION.NAME=VALUE", help="any setting by its full name"
    )
    fields = dotted_fields(settings)
    for name, dotted in flat_names(settings).items():
        section, field = dotted.rpartition(".")[0], fields[dotted]
        if dotted not in skip and not name.endswith("_options"):  # a component's, for --set
            groups[section].add_argument(f"--{name.replace('_', '-')}", dest=dotted, default=None, **_flag(field))
    return groups[""]


def _flag(field: Any) -> dict[str, Any]:
    """argparse's arguments for a setting; values stay text, the settings themselves check them."""
    default = field.get_default()
    text = field.description.replace("%", "%%")
    if default is not None and not field.is_required() and default != ():
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        text += f" (default: {shown})"
    kind = field.annotation
    components = [one.options for one in field.metadata if hasattr(one, "options")]
    if components:  # or my_file.py:MyClass
        return {"metavar": f"{{{','.join(components[0])}}}", "help": text}
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction, "help": text}
    options = [str(value) for value in typing.get_args(kind)] if typing.get_origin(kind) is typing.Literal else None
    if options:
        return {"choices": options, "help": text}
    members = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    if any(typing.get_origin(member) is tuple for member in members):
        return {"nargs": "+", "metavar": "VALUE", "help": text}
    return {"metavar": "VALUE", "help": text}


def settings_tree(args: Arguments) -> dict[str, Any]:
    """The settings that were given: config file, then --set, then flags."""
    from pathlib import Path

    from doctune.config import merge, parse_overrides, read_toml

    flags: dict[str, Any] = {}
    for dotted, value in vars(args).items():
        if value is None or dotted in NOT_SETTINGS:
            continue
        if isinstance(value, list):
            value = value[0] if dotted in LIST_OR_WORD and value[0].isalpha() else value
        for part in reversed(dotted.split(".")):
            value = {part: value}
        flags = merge(flags, value)
    return merge({} if args.config is None else read_toml(Path(args.config)), parse_overrides(args.set), flags)


def command_line() -> str:
    return shlex.join(["doctune", *sys.argv[1:]])


READING = ("dataset", "text", "text_pair", "label", "format", "encoding", "header")


def reading(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("reading (default: as the training data was read)")
    group.add_argument("--dataset", metavar="NAME", help="the file is of this known data set")
    group.add_argument("--text", nargs="+", metavar="COLUMN", help="column(s) of the text")
    group.add_argument("--text-pair", metavar="COLUMN", help="column of the second text")
    group.add_argument("--label", metavar="COLUMN", help="column of the label")
    group.add_argument("--format", choices=["auto", "csv", "tsv", "jsonl", "parquet", "folder"])
    group.add_argument("--encoding", help="text encoding of the file")
    group.add_argument(
        "--header", action=argparse.BooleanOptionalAction, default=None, help="whether the first row names the columns"
    )
    command.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    command.add_argument(
        "--components", nargs="+", default=[], metavar="FILE.py:CLASS",
        help="classes of your own that the model is made of: its folder holds their names, never code",
    )  # fmt: skip


def reading_given(args: Arguments) -> dict[str, Any]:
    return {name: getattr(args, name) for name in READING if getattr(args, name) is not None}
