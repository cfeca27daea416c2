"""The settings themselves."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from doctune.cli import COMMANDS
from doctune.config import merge, to_toml
from doctune.errors import ConfigError
from doctune.settings import DataSettings, FinetuneSettings, TrainingSettings, dotted_fields, from_flat

FIELDS = dotted_fields(FinetuneSettings)
LEAST: dict[str, Any] = {"output": "runs/a", "data": {"train": "a.csv"}, "encoder": {"encoder": "minilm"}}


def test_every_leaf_has_a_name_of_its_own_and_an_explanation() -> None:
    leaves = [dotted.rpartition(".")[2] for dotted in FIELDS]
    assert len(leaves) == len(set(leaves)) > 40
    for dotted, field in FIELDS.items():
        assert field.description, dotted
        assert "\n" not in field.description


def test_sections_are_not_leaves() -> None:
    assert {"output", "data.train", "optimizer.learning_rate"} <= set(FIELDS)
    assert not {"data", "optimizer", "training"} & set(FIELDS)


def test_the_defaults_are_the_papers() -> None:
    settings = FinetuneSettings.build(LEAST)
    assert (settings.training.epochs, settings.training.batch_size) == (4, 24)
    assert (settings.schedule.schedule, settings.schedule.warmup) == ("slanted-triangular", 0.1)
    assert (settings.layerwise.layerwise, settings.layerwise.layer_decay) == ("decay", 0.95)
    assert (settings.truncation.truncation, settings.truncation.max_seq_len) == ("head+tail", 512)


def test_flat_settings_find_their_sections() -> None:
    tree = from_flat(
        {"train": "a.csv", "encoder": "minilm", "output": "runs/a", "epochs": 2, "layers": (1, 2), "label": None}
    )
    assert tree == {
        "data": {"train": "a.csv"}, "encoder": {"encoder": "minilm"}, "output": "runs/a",
        "training": {"epochs": 2}, "features": {"layers": (1, 2)},
    }  # fmt: skip
    with pytest.raises(ConfigError, match="epoch: no such setting; did you mean 'epochs'"):
        from_flat({"epoch": 2})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"features": {"layers": "all", "layer_pooling": "attention"}},
        {"features": {"layers": [-1, 0]}, "layerwise": {"layer_rates": [1e-5, 2e-5]}},
        {
            "training": {"class_weights": [1, 2.5]},
            "data": {"train": "ž.csv", "text": ["a", 2], "label": 0, "join": "\n"},
        },
        {"training": {"class_weights": "balanced", "tokens_per_batch": 4096}, "optimizer": {"betas": [0.8, 0.99]}},
    ],
)
def test_toml_builds_equal_settings(changes: dict[str, Any]) -> None:
    settings = FinetuneSettings.build({**LEAST, **changes})
    again = FinetuneSettings.build(tomllib.loads(to_toml(settings)))
    assert again == settings
    assert to_toml(again) == to_toml(settings)


@pytest.mark.parametrize(
    "values",
    [{"train": "a.csv"}, {"dataset": "ag_news", "data": "folder"}, {"dataset": "pydocs"}, {"train": "hf:imdb"}],
)
def test_where_documents_may_come_from(values: dict[str, Any]) -> None:
    DataSettings.build(values)


def test_contradictions() -> None:
    for values, message in (
        ({}, "no training data: give --train FILE"),
        ({"dataset": "ag_news"}, "no training data"),
        ({"train": "a.csv", "data": "folder"}, "--data FOLDER needs --dataset NAME"),
    ):
        with pytest.raises(ConfigError, match=message):
            DataSettings.build(values)
    with pytest.raises(ConfigError, match="class weights must not be negative"):
        TrainingSettings.build({"class_weights": [1, -1]})


@pytest.mark.parametrize(
    ("section", "name", "values"),
    [
        ("training", "epochs", (0, -1, "x")),
        ("training", "batch_size", (0, 1.5)),
        ("training", "label_smoothing", (-0.1, 1)),
        ("training", "class_weights", ("equal",)),
        ("optimizer", "learning_rate", (0, -1e-5)),
        ("optimizer", "betas", ([0.9], [0.9, 1.0])),
        ("schedule", "warmup", (-0.1, 1)),
        ("schedule", "schedule", ("linear",)),
        ("truncation", "max_seq_len", (2,)),
        ("truncation", "head_tokens", (-1,)),
        ("layerwise", "layer_decay", (0, 1.1)),
        ("data", "validation_fraction", (0, 1)),
        ("data", "train_examples", (0, -5, 0.0, 1.0, 2.5, "0", "many", "nan", True, [])),
        ("data", "test_examples", (0, -5, 0.5, "many")),
        ("features", "layers", ("some", [1.5])),
    ],
)
def test_values_out_of_range(section: str, name: str, values: tuple[Any, ...]) -> None:
    for value in values:
        tree = {**LEAST, section: {**LEAST.get(section, {}), name: value}}
        with pytest.raises(ConfigError, match=rf"^{section}\.{name}"):
            FinetuneSettings.build(tree)


@pytest.mark.parametrize(("given", "found"), [("100", 100), (100, 100), ("0.25", 0.25), (0.25, 0.25), (None, None)])
def test_few_examples_are_a_number_or_a_share(given: Any, found: Any) -> None:
    value = DataSettings.build({"train": "a.csv", "train_examples": given}).train_examples
    assert (value, type(value)) == (found, type(found))


def test_numbers_must_be_finite() -> None:
    for name in ("learning_rate", "weight_decay", "epsilon"):
        with pytest.raises(ConfigError, match=name):
            FinetuneSettings.build({**LEAST, "optimizer": {name: float("inf")}})


def test_every_settings_class_has_a_json_schema() -> None:
    """Editors and notebooks ask for it; a value with a check of its own must say what it is."""
    for command in COMMANDS:
        if command.settings is not None:
            schema = command.settings().model_json_schema()
            assert schema["properties"]
            assert "title" in schema


@pytest.mark.parametrize(
    "tree", [{"data": {"text": True}}, {"data": {"label": False}}, {"training": {"epochs": True}},
             {"training": {"class_weights": [True, False]}}, {"features": {"layers": []}}, {"data": {"text": []}}],
)  # fmt: skip
def test_true_is_no_number_and_no_list_is_empty(tree: dict[str, Any]) -> None:
    """Python takes True for 1, which would be the second column."""
    whole = {"output": "o", "data": {"train": "a.csv"}, "encoder": {"encoder": "e"}}
    with pytest.raises(ConfigError, match="give"):
        FinetuneSettings.build(merge(whole, tree))
