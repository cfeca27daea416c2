"""A command of a file's own: one value, and all of the command line follows from it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from doctune.cli import COMMANDS, main
from doctune.commands.command import Command

SOURCE = """
from doctune.commands.command import Command, flag
from doctune.errors import DataError


def settings():
    from pydantic import Field
    from doctune.config import Settings

    class Counting(Settings):
        letters: tuple[str, ...] = Field(("a",), description="letters to count")
        least: int = Field(1, ge=1, description="fewest to tell of")

    class CountSettings(Settings):
        output: str = Field(description="file to write")
        counting: Counting = Counting()

    return CountSettings


def run(call):
    chosen = call.settings(settings())
    if call.args.source == "nowhere":
        raise DataError("nowhere: no such file")
    loud = "!" * call.args.task if call.args.json else ""
    print(f"{call.args.source} {chosen.counting.letters} {chosen.counting.least} {chosen.output}{loud} | {call.line}")


def dry_run(call):
    return f"would count {' '.join(call.settings(settings()).counting.letters)}"


COMMAND = Command(
    "count", "count letters", run, dry_run, settings, {"": "run", "counting": "what to count"},
    # Names that some other command has a flag or a setting of, too.
    flags=(
        flag("source", metavar="SOURCE", help="a text"),
        flag("--json", action="store_true", help="be loud"),
        flag("--task", type=int, default=1, group="loudness", help="how loud"),
        flag("--up", choice="way", action="store_true"),
        flag("--down", choice="way", action="store_true"),
    ),
    usage="doctune count SOURCE", examples="example:\\n  doctune count x\\n", interrupted="count again",
)
"""
CONFIG = '[counting]\nletters = "x"\nleast = 5\n'


@pytest.fixture
def count(tmp_path: Path) -> Command:
    """The command of the file."""
    path = tmp_path / "count.py"
    path.write_text(SOURCE)
    spec = importlib.util.spec_from_file_location("count", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    command: Command = module.COMMAND
    return command


@pytest.fixture
def call(count: Command, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs it beside all others; exit code, output and error."""

    def run(*arguments: object) -> tuple[int | str | None, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments], [*COMMANDS, count])
        printed = capsys.readouterr()
        return stopped.value.code, printed.out, printed.err

    return run


def test_it_runs_with_flags_of_its_own_and_settings(call: Any, tmp_path: Path) -> None:
    code, out, _ = call("count", "text", "--output", "o", "--letters", "e", "--json", "--task", 3)
    assert (code, out) == (0, "text ('e',) 1 o!!! | doctune count text --output o --letters e --json --task 3\n")
    (tmp_path / "c.toml").write_text(CONFIG)
    flags = ("--output", "o", "--config", tmp_path / "c.toml", "--set", "counting.letters=y")
    assert call("count", "text", *flags)[1].startswith("text ('y',) 5 o |")
    assert call("count", "text", *flags, "--letters", "z", "w")[1].startswith("text ('z', 'w') 5 o |")


def test_its_help(call: Any) -> None:
    assert "count letters" in call("--help")[1]
    code, out, _ = call("count", "--help")
    assert code == 0
    for part in (
        "usage: doctune count SOURCE", "SOURCE", "--json", "loudness:\n  --task", "what to count:\n  --letters",
        "letters to count (default: a)", "--config FILE", "--dry-run", "example:\n  doctune count x",
    ):  # fmt: skip
        assert part in out


def test_its_dry_run(call: Any) -> None:
    assert call("count", "text", "--output", "o", "--letters", "x", "y", "--dry-run")[:2] == (0, "would count x y\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere", "--output", "o"], "nowhere: no such file"),
        (["text"], "output: must be given, as --output or in a config file"),
        (["text", "--output", "o", "--least", "0"], "counting.least: give --least a whole number from 1, found '0'"),
        (["text", "--output", "o", "--leest", "0"], "--leest: no such argument; did you mean '--least'?"),
        (["text", "--output", "o", "--jsn"], "--jsn: no such argument; did you mean '--json'?"),
        (
            ["text", "--output", "o", "--set", "counting.lest=2"],
            "counting.lest: no such setting; did you mean 'least'?",
        ),
        (
            ["text", "--output", "o", "--up", "--down"],
            "argument --down: not allowed with argument --up; doctune count --help tells what there is",
        ),
    ],
)
def test_its_errors(call: Any, arguments: list[str], message: str) -> None:
    assert call("count", *arguments) == (2, "", f"doctune: error: {message}\n")


def test_torchrun_may_start_only_a_command_that_says_so(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    error = "doctune: error: doctune count runs in one process; start it without torchrun\n"
    assert call("count", "text", "--output", "o") == (2, "", error)


def test_the_commands_are_light() -> None:
    code = (
        "import sys; from doctune.cli import COMMANDS; "
        "print([n for n in ('torch', 'numpy', 'pydantic', 'pyarrow') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_every_command_has_a_name_of_its_own() -> None:
    assert len({command.name for command in COMMANDS}) == len(COMMANDS) > 10
