"""The flags of the commands that use a model: how the documents are read, and where it computes."""

from __future__ import annotations

import argparse
from typing import Any

from doctune.commands.command import OPTIONS, flag

READING = ("dataset", "text", "text_pair", "label", "format", "encoding", "header")
_TITLE = "reading (default: as the training data was read)"
READING_FLAGS = (
    flag("--dataset", group=_TITLE, metavar="NAME", help="the file is of this known data set"),
    flag("--text", group=_TITLE, nargs="+", metavar="COLUMN", help="column(s) of the text"),
    flag("--text-pair", group=_TITLE, metavar="COLUMN", help="column of the second text"),
    flag("--label", group=_TITLE, metavar="COLUMN", help="column of the label"),
    flag("--format", group=_TITLE, metavar="{auto,csv,tsv,jsonl,parquet,folder}"),
    flag("--encoding", group=_TITLE, help="text encoding of the file"),
    flag(
        "--header", group=_TITLE, action=argparse.BooleanOptionalAction, default=None,
        help="whether the first row names the columns",
    ),
    flag("--device", group=OPTIONS, help="auto, cpu, cuda, ..."),
    flag(
        "--components", group=OPTIONS, nargs="+", default=[], metavar="FILE.py:CLASS",
        help="classes of your own that the model is made of: its folder holds their names, never code",
    ),
)  # fmt: skip


def reading(args: argparse.Namespace) -> dict[str, Any]:
    """The settings of reading that were given."""
    return {name: getattr(args, name) for name in READING if getattr(args, name) is not None}
