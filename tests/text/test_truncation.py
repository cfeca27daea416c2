"""Truncation against what the original code keeps."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctune.errors import ConfigError
from doctune.settings import TruncationSettings
from doctune.text.tokenizer import Ids
from doctune.text.truncation import HeadOnly, HeadTail, TailOnly, Truncation, Windows, make_truncation, truncate_pair

Row = dict[str, Any]


def rows(golden: Path, kind: str) -> list[Row]:
    table = json.loads((golden / "truncation.json").read_text(encoding="utf-8"))
    return [dict(zip(table[f"{kind}_columns"], row, strict=True)) for row in table[kind]]


def document(length: int) -> Ids:
    return np.arange(length, dtype=np.int32)


def named(mode: int, lose_odd: bool = False) -> Truncation:
    """The original's `trunc_medium` as a truncation of ours."""
    return {-2: HeadOnly(), -1: TailOnly()}.get(mode, HeadTail(mode, lose_odd))


def kept_by_original(row: Row) -> list[int]:
    return [token for start, end in row["kept_ranges"] for token in range(start, end)]


def kept(truncation: Truncation, length: int, budget: int) -> list[int]:
    windows = truncation.windows(document(length), budget)
    assert len(windows) == 1
    return windows[0].tolist()


def test_single_texts_as_the_original(golden: Path) -> None:
    checked = 0
    for row in rows(golden, "single"):
        if row["status"] != "ok" or row["trunc_medium"] < -2:
            continue
        budget = row["max_seq_length"] - 2
        lose_odd = row["quirk"] == "odd_budget_loses_one"
        assert kept(named(row["trunc_medium"], lose_odd), row["n_tokens"], budget) == kept_by_original(row), row
        checked += 1
    assert checked > 900


def test_an_odd_budget_is_used_in_full_by_default(golden: Path) -> None:
    found = [row for row in rows(golden, "single") if row["quirk"] == "odd_budget_loses_one"]
    assert len(found) == 26
    for row in found:
        budget = row["max_seq_length"] - 2
        ours = kept(HeadTail(0), row["n_tokens"], budget)
        assert len(ours) == budget == row["n_kept"] + 1
        assert set(kept_by_original(row)) < set(ours)


def test_where_the_original_fails_ours_stays_within_the_budget(golden: Path) -> None:
    found = [row for row in rows(golden, "single") if row["status"] != "ok" and row["trunc_medium"] >= -2]
    assert {row["quirk"] for row in found} == {"head_ge_budget", "half_of_1_is_0", "no_budget"}
    for row in found:
        budget = row["max_seq_length"] - 2
        ours = kept(named(row["trunc_medium"]), row["n_tokens"], budget)
        assert len(ours) == budget, row
        assert ours == sorted(set(ours))
        if row["quirk"] == "head_ge_budget":
            settings = TruncationSettings(head_tokens=row["trunc_medium"], max_seq_len=max(budget + 2, 3))
            with pytest.raises(ConfigError, match=r"truncation\.head_tokens: .* leaves no tail"):
                make_truncation(settings, budget)


def test_pairs_as_the_original(golden: Path) -> None:
    checked = 0
    for row in rows(golden, "pair"):
        if row["status"] != "ok":
            continue
        first, second = truncate_pair(document(row["n_a"]), document(row["n_b"]), row["max_seq_length"] - 3)
        if row["quirk"] == "second_text_empty_treated_as_single":
            # The collator takes such a document for a single text, which has a place more.
            assert len(second) == 0
            continue
        assert (first.tolist(), second.tolist()) == (list(range(row["kept_a"])), list(range(row["kept_b"]))), row
        checked += 1
    assert checked > 900


def test_pairs_never_exceed_the_budget() -> None:
    for a in range(7):
        for b in range(7):
            for budget in range(-1, 14):
                first, second = truncate_pair(document(a), document(b), budget)
                assert len(first) + len(second) == min(a + b, max(budget, 0))


def test_the_default_is_the_papers() -> None:
    truncation = make_truncation(TruncationSettings(), 510)
    assert kept(truncation, 1000, 510) == [*range(128), *range(1000 - 382, 1000)]


@pytest.mark.parametrize(
    "truncation", [HeadOnly(), TailOnly(), HeadTail(), HeadTail(0), HeadTail(3), HeadTail(0, True)]
)
@pytest.mark.parametrize("budget", [1, 2, 3, 4, 7, 62])
def test_properties_of_any_truncation(truncation: Truncation, budget: int) -> None:
    for length in range(0, 3 * budget + 2):
        ours = kept(truncation, length, budget)
        assert ours == sorted(set(ours))
        assert len(ours) <= budget
        if length <= budget:
            assert ours == list(range(length))
        elif truncation != HeadTail(0, True):
            assert len(ours) == budget


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"truncation": "head-only"}, HeadOnly()),
        ({"truncation": "tail-only", "head_tokens": 600}, TailOnly()),
        ({"truncation": "head+tail"}, HeadTail(None, False)),
        ({"head_tokens": 0, "original_truncation": True}, HeadTail(0, True)),
        ({"head_tokens": 509}, HeadTail(509, False)),
        ({"truncation": "windows"}, Windows()),
        ({"truncation": "windows", "overlap": 509, "max_windows": 2}, Windows(509, 2)),
    ],
)
def test_settings_name_a_truncation(values: dict[str, Any], expected: Truncation) -> None:
    assert make_truncation(TruncationSettings(**values), 510) == expected


@pytest.mark.parametrize("overlap", [0, 1, 3, 6])
@pytest.mark.parametrize("max_windows", [None, 1, 3])
@pytest.mark.parametrize("budget", [7, 10])
def test_windows(overlap: int, max_windows: int | None, budget: int) -> None:
    truncation = Windows(overlap, max_windows)
    lengths = np.arange(0, 6 * budget)
    numbers, tokens = truncation.numbers(lengths, budget), truncation.tokens(lengths, budget)
    cuts = truncation.cuts(lengths, budget)
    for length in lengths.tolist():
        windows = [window.tolist() for window in truncation.windows(document(length), budget)]
        assert windows == [list(range(a, a + n)) for a, n in truncation.places(length, budget)]
        assert (len(windows), sum(map(len, windows))) == (numbers[length], tokens[length])
        read = {token for window in windows for token in window}
        assert bool(cuts[length]) == (len(read) < length)
        if length <= budget:
            assert windows == [list(range(length))]
            continue
        assert len(windows) <= (max_windows or length)
        assert read == set(range(len(read)))
        assert max_windows == len(windows) or len(read) == length
        assert all(len(window) == budget for window in windows[:-1])
        shared = [len(set(a) & set(b)) for a, b in itertools.pairwise(windows)]
        assert all(number == overlap for number in shared[:-1])
        # An overlap fills the last window, too, which may then share more with the one before it.
        assert not shared or shared[-1] >= overlap
        assert len(windows[-1]) == budget if overlap else windows[-1]


def test_an_overlap_must_leave_room() -> None:
    settings = TruncationSettings(truncation="windows", overlap=30, max_seq_len=32)
    with pytest.raises(ConfigError, match=r"truncation\.overlap: 30 is not less than the 30 tokens"):
        make_truncation(settings, 30)


@pytest.mark.parametrize("values", [{"overlap": 2}, {"max_windows": 2, "truncation": "head-only"}])
def test_what_belongs_to_windows_needs_them(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"is for truncation = windows, found head"):
        TruncationSettings.build(values)
