from __future__ import annotations

import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def golden_cases(shared: Path) -> dict[str, dict[str, Any]]:
    """The "plain" cases of the original's processors, by task."""
    cases = json.loads((shared / "golden" / "processors.json").read_text(encoding="utf-8"))["cases"]
    return {case["task"]: case for case in cases if case["case"] == "plain"}


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    """Write a file (compressed as its name says) below `tmp_path`."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        data = gzip.compress(data) if path.suffix == ".gz" else lzma.compress(data) if path.suffix == ".xz" else data
        path.write_bytes(data)
        return path

    return write_file
