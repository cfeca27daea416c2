"""What is said of probes: which is best, which are near ties, and the pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctune.evaluation.metrics import wilson_interval
from doctune.evaluation.probe import Answers, Probe, judge, sentences
from doctune.evaluation.probe_report import heat_map, summary_table, write_probe

COUNT = 200


def right(errors: int, first: int = 0) -> np.ndarray:
    """Answers of which so many are wrong, from a place on."""
    correct = np.ones(COUNT, bool)
    correct[first : first + errors] = False
    return correct


def answers(errors: dict[tuple[int, str], int], test: bool = False) -> list[Answers]:
    return [
        Answers(layer, pooling, 0.01, 0.3 + layer, right(count), right(count + 1) if test else None)
        for (layer, pooling), count in errors.items()
    ]


GRID = {(0, "cls"): 60, (0, "mean"): 50, (1, "cls"): 22, (1, "mean"): 20, (2, "cls"): 80, (2, "mean"): 21}


def make(test: bool = False, **changes: Any) -> Probe:
    cells, best = judge(answers(GRID, test))
    probe: Probe = {
        "format": 1, "doctune": "0", "created": "2030-01-01T00:00:00+0000", "command": "doctune probe",
        "title": "<b>reviews|x</b>", "data": {
            "train": 900, "validation": COUNT, "test": COUNT if test else 0, "validation_from": "held out",
            "chosen_from": None, "labels": ["a", "b"], "majority_error_percent": 50.0,
        },
        "encoder": {"name": "tiny", "num_layers": 3, "hidden_size": 8, "packing": "packed"},
        "max_seq_len": 64, "truncation": "head+tail", "cells": cells, "best": best,
        "sentences": sentences(cells, best, 3), "finetune": "doctune finetune --layers 1", "warnings": [],
        "seconds": {"features": 1.0, "probes": 2.0},
    }  # fmt: skip
    return {**probe, **changes}  # type: ignore[typeddict-item]


def test_the_fewest_errors_win_and_near_ties_are_named() -> None:
    cells, best = judge(answers(GRID))
    assert (cells[best]["layer"], cells[best]["token_pooling"]) == (1, "mean")
    assert [(c["layer"], c["token_pooling"]) for c in cells if c["tied"]] == [(1, "cls"), (1, "mean"), (2, "mean")]
    found = cells[best]["validation"]
    assert (found["low"], found["high"]) == wilson_interval(20, COUNT)
    said = " ".join(sentences(cells, best, 3))
    assert "Fine-tune layer 1 with mean: of 6 linear probes its own makes the fewest errors, 10.00 %" in said
    assert "Near ties, which these documents cannot tell from it: layer 2 with mean, layer 1 with cls." in said
    assert "lowest" not in said


def test_equal_errors_are_decided_by_the_loss() -> None:
    cells, best = judge(answers({(2, "cls"): 20, (1, "cls"): 20, (3, "cls"): 20}))
    assert cells[best]["layer"] == 1
    assert all(cell["tied"] for cell in cells)
    said = " ".join(sentences(cells, best, 4))
    assert "cannot tell any of the others from it" in said


def test_errors_elsewhere_make_a_tie_where_the_same_ones_would_not() -> None:
    """Ten errors more are no chance if the best one makes all the others, too; on other documents they may be."""
    best = Answers(0, "cls", 0.1, 0.1, right(40), None)
    nested = Answers(1, "cls", 0.1, 0.1, right(50), None)
    apart = Answers(2, "cls", 0.1, 0.1, right(50, 100), None)
    assert [cell["tied"] for cell in judge([best, nested, apart])[0]] == [True, False, True]


def test_a_lower_layer_that_ties_is_pointed_out_and_a_clear_winner_too() -> None:
    cells, best = judge(answers({(0, "cls"): 21, (4, "cls"): 20, (5, "cls"): 90}))
    assert "it would run 1 instead of 5 of the encoder's 6 layers" in " ".join(sentences(cells, best, 6))
    cells, best = judge(answers({(0, "cls"): 90, (4, "cls"): 20}))
    assert "Every other one is worse by more than chance." in sentences(cells, best, 6)


@pytest.mark.parametrize("test", [False, True])
def test_files(tmp_path: Path, test: bool) -> None:
    probe = make(test)
    write_probe(tmp_path, probe)
    assert json.loads((tmp_path / "probe.json").read_text()) == probe
    page = (tmp_path / "probe.html").read_text()
    assert "&lt;b&gt;reviews|x&lt;/b&gt;" in page
    assert "<b>reviews" not in page
    assert page.count("<svg") == (2 if test else 1)
    assert ("Test error" in page) == test
    text = (tmp_path / "probe.md").read_text()
    assert "reviews\\|x" in text
    assert text.count("**best**") == (2 if test else 1)


def test_the_table_marks_best_and_ties() -> None:
    table = summary_table(make(test=True))
    lines = table.splitlines()
    assert "    1     11.00 ~     10.00 *" in lines
    assert "    2     40.00       10.50 ~" in lines
    assert "    1     11.50 ~     10.50 *" in lines
    assert lines[-1] == "  doctune finetune --layers 1"
    assert "warning: few" in summary_table(make(warnings=["few"]))


def test_the_heat_map_has_the_highest_layer_on_top_and_the_best_cell_framed() -> None:
    drawn = str(heat_map(make(), "validation"))
    assert drawn.index("last layer, 2") < drawn.index("layer 1<") < drawn.index("layer 0<")
    assert drawn.count("stroke-width") == 1
    assert "10.00 % ★" in drawn
    assert drawn.count("≈") == 2
