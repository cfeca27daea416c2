"""The demo from scratch is what it says; and a demo makes room for itself, and for itself only.

The demo of a real encoder is run by `make demo`.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from doctune.cli import main
from doctune.commands import demo_tiny
from doctune.readers.pydocs import INSTALLED, PyDocsReader

RUNS = ("base", "pretrained-model")


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of `doctune demo --encoder tiny --smoke`."""
    folder = tmp_path_factory.mktemp("demo") / "out"
    with pytest.raises(SystemExit) as stopped:
        main(["demo", "--encoder", "tiny", "--smoke", "--output", str(folder)])
    assert stopped.value.code == 0
    return folder


def test_all_steps_leave_their_reports(demo: Path) -> None:
    assert (demo / "pretrained" / "report.html").is_file()
    assert (demo / "compare" / "compare.html").is_file()
    compared = read(demo / "compare" / "compare.json")
    assert compared["part"] == "test"
    assert compared["seeds"] == [42, 43]
    (adapted,) = compared["adapted"]
    assert adapted["pretraining"]["corpus"]["transductive"] is False
    assert adapted["against_base"]["low"] <= adapted["against_base"]["points"] <= adapted["against_base"]["high"]


def test_the_corpus_was_searched_for_validation_and_test_texts(demo: Path) -> None:
    manifest = read(demo / "corpus" / "corpus.json")
    texts = {
        part: [json.loads(line) for line in (demo / "data" / f"{part}.jsonl").read_text().splitlines()]
        for part in ("unlabelled", "train", "validation", "test")
    }
    assert {record["name"]: record["texts"] for record in manifest["exclude"]} == {
        str(demo / "data" / f"{part}.jsonl"): len(texts[part]) for part in ("validation", "test")
    }
    assert manifest["transductive"] is False
    assert manifest["total"]["documents"] + sum(manifest["left_out"].values()) == len(texts["unlabelled"])
    assert all(list(row) == ["text"] for row in texts["unlabelled"])


def test_both_encoders_begin_with_the_same_random_weights(demo: Path) -> None:
    pretrained = tomllib.loads((demo / "pretrained" / "config.toml").read_text())
    configs = [tomllib.loads((demo / "compare" / name / "config.toml").read_text()) for name in RUNS]
    assert configs[0]["encoder"]["encoder"] == pretrained["start"]["encoder"] == str(demo / "encoder")
    assert configs[1]["encoder"]["encoder"] == str(demo / "pretrained" / "model")
    for config in configs:
        del config["output"], config["encoder"]["encoder"]
    assert configs[0] == configs[1]
    # Three steps of a rate that rises from 0 take no weight far: other random weights would be farther.
    start, end = (load_file(demo / place / "model.safetensors") for place in ("encoder", "pretrained/model"))
    name = "encoder.layer.1.output.dense.weight"
    before = start[name]
    after = end[f"bert.{name}"] if f"bert.{name}" in end else end[name]
    assert (before != after).any()
    assert (before - after).std() < 0.2 * before.std()


def test_validation_and_test_share_no_module_with_training_or_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, set[str]] = {}

    def keep(path: Path, examples: Any, labels: bool = True) -> None:
        written[path.stem] = {example.group for example in examples}

    monkeypatch.setattr(demo_tiny, "_write", keep)
    demo_tiny.write_data(tmp_path, demo_tiny.SMOKE)
    assert set(written) == {"unlabelled", "train", "validation", "test"}
    assert written["train"] < written["unlabelled"]
    assert not written["validation"] & written["test"]
    assert not written["unlabelled"] & (written["validation"] | written["test"])
    libraries = PyDocsReader().libraries(Path(INSTALLED))
    for modules in written.values():
        assert {module.partition(".")[0] for module in modules} == set(libraries)


@pytest.mark.parametrize("killed", [False, True])
def test_an_older_demo_is_replaced_once_all_is_well(
    killed: bool, cli: Callable[..., Any], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("doctune.commands.demo._fine_tune", lambda *_: None)
    folder = tmp_path / "demo"
    (folder / "shards").mkdir(parents=True)
    name, content = ("environment.json", '{"command": "doctune demo"}') if killed else ("demo.json", "{}")
    (folder / name).write_text(content)
    assert cli("demo", "--encoder", "./nowhere", "--output", folder).error.startswith("./nowhere: no such folder")
    assert (folder / name).is_file()
    cli("demo", "--encoder", tiny_encoder, "--output", folder)
    assert not folder.exists()


def test_a_run_of_the_users_own_on_the_same_data_is_no_demo(
    cli: Callable[..., Any], tiny_encoder: Path, tmp_path: Path
) -> None:
    for command, also in (("doctune finetune --dataset pydocs", "model"), ("doctune demo", "thesis.txt")):
        folder = tmp_path / also
        folder.mkdir()
        (folder / "config.toml").write_text('[data]\ndataset = "pydocs"\n')
        (folder / "environment.json").write_text(f'{{"command": "{command}"}}')
        (folder / also).write_text("mine")
        error = cli("demo", "--encoder", tiny_encoder, "--output", folder).error
        assert "holds something other than an older demo" in error
        assert (folder / also).read_text() == "mine"


def test_what_is_no_demo_stays(cli: Callable[..., Any], tmp_path: Path) -> None:
    for name, content in (("config.toml", '[data]\ntrain = "a.csv"\n'), ("notes.txt", "mine")):
        folder = tmp_path / name.partition(".")[0]
        folder.mkdir()
        (folder / name).write_text(content)
        error = cli("demo", "--encoder", "./nowhere", "--output", folder).error
        assert "holds something other than an older demo" in error
        assert (folder / name).read_text() == content
