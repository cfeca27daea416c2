"""Which figure chooses, on which documents, and that the weights which it chose are those that are saved.

Loss, accuracy and macro F1 of the validation documents disagree here, and the test documents disagree with all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import doctune

from .conftest import read, saved_weights

HIGHER_IS_BETTER = {"accuracy": 1, "macro_f1": 1, "loss": -1}
# In training the word tells the class, and bad ones are many: at first every answer is "bad". Of the good words in
# validation two thirds are labelled bad: once the model knows the words, its accuracy is below that of "bad" for all
# and its loss is high, while macro F1 has risen.
TRAIN = [*[("bad", "bad")] * 36, *[("good", "good")] * 12]
VALIDATION = [*[("bad", "bad")] * 20, *[("good", "bad")] * 24, *[("good", "good")] * 12]
TEST = [(word, "good" if label == "bad" else "bad") for word, label in VALIDATION]
RECIPE = {"learning_rate": 4e-3, "batch_size": 4, "token_pooling": "mean", "dropout": 0.0, "seed": 2, "epochs": 5}


def same_weights(first: Path, second: Path) -> bool:
    a, b = saved_weights(first), saved_weights(second)
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.fixture
def files(reviews: Callable[..., Path]) -> dict[str, Path]:
    rows = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
    return {name: reviews(f"{name}.csv", [*some]) for name, some in rows.items()}


@pytest.mark.parametrize("select", ["loss", "accuracy", "macro_f1", "last"])
def test_the_epoch_that_was_asked_for_is_kept(
    tune: Callable[..., Any], files: dict[str, Path], tmp_path: Path, select: str
) -> None:
    report = tune(
        "run", files["train"], validation=str(files["validation"]), test=str(files["test"]), select=select, **RECIPE
    )
    epochs = report["epochs"]
    scores = {
        figure: [sign * record["validation"][figure] for record in epochs] for figure, sign in HIGHER_IS_BETTER.items()
    }
    # The figures disagree: where one is at its best, another is not.
    best_by = {figure: {n for n, one in enumerate(values) if one == max(values)} for figure, values in scores.items()}
    assert not best_by["macro_f1"] & (best_by["accuracy"] | best_by["loss"])
    assert len(epochs) - 1 not in best_by["accuracy"] | best_by["loss"]
    kept = [record["epoch"] for record in epochs].index(report["best"]["epoch"])
    assert kept in ({len(epochs) - 1} if select == "last" else best_by[select])
    # It is these weights that are measured and saved.
    for figure in HIGHER_IS_BETTER:
        assert report["validation"][figure] == pytest.approx(epochs[kept]["validation"][figure], abs=1e-6)
    saved = doctune.evaluate(tmp_path / "run", files["validation"])  # in the precision of this machine
    assert saved.loss == pytest.approx(epochs[kept]["validation"]["loss"], rel=5e-3)
    # Labels of the test documents are the other way round: accuracy there is what the error of validation is.
    assert report["test"]["accuracy"] == pytest.approx(1 - report["validation"]["accuracy"], abs=1e-6)


def test_training_stops_when_patience_is_over(tune: Callable[..., Any], files: dict[str, Path]) -> None:
    report = tune(
        "run", files["train"], validation=str(files["validation"]), select="accuracy", patience=2,
        **{**RECIPE, "epochs": 9},
    )  # fmt: skip
    scores = [record["validation"]["accuracy"] for record in report["epochs"]]
    assert 3 <= len(scores) < 9
    assert max(scores[-2:]) <= max(scores[:-2])
    assert scores[-3] > max(scores[:-3], default=-1)


def test_validation_chooses_the_seed(tune: Callable[..., Any], reviews: Callable[..., Path], tmp_path: Path) -> None:
    """Of models whose heads are as they were drawn; on the test documents, which choose nothing, others are best."""
    validation = [*[("bad", "a")] * 20, *[("good", "b")] * 12, *[("dull", "c")] * 8]
    test = [*[("bad", "a")] * 8, *[("good", "b")] * 12, *[("dull", "c")] * 20]
    files = {name: str(reviews(f"{name}.csv", rows)) for name, rows in (("validation", validation), ("test", test))}
    report = tune(
        "run", reviews("train.csv", validation), **files, seeds=4, learning_rate=1e-30, token_pooling="mean",
        select="accuracy", batch_size=40,
    )  # fmt: skip
    run = tmp_path / "run"
    seeds = report["seeds"]["seeds"]
    singles = {seed: read(run / f"seed-{seed}" / "report.json") for seed in seeds}
    by = {part: {seed: one[part]["accuracy"] for seed, one in singles.items()} for part in ("validation", "test")}
    best = {part: {seed for seed in seeds if values[seed] == max(values.values())} for part, values in by.items()}
    assert not best["validation"] & best["test"]
    assert seeds[0] not in best["validation"]
    chosen = report["seeds"]["details_of"]
    assert chosen in best["validation"]
    # The figures, the predictions and the model of the run are that seed's.
    assert report["validation"] == singles[chosen]["validation"]
    assert (run / "predictions.jsonl").read_bytes() == (run / f"seed-{chosen}" / "predictions.jsonl").read_bytes()
    assert [seed for seed in seeds if same_weights(run, run / f"seed-{seed}")] == [chosen]


def test_of_equally_good_seeds_the_surer_is_chosen(
    tune: Callable[..., Any], reviews: Callable[..., Path], tmp_path: Path
) -> None:
    train = reviews("train.csv", [*[("bad", "a")] * 12, *[("good", "b")] * 12])
    report = tune("run", train, validation=str(train), seeds=3, **{**RECIPE, "epochs": 4})
    singles = {seed: read(tmp_path / "run" / f"seed-{seed}" / "report.json") for seed in report["seeds"]["seeds"]}
    assert {one["validation"]["accuracy"] for one in singles.values()} == {1.0}
    losses = {seed: one["validation"]["loss"] for seed, one in singles.items()}
    assert len(set(losses.values())) == 3
    assert losses[report["seeds"]["details_of"]] == min(losses.values())
