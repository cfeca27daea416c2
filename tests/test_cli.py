"""The command line itself: help, flags, precedence, dry runs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doctune.cli import COMMANDS, main, parse
from doctune.cli.flags import settings_tree
from doctune.commands.command import Call, Command
from doctune.settings import FinetuneSettings, dotted_fields

# What has no flag is for a component with settings of its own: see docs/extending.md.
FIELDS = {name: field for name, field in dotted_fields(FinetuneSettings).items() if not name.endswith("_options")}
NEEDED = ["finetune", "--train", "a.csv", "--encoder", "minilm", "--output", "runs/a"]


def tree(*flags: str) -> dict[str, Any]:
    """The settings of `doctune finetune` with these flags."""
    arguments = [*NEEDED, *flags]
    return settings_tree(*parse(arguments))


def settings(*flags: str) -> FinetuneSettings:
    return FinetuneSettings.build(tree(*flags))


def imported_by(*arguments: str, cwd: Path | None = None) -> tuple[int, list[str]]:
    """Exit code, and the heavy packages that a command in a new interpreter has loaded."""
    code = (
        "import atexit, sys\n"
        "heavy = ('torch', 'transformers', 'pydantic', 'tokenizers', 'pyarrow', 'numpy')\n"
        "atexit.register(lambda: print('\\nimported:', *[n for n in heavy if n in sys.modules]))\n"
        "from doctune.cli import main\n"
        f"main({list(arguments)!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=cwd)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout.rsplit("imported:", 1)[1].split()


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["evaluate", "--help"], ["predict", "--help"], ["demo", "-h"]]
)
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    assert imported_by(*arguments) == (0, [])


@pytest.mark.parametrize("arguments", [["finetune", "--help"], ["datasets"]])
def test_what_needs_settings_or_readers_does_not_reach_torch(arguments: list[str]) -> None:
    code, packages = imported_by(*arguments)
    assert code == 0
    assert not {"torch", "transformers"} & set(packages)


def test_a_dry_run_does_not_reach_torch(tiny_csv: Callable[..., Path], tmp_path: Path) -> None:
    flags = ("finetune", "--train", str(tiny_csv()), "--encoder", "any", "--output", "run", "--dry-run")
    code, packages = imported_by(*flags, cwd=tmp_path)
    assert code == 0
    assert not {"torch", "transformers"} & set(packages)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_help(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([command.name, "--help"])
    assert stopped.value.code == 0
    assert command.line in " ".join(capsys.readouterr().out.split())


def test_every_setting_has_a_flag_with_its_explanation(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    for dotted, field in FIELDS.items():
        assert f"--{dotted.rpartition('.')[2].replace('_', '-')}" in shown.replace(",", " ").split(), dotted
        # argparse breaks lines at hyphens.
        assert field.description.replace(" ", "").replace("-", "") in shown.replace(" ", "").replace("-", ""), dotted


def test_every_flag_reaches_its_setting() -> None:
    values = {"bool": ["--no-{}"], "other": ["--{}", "7"]}
    for dotted, field in FIELDS.items():
        name = dotted.rpartition(".")[2].replace("_", "-")
        options = [o for o in getattr(field.annotation, "__args__", ()) if isinstance(o, str)]
        kind = "bool" if field.annotation is bool else "other"
        flags = [part.format(name) for part in values[kind]]
        if kind == "other" and options:
            flags[1] = options[0]
        found: Any = tree(*flags)
        for part in dotted.split("."):
            found = found[part]
        expected: Any = False if kind == "bool" else flags[1]
        assert found in (expected, [expected]), dotted


@pytest.mark.parametrize(
    ("flags", "section", "name", "value"),
    [
        (["--layers", "-1", "-2"], "features", "layers", (-1, -2)),
        (["--layers", "all"], "features", "layers", "all"),
        (["--layers", "0"], "features", "layers", (0,)),
        (["--class-weights", "balanced"], "training", "class_weights", "balanced"),
        (["--class-weights", "1", "2.5"], "training", "class_weights", (1.0, 2.5)),
        (["--text", "title", "body"], "data", "text", ("title", "body")),
        (["--no-header"], "data", "header", False),
        (["--freeze-encoder"], "layerwise", "freeze_encoder", True),
        (["--betas", "0.8", "0.9"], "optimizer", "betas", (0.8, 0.9)),
        (["--learning-rate", "5e-5"], "optimizer", "learning_rate", 5e-5),
        (["--set", "features.layers=[0, 1]"], "features", "layers", (0, 1)),
        (["--set", "data.header=false", "--set", "training.epochs=2"], "data", "header", False),
    ],
)
def test_values_of_flags(flags: list[str], section: str, name: str, value: Any) -> None:
    assert getattr(getattr(settings(*flags), section), name) == value


@pytest.mark.parametrize("column", ["all", "none", "balanced"])
def test_a_column_may_be_called_like_a_choice(column: str) -> None:
    assert settings("--text", column).data.text == (column,)


def test_flags_win_over_set_and_set_over_the_file(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text(
        'output = "from file"\n[training]\nepochs = 1\nseed = 1\nbatch_size = 1\n[truncation]\nmax_seq_len = 100\n'
    )
    found = settings("--config", str(config), "--set", "training.seed=2", "--set", "training.epochs=2", "--epochs", "3")
    assert (found.training.batch_size, found.training.seed, found.training.epochs) == (1, 2, 3)
    assert (found.output, found.truncation.max_seq_len) == ("runs/a", 100)


def run(*arguments: object) -> int | str | None:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code


def test_a_dry_run_writes_nothing_and_prints_the_settings(
    tiny_csv: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, test = tiny_csv(rows=30), tiny_csv("test.csv", rows=6)
    flags = [
        "finetune", "--train", str(train), "--test", str(test), "--encoder", "not there",
        "--output", str(tmp_path / "run"),
        "--layers", "-1", "-2", "--epochs", "2", "--batch-size", "9", "--class-weights", "1", "2", "--seeds", "3",
    ]  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    assert run(*flags, "--dry-run") == 0
    assert sorted(tmp_path.rglob("*")) == before
    printed = capsys.readouterr().out
    assert FinetuneSettings.build(tomllib.loads(printed)) == FinetuneSettings.build(settings_tree(*parse(flags)))
    assert f"# train: 30 documents in {train}\n" in printed
    assert "# 2 classes: neg (15), pos (15)\n" in printed
    assert "# validation: about 3 documents held out of train\n# about 6 steps for each of 3 seeds\n" in printed


def test_a_dry_run_counts_the_labels_that_are_used(
    tiny_csv: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("finetune", "--train", tiny_csv(rows=60), "--encoder", "any", "--output", "run", "--dry-run")
    assert run(*flags, "--train-examples", 20, "--batch-size", 9, "--epochs", 1) == 0
    printed = capsys.readouterr().out
    assert "train_examples = 20\n" in printed
    assert "# labels: 20 of 60 training documents, stratified; each seed draws its own\n" in printed
    assert "# validation: about 2 documents held out of these\n# about 2 steps for each of 1 seed\n" in printed
    assert run(*flags, "--train-examples", 1) == 2
    assert "1, but train has 2 classes" in capsys.readouterr().err


def test_a_printed_dry_run_is_a_config_file(
    tiny_csv: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("finetune", "--train", tiny_csv(), "--encoder", "any", "--output", "run", "--epochs", "2", "--dry-run")
    first = capsys.readouterr().out
    (tmp_path / "config.toml").write_text(first)
    run("finetune", "--config", tmp_path / "config.toml", "--dry-run")
    assert capsys.readouterr().out == first


def test_a_dry_run_reports_bad_data(
    tiny_csv: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("finetune", "--train", tiny_csv(), "--encoder", "any", "--output", tmp_path / "run", "--dry-run")
    assert run(*flags, "--test", tiny_csv("test.csv", classes=("neg", "pos", "odd"))) == 2
    assert "test: class 'odd' does not occur in training" in capsys.readouterr().err
    assert run(*flags, "--test", tmp_path / "test.csv", "--unseen-labels", "count") == 0
    assert "# test: 8 documents of a class that training lacks ('odd') count as errors\n" in capsys.readouterr().out
    assert run(*flags, "--text", "words") == 2
    assert "no column 'words'" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["text,label\ngood,pos\nbad,pos\n", "text,label\n,pos\n ,neg\n"])
def test_a_dry_run_reports_what_a_run_would(tmp_path: Path, content: str) -> None:
    (tmp_path / "one.csv").write_text(content)
    assert run("finetune", "--train", tmp_path / "one.csv", "--encoder", "any", "--output", "run", "--dry-run") == 2


def test_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["finetun"], ["predict"], [*NEEDED, "--no-such-flag", "1"], [*NEEDED, "--precision", "fp8"]):
        assert run(*arguments) == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("doctune: error: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["finetun"], "finetun: no such command; did you mean 'finetune'?"),
        (["study", "table2", "--scale", "huge"], "argument --scale: give smoke, small or full, found 'huge'"),
        (["study", "table2", "--seeds", "x"], "argument --seeds: give a whole number, found 'x'"),
        (["predict", "m", "f", "--output-format", "x"], "argument --output-format: give jsonl or csv, found 'x'"),
    ],
)
def test_words_that_are_none_of_the_choices(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert capsys.readouterr().err.partition("; doctune")[0].strip() == f"doctune: error: {message}"


def test_flags_are_not_abbreviated(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*NEEDED, "--epoch", "1") == 2
    assert capsys.readouterr().err == "doctune: error: --epoch: no such argument; did you mean '--epochs'?\n"


def test_a_reader_that_goes_away_is_no_error() -> None:
    code = f"{sys.executable} -m doctune datasets | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "0"
    assert done.stderr == ""


def test_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(call: Call) -> None:
        raise KeyboardInterrupt

    for hint, command in (
        ("a run goes on with --resume", Command("wait", "wait", interrupted)),
        ("wait again", Command("wait", "wait", interrupted, interrupted="wait again")),
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["wait"], [command])
        assert stopped.value.code == 130
        assert capsys.readouterr().err == f"doctune: interrupted; {hint}\n"


def test_a_dry_run_names_the_classes_in_the_order_of_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "train_5500.label").write_text("NUM:dist How far ?\nHUM:ind Who ?\nLOC:city Where ?\n")
    flags = ("--dataset", "trec", "--data", tmp_path, "--encoder", "any", "--output", tmp_path / "run")
    assert run("finetune", *flags, "--dry-run") == 0
    assert "# 6 classes: LOC (1), NUM (1), HUM (1), ENTY (0), ABBR (0), DESC (0)" in capsys.readouterr().out
