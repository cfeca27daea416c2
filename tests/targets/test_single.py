"""One class of several: the order of classes, labels and answers, what is unseen, and JSON both ways."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from doctune.errors import ConfigError, DataError
from doctune.examples import label_order
from doctune.heads.links import LINKS
from doctune.runs.evaluation import score
from doctune.targets import SingleTarget, TargetSettings, from_json

TARGET = SingleTarget(("a", "b", "c"))


@pytest.mark.parametrize(
    ("labels", "order"),
    [
        (["10", "9", "1"], ("1", "9", "10")),
        (["-1", "2", "0"], ("-1", "0", "2")),
        (["b", "a", "C"], ("C", "a", "b")),
        (["10", "9", "x"], ("10", "9", "x")),
    ],
)
def test_order_of_labels(labels: list[str], order: tuple[str, ...]) -> None:
    assert TargetSettings().bind([*labels, None, *labels]).names == order


def test_a_known_order_is_used_if_it_holds_every_class() -> None:
    labels = ["b", "a", "c"]
    assert TargetSettings().bind(labels, ("c", "b", "a", "never seen")).names == ("c", "b", "a", "never seen")
    assert TargetSettings().bind(labels, ("c", "b")).names == ("a", "b", "c")


def test_labels_of_equal_value_have_one_order() -> None:
    code = "from doctune.examples import label_order; print(label_order({'1', '01', '001', '+1', '0001'}))"
    seen = Counter(
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in range(4)
    )
    assert len(seen) == 1
    assert label_order({"2", "1"}) == ("1", "2")


@pytest.mark.parametrize(("labels", "found"), [(["same"] * 5, "only 'same'"), ([None], "none")])
def test_one_class_is_not_enough(labels: list[str | None], found: str) -> None:
    with pytest.raises(DataError, match=rf"^train: two classes or more are needed, found {found}"):
        TargetSettings().bind(labels)


def test_labels_and_their_texts() -> None:
    labels = TARGET.encode(["c", "a", None, "z", "b"])
    assert labels.dtype == np.int64
    known = TARGET.known(labels)
    assert known.tolist() == [True, True, False, False, True]
    assert [TARGET.text(label) for label in labels[known]] == ["c", "a", "b"]
    assert TARGET.counts(labels) == {"a": 1, "b": 1, "c": 1}


def test_strata_are_the_classes_and_one_for_what_is_none() -> None:
    strata, size = TARGET.strata(TARGET.encode(["c", "a", "a"]))
    assert (strata.tolist(), size) == ([2, 0, 0], 3)
    strata, size = TARGET.strata(TARGET.encode(["c", "z", "a"]))
    assert (strata.tolist(), size) == ([2, 3, 0], 4)


def test_what_is_decided_is_what_a_row_says() -> None:
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 50)
    answers, sure = TARGET.decide(probabilities), TARGET.confidence(probabilities)
    for row, answer, confidence in zip(probabilities, answers, sure, strict=True):
        said = TARGET.row(row)
        assert said["label"] == TARGET.text(answer)
        assert said["probability"] == said["probabilities"][said["label"]] == round(confidence, 6)
        assert list(said["probabilities"]) == list(TARGET.names)


def test_an_unknown_label_is_never_right() -> None:
    labels = TARGET.encode(["a", "b", "z"])
    probabilities = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0], [0.9, 0.1, 0.0]])
    assert TARGET.correct(probabilities, labels).tolist() == [True, False, False]
    assert TARGET.constant_error(TARGET.encode(["a", "a", "b"]), labels) == pytest.approx(200 / 3)


def test_what_is_selected_is_higher_where_it_is_better() -> None:
    labels = TARGET.encode(["a", "b", "c", "c"])
    good, bad = np.eye(3)[labels] * 0.9 + 0.1 / 3, np.full((4, 3), 1 / 3)
    figures = [TARGET.headline(TARGET.measure(probabilities, labels)) for probabilities in (good, bad)]
    for select in ("accuracy", "macro_f1", "loss", "last"):
        better, worse = (score(one, select) for one in figures)
        assert better > worse
    assert score(figures[1], "last") == figures[1]["accuracy"]


def test_json_both_ways() -> None:
    assert from_json(json.loads(json.dumps(TARGET.to_json()))) == TARGET
    assert from_json({"labels": ["x", "y"]}) == SingleTarget(("x", "y"))  # as older folders have it
    with pytest.raises(ConfigError, match="no such kind of label 'singel'; did you mean 'single'"):
        from_json({"target": "singel", "labels": []})


def test_there_is_a_link_and_an_output_for_each_class() -> None:
    assert TARGET.link in LINKS
    assert TARGET.num_outputs == 3
