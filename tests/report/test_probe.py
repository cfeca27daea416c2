"""What is said of probes: which is best, which are near ties, and the pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctune.evaluation.probe import Probe, ProbeAnswers, advise, judge, sentences
from doctune.metrics.single import wilson_interval
from doctune.report.probe import summary_table, write_probe
from doctune.report.sections.probe.maps import heat_map

COUNT = 200


def right(errors: int, first: int = 0) -> np.ndarray:
    """Answers of which so many are wrong, from a place on."""
    correct = np.ones(COUNT, bool)
    correct[first : first + errors] = False
    return correct


def answers(errors: dict[tuple[int, str], int], test: bool = False) -> list[ProbeAnswers]:
    return [
        ProbeAnswers(layer, pooling, 0.01, 0.3 + layer, right(count), right(count + 1) if test else None)
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
        "max_seq_len": 64, "truncation": "head+tail", "cells": cells, "best": best, "advised": advise(cells, best),
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


def test_the_highest_layer_that_ties_is_advised() -> None:
    cells, best = judge(answers(GRID, test=True))
    assert cells[advise(cells, best)]["layer"] == 2
    said = sentences(cells, best, 3)
    assert said[0] == (
        "Fine-tune layer 2 with mean: the highest of the layers whose linear probes cannot be told from the best."
    )
    assert said[1].startswith("The best, layer 1 with mean, makes the fewest errors of 6, 10.00 % (")
    assert said[2].startswith("On the 200 test documents the error of layer 2 with mean is 11.00 % (")
    assert said[3] == "Near ties, which these documents cannot tell from the best: layer 2 with mean, layer 1 with cls."
    assert said[4] == (
        "The cheapest is layer 1: it would run 2 of the encoder's 3 layers instead of 3, and have less to learn with."
    )


def test_of_one_layer_the_pooling_of_fewest_errors_is_advised() -> None:
    cells, best = judge(answers({(1, "cls"): 21, (1, "mean"): 22, (0, "max"): 20}))
    assert cells[advise(cells, best)]["token_pooling"] == "cls"
    cells, best = judge(answers({(1, "cls"): 20, (1, "mean"): 20, (0, "max"): 90}))
    assert advise(cells, best) == best == 0


def test_equal_errors_are_decided_by_the_loss() -> None:
    cells, best = judge(answers({(2, "cls"): 20, (1, "cls"): 20, (3, "cls"): 20}))
    assert cells[best]["layer"] == 1
    assert all(cell["tied"] for cell in cells)
    said = " ".join(sentences(cells, best, 4))
    assert "cannot tell any of the others from the best" in said


def test_errors_elsewhere_make_a_tie_where_the_same_ones_would_not() -> None:
    """Ten errors more are no chance if the best one makes all the others, too; on other documents they may be."""
    best = ProbeAnswers(0, "cls", 0.1, 0.1, right(40), None)
    nested = ProbeAnswers(1, "cls", 0.1, 0.1, right(50), None)
    apart = ProbeAnswers(2, "cls", 0.1, 0.1, right(50, 100), None)
    assert [cell["tied"] for cell in judge([best, nested, apart])[0]] == [True, False, True]


def test_a_clear_winner_is_said_to_be_one() -> None:
    cells, best = judge(answers({(0, "cls"): 90, (4, "cls"): 20, (5, "cls"): 80}))
    said = sentences(cells, best, 6)
    assert said[0].startswith("Fine-tune layer 4 with cls: its linear probe makes the fewest errors of 3, 10.00 % (")
    assert said[-1] == "Every other one is worse by more than chance."


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


def test_the_heat_map_has_the_highest_layer_on_top_and_the_advised_cell_framed() -> None:
    drawn = str(heat_map(make(), "validation"))
    assert drawn.index("last layer, 2") < drawn.index("layer 1<") < drawn.index("layer 0<")
    assert drawn.count("stroke-width") == 1
    low, high = wilson_interval(21, COUNT)
    tip = f"layer 2, mean: 10.50 ({low:.2f} to {high:.2f}) %, L2 0.01, cannot be told from the best, to fine-tune"
    assert tip in drawn
    assert "10.00 % ★" in drawn
    assert drawn.count("≈") == 2
