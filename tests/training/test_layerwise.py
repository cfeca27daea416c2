from __future__ import annotations

from pathlib import Path

import pytest

from doctune.encoders.load import load_encoder
from doctune.errors import ConfigError
from doctune.models.classifier import Classifier, build_classifier
from doctune.settings import EncoderSettings, LayerwiseSettings
from doctune.training.layerwise import layer_rate, parameter_groups
from doctune.training.rates import default_learning_rate


@pytest.fixture
def model(tiny_encoder: Path) -> Classifier:
    loaded = load_encoder(tiny_encoder, EncoderSettings(encoder="x"), (-1,))
    return build_classifier(loaded, "pooler", "concat", 2)


def test_decay_falls_from_the_head_to_the_embeddings() -> None:
    settings = LayerwiseSettings(layerwise="decay", layer_decay=0.5)
    rates = [layer_rate(layer, 3, 2, 1.0, settings) for layer in (3, 2, 1, 0, -1)]
    assert rates == [1.0, 1.0, 0.5, 0.25, 0.125]


def test_decay_counts_from_the_highest_layer_in_use() -> None:
    settings = LayerwiseSettings(layerwise="decay", layer_decay=0.5)
    assert [layer_rate(layer, 12, 1, 1.0, settings) for layer in (12, 1, 0, -1)] == [1.0, 1.0, 0.5, 0.25]


def test_a_rate_per_layer() -> None:
    settings = LayerwiseSettings(layer_rates=(0.1, 0.2))
    assert [layer_rate(layer, 2, 1, 1.0, settings) for layer in (2, 1, 0, -1)] == [1.0, 0.2, 0.1, 1.0]
    with pytest.raises(ConfigError, match="2 rates for an encoder of 3 layers"):
        layer_rate(0, 3, 2, 1.0, settings)


def test_groups_hold_every_parameter_once_and_biases_do_not_decay(model: Classifier) -> None:
    groups, table = parameter_groups(model, 1e-3, 0.01, LayerwiseSettings())
    grouped = [p for group in groups for p in group["params"]]
    assert sorted(map(id, grouped)) == sorted(map(id, model.parameters()))
    assert all(p.ndim > 1 or group["weight_decay"] == 0 for group in groups for p in group["params"])
    assert [row.part for row in table] == ["pooling and head", "layer 1", "layer 0", "embeddings"]
    assert sum(row.parameters for row in table) == sum(p.numel() for p in model.parameters())
    assert table[-1].learning_rate == pytest.approx(1e-3 * 0.95**2)


def test_a_layer_at_rate_zero_is_not_trained(model: Classifier) -> None:
    groups, table = parameter_groups(model, 1e-3, 0.01, LayerwiseSettings(layer_rates=(0.0, 1e-4)))
    trained = {id(p) for group in groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert (id(parameter) in trained) == (model.layer_of(name) != 0)
        assert parameter.requires_grad == (model.layer_of(name) != 0)
    assert {row.part: row.learning_rate for row in table}["layer 0"] == 0


def test_frozen_encoder_is_in_the_table(model: Classifier) -> None:
    model.freeze_encoder()
    groups, table = parameter_groups(model, 1e-3, 0.01, LayerwiseSettings(freeze_encoder=True))
    assert len([p for group in groups for p in group["params"]]) == 2
    assert [row.part for row in table] == ["pooling and head", "encoder (frozen)"]


def test_small_encoders_want_a_higher_rate() -> None:
    assert default_learning_rate(768) == default_learning_rate(1024) == 2e-5
    rates = [default_learning_rate(size) for size in (128, 384, 512, 768)]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 4
