"""The card of a model says what was measured, in a form that model hubs read, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import ModelCard

from doctune.classifier.card import Measured, write_card
from doctune.classifier.predictor import Predictor
from doctune.metrics.single import compute

NAMES = ("neg", "pos", "so-so")
METRICS = compute(np.eye(3)[[0, 1, 1, 2]] * 0.7 + 0.1, np.array([0, 1, 2, 2]), NAMES)


@pytest.mark.parametrize("token_pooling", ["pooler", "mean"])
def test_the_card_says_what_was_measured(
    token_pooling: str, make_predictor: Callable[..., Predictor], tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    make_predictor(token_pooling=token_pooling, folder=folder)
    write_card(folder, "reviews: all", 120, str(tmp_path), [Measured("validation", METRICS), Measured("test", METRICS)])
    card = ModelCard.load(folder / "README.md")
    assert card.data.library_name == ("transformers" if token_pooling == "pooler" else "doctune")
    assert card.data.pipeline_tag == "text-classification"
    assert card.data.language is card.data.license is card.data.base_model is None
    assert [(one.dataset_split, one.metric_type, one.metric_value) for one in card.data.eval_results] == [
        ("test", "accuracy", METRICS.accuracy), ("test", "f1", METRICS.macro_f1),
    ]  # fmt: skip
    assert "25.00 %" in card.text
    assert "120 documents" in card.text
    assert str(tmp_path) not in card.content
    write_card(folder, "reviews", 120, "google/electra-small", [])
    card = ModelCard.load(folder / "README.md")
    assert card.data.eval_results is None
    assert card.data.base_model == "google/electra-small"
