"""The table of names against transformers' own model and against the indexes of Google's checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doctune.convert.bundle import decode_index
from doctune.convert.names import check_parts, is_optimizers, weights
from doctune.errors import CheckpointError

INDEXES = ["chinese_L-12_H-768_A-12", "uncased_L-4_H-256_A-4", "uncased_L-8_H-512_A-8"]


def shapes_of_transformers(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """The parameters of BertForPreTraining, the tied decoder only once."""
    import torch
    from transformers import BertConfig, BertForPreTraining

    with torch.device("meta"):
        model = BertForPreTraining(BertConfig(**config))
    return {name: tuple(p.shape) for name, p in model.named_parameters() if ".decoder." not in name}


@pytest.mark.parametrize("folder", INDEXES)
def test_the_indexes_of_released_checkpoints_map_completely(shared: Path, folder: str) -> None:
    path = shared / "models" / "tf1-index-only" / folder
    config = json.loads((path / "bert_config.json").read_text())
    entries = decode_index((path / "bert_model.ckpt.index").read_bytes()).entries
    table = weights(config)
    assert {w.tensorflow: w.shape for w in table} == {name: entry.shape for name, entry in entries.items()}
    theirs = {w.transformers: w.shape[::-1] if w.transposed else w.shape for w in table}
    assert theirs == shapes_of_transformers(config)
    assert {entry.type_name for entry in entries.values()} == {"float32"}


def test_the_golden_checkpoint_maps_as_its_makers_say(golden: Path) -> None:
    folder = golden / "tf1_checkpoint"
    table = {w.tensorflow: w for w in weights(json.loads((folder / "bert_config.json").read_text()))}
    expected = json.loads((folder / "expected.json").read_text())["variables"]
    mapped = {row["tf"]: row for row in expected if row.get("hf")}
    assert set(mapped) == set(table)
    for name, row in mapped.items():
        assert (table[name].transformers, table[name].shape) == (row["hf"], tuple(row["shape"]))
        assert table[name].transposed == row["transposed"]


@pytest.mark.parametrize(
    "name",
    [
        "global_step", "bert/pooler/dense/kernel/adam_m", "bert/pooler/dense/kernel/adam_v", "beta1_power",
        "bert/embeddings/word_embeddings/AdamWeightDecayOptimizer_1",
    ],
)  # fmt: skip
def test_what_is_the_optimisers(name: str) -> None:
    assert is_optimizers(name)
    assert not is_optimizers(name.removesuffix("/adam_m").removesuffix("/adam_v") + "/kernel")


ALL = {w.tensorflow: w.part for w in weights(dict.fromkeys(
    ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size", "max_position_embeddings",
     "type_vocab_size"), 2))}  # fmt: skip


@pytest.mark.parametrize(
    ("without", "parts"),
    [
        ("none", ("pooler", "masked-LM", "next-sentence")),
        ("cls/seq", ("pooler", "masked-LM")),
        ("cls/pred", ("pooler", "next-sentence")),
        ("cls", ("pooler",)),
    ],
)
def test_heads_may_be_missing_as_a_whole(without: str, parts: tuple[str, ...]) -> None:
    assert check_parts("x", ALL, [name for name in ALL if not name.startswith(without)], "bert/") == parts


def test_neither_pooler_nor_heads() -> None:
    bare = [name for name, part in ALL.items() if part == "encoder"]
    assert check_parts("x", ALL, bare, "bert/") == ()
    masked = [name for name, part in ALL.items() if part in ("encoder", "masked-LM")]
    assert check_parts("x", ALL, masked, "bert/") == ("masked-LM",)
    paired = [name for name, part in ALL.items() if part in ("encoder", "next-sentence")]
    with pytest.raises(CheckpointError, match="next-sentence without pooler"):
        check_parts("x", ALL, paired, "bert/")


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([n for n in ALL if "layer_1/output/dense/bias" not in n], "1 of 37 weights of the encoder part are missing"),
        ([n for n in ALL if "transform/dense/bias" not in n], "1 of 5 weights of the masked-LM part are missing"),
        ([*ALL, "bert/encoder/layer_2/output/dense/bias"], "1 weights that a BERT of its config has not.*layer_2"),
        (["electra/embeddings/x"], "37 of 37 weights of the encoder.* holds, for instance, electra/embeddings/x"),
        (
            [n for n in ALL if "encoder" not in n] + ["bert/encoder/transformer/x"],
            "has others, for instance bert/encoder/transformer/x",
        ),
        ([], "it is empty"),
    ],
)
def test_what_is_not_whole_is_named(found: list[str], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        check_parts("x", ALL, found, "bert/")
