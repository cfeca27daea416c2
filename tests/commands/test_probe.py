"""`doctune probe`: one pass, a probe a layer and pooling, and a command that is right."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

import doctune
from doctune.cli import parse
from doctune.cli.flags import settings_tree
from doctune.errors import ConfigError, DataError
from doctune.runs.probing import finetune_command
from doctune.settings import FinetuneSettings, ProbeSettings
from doctune.training.logistic import choose_logistic

Cli = Callable[..., Any]


def test_a_probe_from_the_command_line(
    cli: Cli, tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    train, test = tiny_csv(rows=120), tiny_csv("test.csv", rows=40)
    output = tmp_path / "run"
    flags = ("--train", train, "--test", test, "--encoder", tiny_encoder, "--output", output, "--device", "cpu")
    done = cli("probe", *flags, "--max-seq-len", 32, "--precision", "fp32")
    assert done.code == 0, done.err
    assert {p.name for p in output.iterdir()} == {"config.toml", "probe.html", "probe.json", "probe.md", "shards"}
    probe = json.loads((output / "probe.json").read_text())
    found = [(cell["layer"], cell["token_pooling"]) for cell in probe["cells"]]
    assert found == [(layer, pooling) for layer in (0, 1) for pooling in ("cls", "mean", "max")]
    best = probe["cells"][probe["best"]]
    assert best["validation"]["errors"] == min(cell["validation"]["errors"] for cell in probe["cells"])
    assert (probe["data"]["train"], probe["data"]["validation"], probe["data"]["test"]) == (108, 12, 40)
    # One word tells the classes apart, which a plane through the mean of its layer's vectors sees.
    assert best["test"]["error_percent"] == 0
    advised = probe["cells"][probe["advised"]]
    assert advised["tied"]
    assert f"--layers {advised['layer']} --token-pooling {advised['token_pooling']}" in done.out
    assert probe["warnings"] == [
        "12 validation documents tell little: give more with --validation or a larger --validation-fraction"
    ]
    words = shlex.split(probe["finetune"])[1:]
    settings = FinetuneSettings.build(settings_tree(*parse(words)))
    assert (settings.data.train, settings.truncation.max_seq_len) == (str(train), 32)
    assert settings.features.layers == (advised["layer"],)


def test_unseen_labels_are_errors_of_every_probe(
    cli: Cli, tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    train, held, other = tiny_csv(rows=40), tiny_csv("held.csv", rows=20), tmp_path / "other.csv"
    other.write_text(held.read_text() + "a film of another kind,unheard\n")
    probes = []
    for validation in (held, other):
        flags = ("--train", train, "--validation", validation, "--encoder", tiny_encoder, "--device", "cpu")
        output = tmp_path / validation.stem
        done = cli("probe", *flags, "--max-seq-len", 32, "--unseen-labels", "count", "--output", output)
        assert done.code == 0, done.err
        probes.append(json.loads((output / "probe.json").read_text()))
        assert "--unseen-labels count" in probes[-1]["finetune"]
    for before, cell in zip(*(probe["cells"] for probe in probes), strict=True):
        assert cell["validation"]["errors"] == before["validation"]["errors"] + 1
        assert cell["l2"] == before["l2"]
    assert any("('unheard') counts as an error" in line for line in probes[1]["warnings"])


@pytest.mark.parametrize("in_memory", [True, False])
def test_a_probe_is_a_logistic_regression_on_the_features_of_its_layer(
    tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    monkeypatch.setattr("doctune.runs.probing.BYTES_IN_MEMORY", 1 << 30 if in_memory else 0)
    files = {"train": tiny_csv(rows=60, classes=("a", "b", "c")), "validation": tiny_csv("v.csv", 30, ("a", "b", "c"))}
    settings = {"encoder": str(tiny_encoder), "device": "cpu", "precision": "fp32"}
    probe = doctune.probe(
        train=str(files["train"]), validation=str(files["validation"]), output=str(tmp_path / "run"), **settings
    )
    sets = {}
    for name, file in files.items():
        doctune.features(file, settings["encoder"], tmp_path / f"{name}.parquet", token_pooling="max", device="cpu")
        table = pq.read_table(tmp_path / f"{name}.parquet")
        labels = torch.tensor(["abc".index(label) for label in table.column("label").to_pylist()])
        sets[name] = (torch.tensor(table.column("layer_1").to_pylist(), dtype=torch.float32), labels)
    model = choose_logistic(*sets["train"], 3, sets["validation"])
    errors = int((model.logits(sets["validation"][0]).argmax(dim=1) != sets["validation"][1]).sum())
    (cell,) = (c for c in probe["cells"] if (c["layer"], c["token_pooling"]) == (1, "max"))
    assert (cell["validation"]["errors"], cell["l2"]) == (errors, model.l2)
    assert probe["data"]["validation_from"] == "given"
    assert not list((tmp_path / "run").glob(".features*"))


def test_every_document_goes_through_the_encoder_once(
    tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from doctune.runs.extraction import Extractor

    seen: list[int] = []
    run = Extractor.run

    def counted(self: Extractor, batch: Any) -> Any:
        seen.append(batch.num_documents)
        return run(self, batch)

    monkeypatch.setattr(Extractor, "run", counted)
    doctune.probe(train=str(tiny_csv(rows=50)), encoder=str(tiny_encoder), output=str(tmp_path / "run"), device="cpu")
    assert sum(seen) == 50


def test_few_labels_and_the_hold_out_are_those_of_finetune(
    tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    given = {
        "train": str(tiny_csv(rows=200)), "encoder": str(tiny_encoder), "train_examples": 80, "seed": 7,
        "validation_fraction": 0.25, "device": "cpu",
    }  # fmt: skip
    probe = doctune.probe(output=str(tmp_path / "probe"), **given)
    report = doctune.finetune(output=str(tmp_path / "run"), epochs=0.1, max_seq_len=32, **given)
    for name in ("train", "validation", "validation_from"):
        assert probe["data"][name] == report["data"][name]  # type: ignore[literal-required]
    assert probe["data"]["chosen_from"] == report["data"]["train_examples"]["of"] == 200
    assert "--train-examples 80" in probe["finetune"]
    assert "--seed 7" in probe["finetune"]


def test_the_command_says_what_was_given_and_no_more() -> None:
    settings = ProbeSettings.build({
        "output": "runs/x", "data": {"train": "my file.csv", "text": ("a", "b"), "header": False},
        "encoder": {"encoder": "minilm"}, "truncation": {"max_seq_len": 64, "truncation": "head+tail"},
    })  # fmt: skip
    assert finetune_command(settings, 4, "cls") == (
        "doctune finetune --train 'my file.csv' --no-header --text a b --encoder minilm --max-seq-len 64 "
        "--layers 4 --token-pooling cls --output runs/layer-4-cls"
    )


def test_what_is_wrong_leaves_nothing(tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path) -> None:
    train, output = str(tiny_csv(classes=("only",))), tmp_path / "run"
    with pytest.raises(DataError, match="two classes or more"):
        doctune.probe(train=train, encoder=str(tiny_encoder), output=str(output), device="cpu")
    assert not output.exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    (tmp_path / "full" / "config.toml").touch()  # as another probe leaves it: there is no going on with one
    with pytest.raises(ConfigError, match=r"is not empty; give a new directory, or remove what is there$"):
        doctune.probe(train=train, encoder=str(tiny_encoder), output=str(tmp_path / "full"))
    with pytest.raises(ConfigError, match="no such setting"):
        doctune.probe(train=train, encoder=str(tiny_encoder), output=str(output), epochs=3)


def test_features_that_tell_nothing(tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "same.csv").write_text("text,label\n" + "the film,a\nthe film,b\nthe film,a\n" * 100)
    settings = {"train": str(tmp_path / "same.csv"), "encoder": str(tiny_encoder), "validation_fraction": 0.3}
    probe = doctune.probe(output=str(tmp_path / "run"), device="cpu", **settings)
    assert probe["warnings"] == ["not even the best probe is clearly better than always answering the largest class"]
    assert all(cell["tied"] for cell in probe["cells"])
