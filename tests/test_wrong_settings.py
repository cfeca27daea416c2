"""Every setting of every command: one value makes a list, and what is wrong is said once, in words of ours."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import doctune
from doctune.cli import COMMANDS, parse
from doctune.cli.flags import settings_tree
from doctune.config import Settings, Tree, dotted_fields, flat_names, merge, parse_overrides, read_toml
from doctune.config.words import is_list, literals
from doctune.errors import ConfigError
from doctune.settings import MultitaskSettings, from_flat

TASKS = [{"name": name, "data": {"train": f"{name}.csv"}} for name in "ab"]
LEAST: dict[str, Tree] = {
    "FinetuneSettings": {"output": "o", "data": {"train": "a.csv"}, "encoder": {"encoder": "e"}},
    "MultitaskSettings": {"output": "o", "tasks": TASKS, "encoder": {"encoder": "e"}},
    "CorpusSettings": {"output": "o", "encoder": "e", "sources": ["a.txt"]},
    "PretrainSettings": {"output": "o", "corpus": "c", "start": {"encoder": "e"}},
    "FeatureFileSettings": {"output": "o", "encoder": {"encoder": "e"}},
    "ProbeSettings": {"output": "o", "data": {"train": "a.csv"}, "encoder": {"encoder": "e"}},
}
KINDS = {command.settings().__name__: command.settings() for command in COMMANDS if command.settings is not None}
JARGON = re.compile(
    r"input should|\b(in)?valid\b|literal|union|tuple|\bparse|type=|pydantic|instance|dictionary|integer|string", re.I
)
WRONG: tuple[Any, ...] = ({"a": 1}, "no such word", [["x"]], [], float("nan"), -(10**9), 0.123, b"\xff", object)

ONE: dict[str, Any] = {
    "text": "review", "layers": -1, "layer_rates": 0.5, "class_weights": 0.5, "exclude": "a.txt", "sources": "a.txt",
}  # fmt: skip
"""A value for each list."""


def every() -> list[Any]:
    """Every setting of every command but those of components of the user's own, which `test_components` tries."""
    return [
        pytest.param(name, dotted, field, id=f"{name}-{dotted}")
        for name, kind in KINDS.items()
        for dotted, field in dotted_fields(kind).items()
        if not dotted.endswith("_options")
    ]


def lists() -> list[Any]:
    """Those that are lists of as many values as one likes; tasks are two at least, and betas two."""
    chosen = []
    for param in every():
        name, dotted, field = param.values
        if is_list(field.annotation) and dotted not in ("tasks", "optimizer.betas"):
            chosen.append(pytest.param(name, dotted, ONE[dotted.rpartition(".")[2]], id=param.id))
    return chosen


def tree(name: str, dotted: str, value: Any) -> Tree:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return merge(LEAST[name], value)


def at(settings: Settings, dotted: str) -> Any:
    found: Any = settings
    for part in dotted.split("."):
        found = getattr(found, part)
    return found


def test_every_command_with_settings_is_here() -> None:
    assert set(KINDS) == set(LEAST)
    assert len(lists()) >= 10


@pytest.mark.parametrize(("name", "dotted", "value"), lists())
def test_one_value_makes_a_list_through_every_door(name: str, dotted: str, value: Any, tmp_path: Path) -> None:
    kind = KINDS[name]
    wanted = kind.build(tree(name, dotted, [value]))
    assert len(at(wanted, dotted)) == 1
    assert kind.build(tree(name, dotted, value)) == wanted
    assert kind.build(tree(name, dotted, (value,))) == wanted
    keyword = next(flat for flat, place in flat_names(kind).items() if place == dotted)
    assert kind.build(merge(LEAST[name], from_flat({keyword: value}, kind))) == wanted
    if "." in dotted:
        assert kind.build(merge(LEAST[name], parse_overrides([f"{dotted}={value}"]))) == wanted
    section, _, own = dotted.rpartition(".")
    path = tmp_path / "one.toml"
    path.write_text(f"{f'[{section}]' if section else ''}\n{own} = {value!r}\n")
    assert kind.build(merge(LEAST[name], read_toml(path))) == wanted


def test_a_single_task_is_a_list_of_one() -> None:
    with pytest.raises(ConfigError, match="tasks: 1 given, two or more are needed"):
        MultitaskSettings.build({**LEAST["MultitaskSettings"], "tasks": TASKS[0]})


@pytest.mark.parametrize(("name", "dotted", "field"), every())
def test_what_is_wrong_is_said_once_in_words_of_ours(name: str, dotted: str, field: Any) -> None:
    wrong = 0
    for value in WRONG:
        if dotted == "training.class_weights" and value == -(10**9):
            continue  # the whole section says that it must not be negative
        if dotted in ("sources", "tasks") and isinstance(value, dict):
            continue  # a section that lacks several settings
        for flags in (False, True):
            try:
                KINDS[name].build(tree(name, dotted, value), flags)
            except ConfigError as error:
                message = str(error)
            else:
                continue
            wrong += 1
            if value in (0.123, "no such word") and not message.startswith(dotted):
                assert re.search(r"leave|give|needs|is for", message)  # right by itself, not beside the others
                continue
            if value == []:
                continue  # no list at all is a matter of the settings together
            assert re.match(rf"{re.escape(dotted)}(\.0)?: ", message), message
            assert "; " not in message, message
            assert not JARGON.search(message), message
            assert "found" in message, message
            for word in literals(field.annotation):
                assert str(word) in message, message
            if flags and "give --" in message:
                flag = next(flat for flat, place in flat_names(KINDS[name]).items() if place == dotted)
                assert f"give --{flag.replace('_', '-')} " in message
            elif not flags:
                assert "give --" not in message
    assert wrong


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"text": {"a": 1}}, "data.text: give whole numbers or texts, found {'a': 1}"),
        ({"epochs": "many"}, "training.epochs: give a number above 0, found 'many'"),
        ({"class_weights": "equal"}, "training.class_weights: give none, balanced or numbers, found 'equal'"),
        ({"class_weights": [1, "x"]}, "training.class_weights: give none, balanced or numbers, found 'x'"),
        ({"betas": 0.9}, "optimizer.betas: give 2 numbers from 0 and below 1, found 0.9"),
        ({"label": 1.5}, "data.label: give a whole number or text, found 1.5"),
        ({"header": "perhaps"}, "data.header: give true or false, found 'perhaps'"),
        ({"learning_rate": float("inf")}, "optimizer.learning_rate: give a number above 0, found inf"),
        ({"txt": "review"}, "txt: no such setting; did you mean 'text'?"),
    ],
)
def test_python_callers_are_told_the_same(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        doctune.finetune(**{"train": "a.csv", "encoder": "e", "output": "o", **settings})
    assert str(caught.value) == message


@pytest.mark.parametrize("section", ["data", "training", "optimizer"])
def test_a_section_that_is_a_value(section: str) -> None:
    with pytest.raises(ConfigError, match=f"^{section}: a section is needed, with ") as caught:
        KINDS["FinetuneSettings"].build({**LEAST["FinetuneSettings"], section: 7})
    assert not JARGON.search(str(caught.value))


def test_a_word_of_a_flag_that_is_none_of_its_words() -> None:
    arguments = ["finetune", "--train", "a.csv", "--encoder", "e", "--output", "o", "--precision", "fp8"]
    with pytest.raises(ConfigError) as caught:
        KINDS["FinetuneSettings"].build(settings_tree(*parse(arguments)), flags=True)
    assert str(caught.value) == "training.precision: give --precision auto, fp32 or bf16, found 'fp8'"


def test_all_that_is_wrong_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        KINDS["FinetuneSettings"].build(merge(tree("FinetuneSettings", "data.label", 1.5), {"training": {"seed": "x"}}))
    assert [part.partition(":")[0] for part in str(caught.value).split("; ")] == ["data.label", "training.seed"]
