"""`doctune datasets`: the known data sets, and the files they are read from."""

from __future__ import annotations

from doctune.commands.command import Call, Command


def _run(call: Call) -> None:
    from doctune.readers import DATASETS

    for name, dataset in DATASETS.items():
        print(f"{name:<16}{dataset.description}\n{'':<16}files: {dataset.files}")


COMMAND = Command("datasets", "list the known data sets and the files they are read from", _run)
