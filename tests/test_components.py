"""Every component of every union: its code has all that its kind needs, and it trains, saves, loads and answers."""

from __future__ import annotations

import dataclasses
import inspect
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import doctune
from doctune.config import Settings
from doctune.errors import ConfigError
from doctune.runs.trial import try_parts
from doctune.settings import FeatureFileSettings, FinetuneSettings, MultitaskSettings, PretrainSettings, dotted_fields
from doctune.settings.components import KINDS, Component, LinearSettings, TokenPooling, WindowsSettings, names
from doctune.settings.features import POOLED, WITHOUT_WEIGHTS
from doctune.settings.implementations import choose, chosen_parts, implementation, reads_windows
from doctune.tensors import HiddenStates

EVERY = [(setting, name) for setting in KINDS for name in names(setting)]
# One training step each; together they use every component.
RUNS: list[dict[str, Any]] = [
    {"truncation": "head-only", "token_pooling": "pooler", "schedule": "slanted-triangular", "select": "accuracy"},
    {"truncation": "tail-only", "token_pooling": "cls", "schedule": "trapezoid", "decay": 0.5, "select": "macro_f1"},
    {"truncation": "head+tail", "head_tokens": 3, "token_pooling": "mean", "schedule": "constant", "select": "loss"},
    {"truncation": "windows", "overlap": 2, "token_pooling": "max", "schedule": "cosine", "layer_pooling": "mean"},
    {"truncation": "windows", "window_pooling": "max", "token_pooling": "attention", "schedule": "warmup-linear",
     "layer_pooling": "max", "layers": (0, 1)},
    {"truncation": "windows", "window_pooling": "attention", "schedule": "warmup-constant", "optimizer": "bert-adam",
     "layer_pooling": "attention", "layers": (0, 1), "token_pooling": "mean"},
    {"head": "bilstm", "lstm_hidden": 4, "attention_hops": 2, "attention_size": 3, "schedule": "warmup-cosine"},
]  # fmt: skip
DEFAULTS = {
    "truncation": "head+tail", "layer_pooling": "concat", "window_pooling": "mean", "head": "linear",
    "schedule": "slanted-triangular", "optimizer": "adamw", "select": "accuracy", "token_pooling": "auto",
}  # fmt: skip


@pytest.mark.parametrize(("setting", "name"), EVERY)
def test_the_code_of_each_has_the_whole_protocol(setting: str, name: str) -> None:
    made_of = implementation(setting, name)  # raises where something is missing
    component = KINDS[setting].component(name)
    assert component is not None
    if component is not LinearSettings:
        asked = inspect.signature(made_of).parameters
        assert set(component.model_fields) <= set(asked) or "settings" in asked  # no setting is without effect
    if setting == "truncation":
        assert reads_windows(name) == (component is WindowsSettings)


@pytest.mark.parametrize("number", range(len(RUNS)))
def test_each_trains_saves_loads_and_answers(
    tiny_encoder: Path, tiny_csv: Callable[..., Path], tmp_path: Path, number: int
) -> None:
    settings = {**RUNS[number], "optimizer": RUNS[number].get("optimizer", "adamw")}
    output = tmp_path / "run"
    doctune.finetune(
        train=str(tiny_csv(rows=12)), encoder=str(tiny_encoder), output=str(output), epochs=1, batch_size=12,
        max_seq_len=10, **settings,
    )  # fmt: skip
    model = doctune.load(output)
    probabilities = model.predict_proba(["the film is great", "the film is awful and " * 9])
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    description = json.loads((output / "model" / "doctune.json").read_text())
    for setting, name in settings.items():
        if setting in description and setting != "truncation":
            assert description[setting] == (list(name) if isinstance(name, tuple) else name)
    assert description["truncation"]["truncation"] == settings.get("truncation", "head+tail")


def test_these_runs_use_every_component() -> None:
    for setting in KINDS:
        assert {run.get(setting, DEFAULTS[setting]) for run in RUNS} - {"auto"} == set(names(setting))


def test_a_section_has_the_settings_of_its_components() -> None:
    fields = dotted_fields(FinetuneSettings)
    for kind in KINDS.values():
        for component in kind.components:
            for name, definition in component.model_fields.items():
                field = fields[f"{kind.section}.{name}"]
                assert (field.default, field.description) == (definition.default, definition.description)
                assert repr((field.annotation, field.metadata)) == repr((definition.annotation, definition.metadata))


def test_features_and_probes_take_what_needs_no_training() -> None:
    assert POOLED.options == ("tokens", "cls", "mean", "max", "pooler")
    assert WITHOUT_WEIGHTS == ("cls", "mean", "max")
    for name in WITHOUT_WEIGHTS:
        assert not list(choose("token_pooling", name).make(hidden_size=4).parameters())


def test_options_that_are_not_given_are_not_written() -> None:
    trees: list[Settings] = [
        FinetuneSettings.build({"output": "o", "data": {"train": "t"}, "encoder": {"encoder": "e"}}),
        FeatureFileSettings.build({"output": "o", "encoder": {"encoder": "e"}}),
        PretrainSettings.build({"corpus": "c", "output": "o", "start": {"encoder": "e"}}),
        MultitaskSettings.build({
            "output": "o", "encoder": {"encoder": "e"},
            "tasks": [{"name": name, "data": {"train": "t"}} for name in ("a", "b")],
        }),
    ]  # fmt: skip
    for settings in trees:
        assert "_options" not in settings.model_dump_json()
        assert type(settings).build(settings.model_dump()) == settings


@pytest.mark.parametrize(("section", "values", "message"), [
    ("truncation", {"overlap": 3}, "overlap is for truncation = windows, found head+tail; leave overlap out"),
    ("truncation", {"truncation": "my.py:T", "max_windows": 3}, "max_windows is for truncation = windows, found my"),
    ("features", {"lstm_hidden": 7}, "lstm_hidden is for head = bilstm, found linear; leave lstm_hidden out"),
    ("features", {"head_options": {"a": 1}}, "head_options is for head = my_file.py:MyClass, found linear"),
    ("training", {"select": "f1"}, "give accuracy, macro_f1, loss or last, found 'f1'"),
])  # fmt: skip
def test_a_setting_belongs_to_its_component(section: str, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FinetuneSettings.build({"output": "o", "data": {"train": "t"}, "encoder": {"encoder": "e"}, section: values})
    assert message in str(caught.value)


class Scaled(nn.Module):
    """A pooling that a test adds to doctune's own: the first token, times a number."""

    first_token_only = True

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor, states: HiddenStates) -> Tensor:
        return x[states.first_rows] * self.factor


class ScaledSettings(TokenPooling):
    name: ClassVar[str] = "scaled"
    made_by: ClassVar[str] = "a_file_of_the_test:Scaled"
    factor: float = 2.0


def added(monkeypatch: pytest.MonkeyPatch, component: type[Component], module: dict[str, Any]) -> None:
    """Put a component into its union, and its code into a module."""
    kind = KINDS["token_pooling"]
    monkeypatch.setitem(KINDS, kind.setting, dataclasses.replace(kind, components=(*kind.components, component)))
    code = types.ModuleType("a_file_of_the_test")
    code.__dict__.update(module)
    monkeypatch.setitem(sys.modules, code.__name__, code)


def test_a_component_is_its_code_and_its_class_in_the_union(
    tiny_encoder: Path, tiny_csv: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    added(monkeypatch, ScaledSettings, {"Scaled": Scaled})
    where = {"train": str(tiny_csv()), "encoder": str(tiny_encoder), "output": str(tmp_path / "run")}
    settings: dict[str, Any] = {"epochs": 1, "max_seq_len": 16, "token_pooling": "scaled"}
    with pytest.raises(ConfigError, match=r"token_pooling_options\.factor"):
        doctune.finetune(**where, **settings, token_pooling_options={"factor": "much"})
    doctune.finetune(**where, **settings, token_pooling_options={"factor": 3.0})
    model = doctune.load(tmp_path / "run").model
    assert [module.factor for module in model.modules() if isinstance(module, Scaled)] == [3.0]
    assert "scaled" in POOLED.options


@pytest.mark.parametrize(("module", "message"), [
    ({}, "is to be a_file_of_the_test:Scaled, which is not there"),
    ({"Scaled": type("Scaled", (nn.Module,), {})}, "no method forward"),
    ({"Scaled": type("Scaled", (Scaled,), {"__init__": lambda self, weight: None})}, "asks for weight"),
])  # fmt: skip
def test_what_is_half_wired_fails_when_settings_are_read(
    monkeypatch: pytest.MonkeyPatch, module: dict[str, Any], message: str
) -> None:
    added(monkeypatch, ScaledSettings, module)
    settings = FinetuneSettings.build({
        "output": "o", "data": {"train": "t"}, "encoder": {"encoder": "e"}, "features": {"token_pooling": "scaled"},
    })  # fmt: skip
    with pytest.raises(ConfigError, match=message):
        try_parts(chosen_parts(settings), 8, 1)


def test_trying_a_component_draws_no_random_number() -> None:
    settings = FinetuneSettings.build({"output": "o", "data": {"train": "t"}, "encoder": {"encoder": "e"},
                                       "features": {"layer_pooling": "attention"}})  # fmt: skip
    torch.manual_seed(3)
    before = torch.get_rng_state()
    try_parts(chosen_parts(settings), 8, 2)
    assert torch.equal(torch.get_rng_state(), before)
