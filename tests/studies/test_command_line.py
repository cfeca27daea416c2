"""`doctune study` as it is typed: what it lists, plans and runs, and what it refuses in one line."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

import doctune
from doctune.cli import main
from doctune.errors import ConfigError
from doctune.studies.command import Asked
from doctune.studies.definition import NAMES

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `doctune ARGUMENTS`: its exit code, what it printed, and its error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err.splitlines()[-1].partition("error: ")[2] if err else ""

    return run


def test_all_studies_of_the_paper_are_listed(command: Command) -> None:
    code, out, _ = command("study", "--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == list(NAMES)
    assert set(NAMES) == {f"table{n}" for n in range(2, 9)} | {f"figure{n}" for n in (2, 3, 4)}


def test_planned_and_run(command: Command, asked: Callable[..., Asked], tmp_path: Path) -> None:
    one = asked()
    flags = ("study", one.name, "--datasets", one.datasets, "--cache", one.cache, "--encoder", one.encoders[0][1])
    code, out, _ = command(*flags, "--output", one.output, "--seeds", 1, "--dry-run")
    assert (code, "2 of 2 runs to do" in out) == (0, True)
    assert "one layer · films: no counterpart in 2 layers" in out
    assert not (tmp_path / "out").exists()
    code, out, _ = command(*flags, "--output", one.output, "--seeds", 1)
    assert code == 0
    assert f"page   {one.output}/study.html" in out
    assert json.loads((tmp_path / "out" / "study.json").read_text())["command"].split()[0] == "doctune"
    assert "0 of 2 runs to do" in command(*flags, "--output", one.output, "--seeds", 1, "--dry-run")[1]


def test_the_command_of_a_cell_can_be_pasted(asked: Callable[..., Asked], tmp_path: Path) -> None:
    result = doctune.study(
        asked().name, datasets=asked().datasets, encoders=asked().encoders, seeds=1,
        cache=str(tmp_path / "with a space"), output=str(tmp_path / "out"),
    )  # fmt: skip
    words = shlex.split(result["cells"][0]["runs"][0]["command"])
    assert words[:3] == ["doctune", "finetune", "--config"]
    assert Path(words[3]).is_file()
    with pytest.raises(ConfigError, match="scal: no such setting; did you mean 'scale'"):
        doctune.study("table3", scal="smoke")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["study"], "NAME: must be given: one of doctune study --list, or a TOML file"),
        (["study", "table9"], "study: no study 'table9', and no TOML file; did you mean 'table8'?"),
        (["study", "table3", "--seeds", "0"], "--seeds: 0; give 1 or more"),
        (["study", "table3", "--workers", "2"], "--workers: is for --on processes, found --on here; leave it out"),
        (["study", "table3", "--workers", "0"], "--workers: 0; give 1 or more"),
        (["curve", "--workers", "2", "--on", "ray"], "--workers: is for --on processes, found --on ray; leave it out"),
    ],
)
def test_what_is_refused(command: Command, flags: list[str], message: str) -> None:
    code, _, error = command(*flags)
    assert (code, error) == (2, message)
