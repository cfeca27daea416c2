"""What a predictor takes, and what it says of anything else."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from doctune.classifier.predictor import Predictor
from doctune.classifier.texts import as_examples, tokenise
from doctune.devices import choose_device
from doctune.errors import ConfigError, DataError
from doctune.examples import Example
from doctune.store.build import build_shard
from doctune.store.splits import make_dataset
from doctune.text.tokenizer import TextTokenizer


@pytest.fixture
def predictor(make_predictor: Callable[..., Predictor]) -> Predictor:
    return make_predictor()


def test_a_str_is_one_text(predictor: Predictor) -> None:
    assert predictor.predict("a bad film") == predictor.predict(["a bad film"])[0]
    row = predictor.predict_proba("a bad film")
    assert row.shape == (3,)
    np.testing.assert_array_equal(row, predictor.predict_proba(["a bad film"])[0])


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, "found None"), (math.nan, r"found nan \(float\)"), (3, r"found 3 \(int\)"),
        (b"abc", r"found b'abc' \(bytes\)"), (("a", "b", "c"), "found 3 texts together"), ({"text": "a"}, "dict"),
        (b"long" * 99, "found a bytes"),
    ],
)  # fmt: skip
def test_what_is_no_text_is_named_with_its_place(predictor: Predictor, value: Any, shown: str) -> None:
    for call in (predictor.predict, predictor.predict_proba):
        with pytest.raises(DataError, match=rf"^texts\[2\]: .*{shown}") as caught:
            call(["a", "b", value])
        assert "\n" not in str(caught.value)
    if not isinstance(value, tuple):
        with pytest.raises(DataError, match=rf"^texts\[1\]\[1\]: .*{shown}"):
            predictor.predict(["a", ("b", value)])


class Frame:
    columns = ("text",)

    def __iter__(self) -> Any:
        return iter(self.columns)


@pytest.mark.parametrize("value", [None, 3, math.nan, b"refund me", {"a": 1}, Frame()])
def test_what_is_no_list_of_texts(predictor: Predictor, value: Any) -> None:
    with pytest.raises(DataError, match=r"^texts: found .*expected a list of texts"):
        predictor.predict(value)


def test_the_predictor_is_one_short_line(predictor: Predictor) -> None:
    shown = repr(predictor)
    assert len(shown) < 120
    assert "\n" not in shown
    for part in ("bert", "3 classes: neg, pos, so-so", "cpu", "fp32"):
        assert part in shown


def test_an_empty_text_has_no_label_and_is_flagged(predictor: Predictor) -> None:
    texts = ["a film", "", ("", ""), "\u200b", ("", "a film")]
    labels = predictor.predict(texts)
    assert labels[1:4] == [None] * 3
    assert None not in (labels[0], labels[4])
    assert predictor.predict("") is None
    rows = list(predictor.rows(as_examples(texts)))
    assert [row["label"] for row in rows] == labels
    assert [row.get("empty", False) for row in rows] == [False, True, True, True, False]
    assert [row["probability"] is None for row in rows] == [False, True, True, True, False]
    assert json.loads(json.dumps(rows)) == rows
    np.testing.assert_allclose(predictor.predict_proba(texts)[1:4], 1 / 3)


def test_texts_in_memory_are_those_of_a_shard(letters: TextTokenizer, predictor: Predictor, tmp_path: Any) -> None:
    examples = [
        Example("x", "a b c"), Example("y", "", text_pair="d"), Example("z", "  "), Example("w", "e", text_pair=""),
        Example("half an emoji", "a\ud83d b"), Example("v", "abc", text_pair="d e f"),
    ]  # fmt: skip
    texts = tokenise(examples, letters, predictor.labels)
    dataset = make_dataset("x", build_shard(examples, letters, tmp_path, "x", False).shard, predictor.target, False)
    assert [examples[i].id for i in texts.places] == dataset.ids()
    assert len(texts) == len(dataset)
    np.testing.assert_array_equal(texts.lengths(), dataset.lengths())
    for place in range(len(texts)):
        for ours, theirs in zip(texts.tokens(place), dataset.tokens(place), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    both = predictor.predict_dataset(dataset)[0]
    np.testing.assert_array_equal(both, predictor._answer(examples).probabilities[texts.places])


def test_a_text_writes_nothing(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("a temporary file")

    for name in ("mkdtemp", "mkstemp", "TemporaryDirectory", "NamedTemporaryFile"):
        monkeypatch.setattr(tempfile, name, refuse)
    monkeypatch.setattr("pyarrow.OSFile", refuse)
    assert predictor.predict("a film") in predictor.labels


def test_rows_take_what_predict_takes(predictor: Predictor) -> None:
    texts = ["the film is great", ("the film", "is awful")]
    rows = list(predictor.rows(texts))
    assert [row["label"] for row in rows] == predictor.predict(texts)
    assert [row["id"] for row in rows] == ["0", "1"]
    for wrong in ([None], None, b"abc", "one text"):
        with pytest.raises(DataError, match="texts"):
            list(predictor.rows(wrong))  # type: ignore[arg-type]


@pytest.mark.parametrize("precision", ["fp16", "FP32", None])
def test_a_precision_that_is_none_is_refused(precision: str, predictor: Predictor) -> None:
    with pytest.raises(ConfigError, match="give auto, fp32 or bf16, found"):
        choose_device("cpu", precision)  # type: ignore[arg-type]
