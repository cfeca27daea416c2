"""What an import costs, and what it gives."""

from __future__ import annotations

import subprocess
import sys

import pytest

import doctune

HEAVY = ("torch", "transformers", "pydantic", "tokenizers", "pyarrow", "numpy")


def imported(code: str, names: tuple[str, ...] = HEAVY) -> list[str]:
    """Which of the packages are loaded after running this code in a new interpreter."""
    check = f"{code}\nimport sys\nprint('imported:', *[n for n in {names!r} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    return done.stdout.rsplit("imported:", 1)[1].split()


def test_importing_is_light() -> None:
    assert imported("import doctune; doctune.__version__; dir(doctune)") == []
    assert imported("from doctune import UserError, DataError") == []


def test_the_data_side_does_not_reach_torch() -> None:
    code = "import doctune.readers, doctune.text.truncation, doctune.store.splits, doctune.report.finetuning"
    assert imported(code, ("torch", "transformers")) == []


@pytest.mark.parametrize("name", doctune.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(doctune, name) is not None
    assert name in dir(doctune)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'doctune' has no attribute 'finetun'"):
        doctune.finetun  # noqa: B018


def test_the_errors_are_a_tree() -> None:
    for error in (doctune.ConfigError, doctune.DataError, doctune.CheckpointError, doctune.TrainingError):
        assert issubclass(error, doctune.UserError)
    assert issubclass(doctune.UserError, doctune.DoctuneError)
