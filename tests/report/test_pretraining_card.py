"""The model card says what the facts say."""

from __future__ import annotations

import copy
from typing import Any

from doctune.report.pretraining_card import model_card

FACTS: dict[str, Any] = {
    "doctune": "1.2", "base_encoder": "bert-base-uncased", "objective": "nsp", "steps": 1200, "tokens": 4_915_200,
    "seconds": 5400.0, "new_heads": ["sentence pairs"], "held_out": {"mlm_loss": 2.5, "pair_accuracy": 0.875},
    "corpus": {
        "tokens": 1000, "documents": 70, "left_out": {"exact": 3, "near-duplicate": 1}, "transductive": False,
        "sources": [{"name": "a|b.jsonl", "documents": 70, "weight": 0.5}],
        "exclude": [{"name": "test.csv", "texts": 9}],
    },
    "settings": {
        "start": {"encoder": "bert-base-uncased"}, "pairs": {"sequence_len": 128}, "training": {"batch_size": 32},
        "masking": {"masked_lm_prob": 0.15, "masking": "token"},
        "optimizer": {"learning_rate": 5e-5}, "schedule": {"schedule": "slanted-triangular"},
    },
}  # fmt: skip


def test_a_further_pretrained_encoder() -> None:
    card = model_card(FACTS, "my-encoder")
    assert card.startswith("---\nlibrary_name: transformers\n")
    assert "base_model: bert-base-uncased\n---" in card
    for text in (
        "# my-encoder", "bert-base-uncased, further pre-trained by doctune 1.2 on 1,000 tokens of 70 documents",
        "| steps, tokens | 1,200, 4,915,200 |", "| pair accuracy | 0.8750 |", "| a\\|b.jsonl | 70 | 0.5 |",
        "Compared with test.csv; 4 documents were left out", "masked words and next sentence",
    ):  # fmt: skip
        assert text in card


def test_one_from_scratch_that_saw_the_test_set() -> None:
    facts = copy.deepcopy(FACTS)
    facts["settings"]["start"]["encoder"] = None
    facts["corpus"]["transductive"] = True
    facts["held_out"] = None
    card = model_card(facts, "mine")
    assert "pre-trained from scratch" in card
    assert "base_model" not in card
    assert "holds texts of test.csv" in card
    facts["corpus"] |= {"transductive": False, "exclude": []}
    assert "was not compared with the texts of any test set" in model_card(facts, "mine")
