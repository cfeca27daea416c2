"""Pairs and masks against the statistics and the edge cases of the original's instances."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctune.settings.pretraining import MaskingSettings, PairSettings
from doctune.store.masking import mask
from doctune.store.pairs import Instances, assemble, plan_instances

Statistics = dict[str, float]


def _passes(flat: Any, settings: PairSettings, seed: int, copies: int) -> Instances:
    """As many passes over a corpus as the original makes copies of it."""
    chosen = np.arange(len(flat.documents) - 1)
    parts = [
        plan_instances(flat.sentences, flat.documents, chosen, settings, flat.tokenizer.template, seed, epoch, 0)
        for epoch in range(copies)
    ]
    return Instances.joined(parts)


def _figures(flat: Any, sequence_len: int, max_predictions: int, seed: int, brackets: np.ndarray) -> Statistics:
    vocabulary = flat.tokenizer.tokenizer
    made = _passes(flat, PairSettings(sequence_len=sequence_len), seed, 5)
    packed = assemble(flat.input_ids, made, np.arange(len(made)), flat.tokenizer.template)
    masked = mask(
        packed.input_ids, packed.cu_seqlens, packed.special, made.key, MaskingSettings(), max_predictions,
        vocabulary.token_to_id("[MASK]"), vocabulary.get_vocab_size(),
    )  # fmt: skip
    lengths = np.diff(packed.cu_seqlens)
    rows = np.searchsorted(packed.cu_seqlens, masked.positions, side="right") - 1
    num_masked = np.bincount(rows, minlength=len(made))
    now = masked.input_ids[masked.positions]
    hidden = now == vocabulary.token_to_id("[MASK]")
    other = ~hidden & (now != masked.labels)
    return {
        "instances": len(made),
        "random_next": made.label.mean(),
        "mean_length": lengths.mean(),
        "max_length": lengths.max(),
        "min_length": lengths.min(),
        "full_length": (lengths == sequence_len).mean(),
        "mean_tokens_a": (made.a_end - made.a_start).mean(),
        "mean_tokens_b": (made.b_end - made.b_start).mean(),
        "mean_masked": num_masked.mean(),
        "max_masked": num_masked.max(),
        "mask_fraction": hidden.mean(),
        "kept_fraction": (now == masked.labels).mean(),
        "random_fraction": other.mean(),
        "random_special_of_random": brackets[now[other]].mean(),
        "mean_relative_position": ((masked.positions - packed.cu_seqlens[rows]) / lengths[rows]).mean(),
        "mean_tokens_random": lengths[made.label == 1].mean(),
        "mean_tokens_actual": lengths[made.label == 0].mean(),
    }


@pytest.mark.parametrize(
    ("name", "sequence_len", "max_predictions"), [("msl64_pred10", 64, 10), ("msl128_pred20", 128, 20)]
)
def test_statistics_are_those_of_the_original(
    name: str, sequence_len: int, max_predictions: int, golden: Path, flatten: Callable[[str], Any]
) -> None:
    """200 seeds here against 200 seeds there: each mean within four standard errors, each deviation alike."""
    folder = golden / "pretraining_instances"
    expected = json.loads((folder / "stats.json").read_text(encoding="utf-8"))
    flat = flatten((folder / "corpus.txt").read_text(encoding="utf-8"))
    corpus = expected["corpus"]
    assert len(flat.documents) - 1 == corpus["documents"]
    assert len(flat.sentences) - 1 == corpus["sentences"]
    assert len(flat.input_ids) == corpus["pieces"]
    tokens = flat.tokenizer.tokenizer.get_vocab()
    brackets = np.zeros(len(tokens), bool)
    brackets[[number for token, number in tokens.items() if token[0] == "[" and token[-1] == "]"]] = True
    figures = [_figures(flat, sequence_len, max_predictions, seed, brackets) for seed in range(200)]
    assert figures[0].keys() == expected[name].keys() - {"golden_seed"}
    for statistic in figures[0]:
        ours = np.array([row[statistic] for row in figures])
        theirs = expected[name][statistic]
        mean, deviation = ours.mean(), ours.std(ddof=1)
        allowed = 4 * np.sqrt((theirs["sd"] ** 2 + deviation**2) / 200)
        assert abs(mean - theirs["mean"]) <= allowed, (statistic, mean, theirs["mean"], allowed)
        assert theirs["sd"] / 1.33 <= deviation <= theirs["sd"] * 1.33, (statistic, deviation, theirs["sd"])


def _shape(instances: list[dict[str, Any]]) -> np.ndarray:
    """First and second part, label and number of masks of the original's instances: [n, 4]."""
    rows = []
    for instance in instances:
        second = sum(instance["segment_ids"]) - 1
        first = len(instance["tokens"]) - second - 3
        rows.append([first, second, instance["is_random_next"], len(instance["masked_lm_positions"])])
    return np.array(rows).reshape(-1, 4)


def _our_shape(flat: Any, case: dict[str, Any], seed: int) -> np.ndarray:
    made = _passes(flat, PairSettings(sequence_len=case["max_seq_length"]), seed, case["dupe_factor"])
    packed = assemble(flat.input_ids, made, np.arange(len(made)), flat.tokenizer.template)
    masked = mask(
        packed.input_ids, packed.cu_seqlens, packed.special, made.key, MaskingSettings(),
        case["max_predictions_per_seq"], 4, 770,
    )  # fmt: skip
    num_masked = np.histogram(masked.positions, packed.cu_seqlens)[0] if len(made) else np.zeros(0)
    return np.stack([made.a_end - made.a_start, made.b_end - made.b_start, made.label, num_masked], axis=1)


def test_edge_cases_are_as_the_original_has_them(golden: Path, flatten: Callable[[str], Any]) -> None:
    """What the original makes of a tiny corpus is within what 300 seeds of ours make of it."""
    names = set()
    with gzip.open(golden / "pretraining_instances" / "edge_cases.jsonl.gz", "rt", encoding="utf-8") as lines:
        for case in map(json.loads, lines):
            flat = flatten(case["text"])
            ours = [_our_shape(flat, case, seed) for seed in range(300)]
            theirs = _shape(case["instances"])
            numbers = [len(rows) for rows in ours]
            assert min(numbers) <= len(theirs) <= max(numbers), case["name"]
            if len(theirs):
                together = np.concatenate(ours)
                assert (together.min(0) <= theirs.min(0)).all(), case["name"]
                assert (together.max(0) >= theirs.max(0)).all(), case["name"]
            names.add(case["name"])
            _check(case["name"], ours)
    assert len(names) >= 7


def _check(name: str, ours: list[np.ndarray]) -> None:
    if name in ("empty_file", "blank_lines_only"):
        assert all(rows.shape == (0, 4) for rows in ours)
    if name in ("one_document_one_sentence", "two_one_sentence_documents"):
        num_documents = 1 if name == "one_document_one_sentence" else 2
        assert all(len(rows) == 2 * num_documents for rows in ours)
        assert all((rows[:, 2] == 1).all() for rows in ours), "a chunk of one sentence gets a random second part"
    if name == "long_sentence":
        assert max(rows[:, :2].sum(1).max() for rows in ours) == 45
