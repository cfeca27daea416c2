"""What a command is: a value, from which the command line makes the parser, the help and the errors.

A module with a command imports torch, numpy and pydantic inside its functions only, because `--help` must not wait.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from doctune.config import Settings, Tree

    SomeSettings = TypeVar("SomeSettings", bound=Settings)

OPTIONS = "options"
"""The group of flags that argparse itself makes, where --help stands."""
INTERRUPTED = "a run goes on with --resume"
GOES_ON = "what is finished stays: run the same command again to go on"


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag or an argument of a command's own; `options` are those of argparse's `add_argument`.

    `group` is a title, "" the group of the run (where the command has settings). Of the flags of one `choice` only one
    can be given.
    """

    names: tuple[str, ...]
    options: Mapping[str, Any]
    group: str = ""
    choice: str = ""


def flag(*names: str, group: str = "", choice: str = "", **options: Any) -> Flag:
    """`flag("--resume", action="store_true", help="...")`; a name without dashes is an argument by its place."""
    return Flag(names, options, group, choice)


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a command: `args` are its own flags, `tree` its settings as given, `line` the line that was typed."""

    args: argparse.Namespace
    tree: Tree
    line: str

    def settings(self, kind: type[SomeSettings]) -> SomeSettings:
        """The settings, checked; `ConfigError` names what is wrong."""
        return kind.build(self.tree, flags=True)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of doctune.

    `settings` gives the settings class (a function, as it is imported late), whose fields become flags, but for those
    to `skip`; `sections` are the titles of its sections in the help. With a `dry_run`, which gives the text to print,
    there is --dry-run. `several_processes`: torchrun may start it. `interrupted` is said after Ctrl-C.
    """

    name: str
    line: str
    run: Callable[[Call], None]
    dry_run: Callable[[Call], str] | None = None
    settings: Callable[[], type[Settings]] | None = None
    sections: Mapping[str, str] = field(default_factory=dict)
    skip: tuple[str, ...] = ()
    flags: tuple[Flag, ...] = ()
    usage: str | None = None
    examples: str | None = None
    several_processes: bool = False
    interrupted: str = INTERRUPTED


def whole_number(text: str) -> int:
    """The type of a flag that takes a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"give a whole number, found {text!r}") from None


RESUME = flag("--resume", action="store_true", help="go on with a run that was killed, in its --output")
DRY_RUN = flag("--dry-run", action="store_true", help="print what would run, and write nothing")
