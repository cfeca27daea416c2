"""Reading settings: TOML, overrides, and errors that name the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from doctune.config import Settings, did_you_mean, merge, parse_overrides, read_toml, to_toml, write_toml
from doctune.errors import ConfigError


class Inner(Settings):
    rate: float = 0.1
    layers: tuple[int, ...] = (1, 2)
    name: str | None = None


class Outer(Settings):
    count: int
    inner: Inner = Inner()


def test_toml_round_trip(tmp_path: Path) -> None:
    for settings in (Outer(count=3), Outer(count=0, inner=Inner(rate=1e-5, layers=(), name='"ž"\n'))):
        write_toml(tmp_path / "config.toml", settings)
        assert Outer.build(read_toml(tmp_path / "config.toml")) == settings
        assert ("name" in to_toml(settings)) == (settings.inner.name is not None)


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Outer(count=1).count = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({}, "count: must be given, as --count"),
        ({"count": "x"}, "count: give a whole number, found 'x'"),
        ({"count": 1, "coutn": 2}, "coutn: no such setting; did you mean 'count'?"),
        ({"count": 1, "inner": {"rat": 2}}, "inner.rat: no such setting; did you mean 'rate'?"),
        ({"count": 1, "inner": {"zzz": 2}}, "inner.zzz: no such setting; there is rate, layers, name"),
        ({"count": 1, "inner": 7}, "inner: "),
        ({"count": 1, "inner": {"layers": ["a"]}}, "inner.layers: give whole numbers, found 'a'"),
    ],
)
def test_errors_name_the_dotted_key(tree: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Outer.build(tree)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_several_errors_are_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        Outer.build({"count": "x", "inner": {"rate": "y", "bogus": 1}})
    assert [part.split(":")[0] for part in str(caught.value).split("; ") if ":" in part] == [
        "count",
        "inner.rate",
        "inner.bogus",
    ]


def test_merging_goes_section_by_section() -> None:
    low, high = {"a": {"x": 1, "y": {"z": 2}}, "b": 3}, {"a": {"y": {"w": 4}}, "c": 5}
    assert merge(low, high) == {"a": {"x": 1, "y": {"z": 2, "w": 4}}, "b": 3, "c": 5}
    assert merge(high, {"a": 1}) == {"a": 1, "c": 5}
    assert merge() == {}
    assert low == {"a": {"x": 1, "y": {"z": 2}}, "b": 3}


def test_overrides_are_toml_values_or_bare_words() -> None:
    tree = parse_overrides(
        [
            "a.rate=1e-4",
            "a.flag=true",
            "a.layers=[1, -2]",
            "a.name=bert-base",
            'a.quoted="x = y"',
            "b.c.d=5",
            "a.path=x=y",
        ]
    )
    assert tree == {
        "a": {"rate": 1e-4, "flag": True, "layers": [1, -2], "name": "bert-base", "quoted": "x = y", "path": "x=y"},
        "b": {"c": {"d": 5}},
    }
    assert parse_overrides(["a.x=1", "a.x=2"]) == {"a": {"x": 2}}
    assert parse_overrides(["a.x="]) == {"a": {"x": ""}}


@pytest.mark.parametrize("pair", ["a.b", "epochs=3", "=3", ""])
def test_bad_overrides(pair: str) -> None:
    with pytest.raises(ConfigError, match=r"write section\.name=value"):
        parse_overrides([pair])


def test_files_that_are_no_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        read_toml(tmp_path / "a.toml")
    for content in (b"[a\n", b"a = caf\xe9\n", b"a = 1\na = 2\n"):
        (tmp_path / "a.toml").write_bytes(content)
        with pytest.raises(ConfigError, match=r"a\.toml: not a TOML file: "):
            read_toml(tmp_path / "a.toml")


def test_near_words() -> None:
    assert did_you_mean("learning_rat", ["learning_rate", "epochs"]) == "; did you mean 'learning_rate'?"
    assert did_you_mean("xyz", ["learning_rate", "epochs"]) == "; there is learning_rate, epochs"
