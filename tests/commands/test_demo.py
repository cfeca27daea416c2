"""The demo makes room for itself, and for itself only. The demo as a whole is run by `make wheel` and `make demo`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_killed_demo_is_replaced(cli: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    (folder / "shards").mkdir(parents=True)
    (folder / "config.toml").write_text('[data]\ndataset = "pydocs"\n')
    assert cli("demo", "--encoder", "./nowhere", "--output", folder).error.startswith("./nowhere: no such folder")
    assert not folder.exists()


def test_what_is_no_demo_stays(cli: Callable[..., Any], tmp_path: Path) -> None:
    for name, content in (("config.toml", '[data]\ntrain = "a.csv"\n'), ("notes.txt", "mine")):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text(content)
        error = cli("demo", "--encoder", "./nowhere", "--output", folder).error
        assert "holds something other than an older demo" in error
        assert (folder / name).read_text() == content
