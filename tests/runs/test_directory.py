"""After an error only what this start made goes, and nothing once a checkpoint exists; the user's files always stay."""

from __future__ import annotations

import errno
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import doctune
from doctune.errors import ConfigError, TrainingError, UserError
from doctune.runs.directory import FINETUNE, check_same
from doctune.settings import FinetuneSettings
from doctune.training.state import Checkpoints

Start = Callable[..., Any]
ERRORS: dict[str, Callable[[], Exception]] = {
    "not finite": lambda: TrainingError("the loss is not a finite number"),
    "disk full": lambda: OSError(errno.ENOSPC, "No space left on device"),
    "user": lambda: UserError("something that the user can mend"),
}
READING, STEP = "doctune.store.build.write_shard", "doctune.training.loop._timed_step"
EARLY = [
    *((command, READING) for command in ("finetune", "seeds", "compare", "multitask", "curve", "probe")),
    ("finetune", STEP), ("multitask", STEP), ("pretrain", STEP), ("probe", "doctune.runs.probing.write_probe"),
]  # fmt: skip


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("kind", list(ERRORS))
@pytest.mark.parametrize(("command", "place"), EARLY)
def test_an_early_error_leaves_only_what_is_the_users(
    command: str, place: str, kind: str, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, written = tmp_path / "run", [""]

    def fails(*args: Any, **options: Any) -> Any:
        for name in filter(None, written):
            (output / name).parent.mkdir(parents=True, exist_ok=True)
            (output / name).write_text("years of work")
        raise ERRORS[kind]()

    monkeypatch.setattr(place, fails)
    with pytest.raises(UserError) as stopped:
        start(command, output)
    assert "kept in" not in str(stopped.value)
    assert "\n" not in str(stopped.value)
    assert not output.exists()
    if kind != "user":
        return
    output.mkdir()
    with pytest.raises(UserError):
        start(command, output)
    assert list(output.iterdir()) == []  # a folder that was there stays, as it was
    written[:] = ["mine.txt", "shards/notes.txt", "model.txt", "seed-42/thoughts.md"]
    with pytest.raises(UserError):
        start(command, output)
    assert files(output) == set(written)


@pytest.mark.parametrize(
    ("command", "kind"),
    [("finetune", "not finite"), ("finetune", "disk full"), ("finetune", "user"), ("seeds", "disk full"),
     ("compare", "disk full"), ("multitask", "not finite"), ("pretrain", "disk full"), ("curve", "not finite")],
)  # fmt: skip
def test_a_late_error_keeps_the_checkpoint_and_says_how_to_go_on(
    command: str, kind: str, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, output = tmp_path / "whole", tmp_path / "run"
    save = Checkpoints.save_if_due

    def fails(self: Checkpoints, state: Any, *rest: Any) -> None:
        save(self, state, *rest)
        if state.step == 3:
            (output / "mine.txt").write_text("years of work")
            raise ERRORS[kind]()

    with monkeypatch.context() as patched:
        patched.setattr(Checkpoints, "save_if_due", fails)
        with pytest.raises(UserError) as stopped:
            start(command, output)
    message = str(stopped.value)
    if command == "curve":  # it has no --resume: it goes on by itself
        assert "kept in" not in message
        assert message.endswith("the same command does what is missing")
    else:
        assert re.search(r"kept in \S*: .*checkpoint of step 3.*; the same command with --resume goes on$", message)
        assert message.count("kept in") == 1
    assert (output / "mine.txt").read_text() == "years of work"
    (checkpoint,) = output.rglob("checkpoint/state.json")
    assert json.loads(checkpoint.read_text())["state"]["step"] == 3
    if command == "curve":
        start(command, output)
        assert list(output.rglob("report.json"))
        return
    start(command, output, resume=True)
    start(command, whole)
    models = sorted(path.relative_to(whole) for path in whole.rglob("model/model.safetensors"))
    assert models
    for model in models:
        assert (output / model).read_bytes() == (whole / model).read_bytes(), model
    assert (output / "mine.txt").read_text() == "years of work"
    assert {name for name in files(whole)} <= files(output)


@pytest.mark.parametrize("place", ["doctune.runs.fit.save_model", "doctune.runs.finetuning.write_report"])
def test_what_was_trained_outlives_an_error_in_writing_what_it_gives(
    place: str, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last checkpoint stays until the report is there: training is not repeated for a report."""
    output = tmp_path / "run"

    def full(*args: Any, **options: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(place, full)
        with pytest.raises(UserError, match=r"no space left on the disk.*; kept in .*checkpoint of step 6.*--resume"):
            start("finetune", output)
    with monkeypatch.context() as patched:
        patched.setattr("doctune.training.loop._timed_step", None)
        start("finetune", output, resume=True)
    assert not (output / "checkpoint").exists()


def test_an_error_before_a_run_is_gone_on_with_touches_nothing(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "run"
    start("seeds", output)
    before = {path: path.read_bytes() for path in output.rglob("*") if path.is_file()}
    for changes, message in (
        ({"batch_size": 3}, r"training\.batch_size: 3, but the run in"),
        ({"encoder": "nowhere/at-all"}, "nowhere"),
        ({"resume": False}, "is not empty"),
    ):
        with pytest.raises(UserError, match=message) as stopped:
            start("seeds", output, **{"resume": True, **changes})
        assert "kept in" not in str(stopped.value)
    assert {path: path.read_bytes() for path in output.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("command", ["finetune", "compare", "multitask", "pretrain", "probe", "curve"])
def test_a_folder_with_the_users_file_is_refused_and_left_alone(command: str, start: Start, tmp_path: Path) -> None:
    for name in (".hidden", "config.toml.bak", "environment.json"):
        output = tmp_path / f"with-{name}"
        output.mkdir()
        (output / name).write_text("years of work")
        with pytest.raises(ConfigError, match="is not empty"):
            start(command, output)
        assert files(output) == {name}


def test_settings_are_compared_as_plain_values(tmp_path: Path) -> None:
    """What a config file names is not loaded, and one of another version is compared all the same."""
    reader, config = tmp_path / "reader.py", tmp_path / "config.toml"
    reader.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config.write_text(f"[data]\ndataset = '{reader}:Reader'\nnew = 1\n[encoder]\nencoder = 'x'\n")
    settings = FinetuneSettings.build({"output": "x", "data": {"train": "a"}, "encoder": {"encoder": "y"}})
    with pytest.raises(ConfigError, match=r"data\.\w+: .*, but the run in .* has"):
        check_same(settings, config, FINETUNE.free)
    assert not (tmp_path / "ran").exists()


def test_one_place_removes_folders() -> None:
    source = Path(doctune.__file__).parent
    removing = {str(path.relative_to(source)) for path in source.rglob("*.py") if "rmtree(" in path.read_text()}
    runs = {name for name in removing if not name.startswith("store/")}
    assert runs == {"runs/directory.py", "files.py", "commands/demo.py"}  # a temporary folder; an older demo
