"""What TensorFlow's BERT and transformers' call the same weights, as data.

TensorFlow's names are those of the original graph (`modeling.BertModel`, `get_masked_lm_output`,
`get_next_sentence_output`), transformers' those of `BertForPreTraining`. The decoder of the masked-LM head is the
matrix of word embeddings and has no variable of its own; transformers ties it again when it loads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from doctune.errors import CheckpointError

Part: TypeAlias = Literal["encoder", "pooler", "masked-LM", "next-sentence"]

V, P, T, H, FF = "vocab_size", "max_position_embeddings", "type_vocab_size", "hidden_size", "intermediate_size"
MLM, THEIR_MLM = "cls/predictions/transform", "cls.predictions.transform"
TWO = "2"  # is the next sentence, or is not

# Part, TensorFlow's name, transformers' name, shape in TensorFlow, whether transformers has it transposed.
EMBEDDINGS: list[tuple[Part, str, str, tuple[str, ...], bool]] = [
    ("encoder", "bert/embeddings/word_embeddings", "bert.embeddings.word_embeddings.weight", (V, H), False),
    ("encoder", "bert/embeddings/position_embeddings", "bert.embeddings.position_embeddings.weight", (P, H), False),
    ("encoder", "bert/embeddings/token_type_embeddings", "bert.embeddings.token_type_embeddings.weight", (T, H), False),
    ("encoder", "bert/embeddings/LayerNorm/gamma", "bert.embeddings.LayerNorm.weight", (H,), False),
    ("encoder", "bert/embeddings/LayerNorm/beta", "bert.embeddings.LayerNorm.bias", (H,), False),
]
LAYER: list[tuple[str, str, tuple[str, ...], bool]] = [
    ("attention/self/query/kernel", "attention.self.query.weight", (H, H), True),
    ("attention/self/query/bias", "attention.self.query.bias", (H,), False),
    ("attention/self/key/kernel", "attention.self.key.weight", (H, H), True),
    ("attention/self/key/bias", "attention.self.key.bias", (H,), False),
    ("attention/self/value/kernel", "attention.self.value.weight", (H, H), True),
    ("attention/self/value/bias", "attention.self.value.bias", (H,), False),
    ("attention/output/dense/kernel", "attention.output.dense.weight", (H, H), True),
    ("attention/output/dense/bias", "attention.output.dense.bias", (H,), False),
    ("attention/output/LayerNorm/gamma", "attention.output.LayerNorm.weight", (H,), False),
    ("attention/output/LayerNorm/beta", "attention.output.LayerNorm.bias", (H,), False),
    ("intermediate/dense/kernel", "intermediate.dense.weight", (H, FF), True),
    ("intermediate/dense/bias", "intermediate.dense.bias", (FF,), False),
    ("output/dense/kernel", "output.dense.weight", (FF, H), True),
    ("output/dense/bias", "output.dense.bias", (H,), False),
    ("output/LayerNorm/gamma", "output.LayerNorm.weight", (H,), False),
    ("output/LayerNorm/beta", "output.LayerNorm.bias", (H,), False),
]
HEADS: list[tuple[Part, str, str, tuple[str, ...], bool]] = [
    ("pooler", "bert/pooler/dense/kernel", "bert.pooler.dense.weight", (H, H), True),
    ("pooler", "bert/pooler/dense/bias", "bert.pooler.dense.bias", (H,), False),
    ("masked-LM", f"{MLM}/dense/kernel", f"{THEIR_MLM}.dense.weight", (H, H), True),
    ("masked-LM", f"{MLM}/dense/bias", f"{THEIR_MLM}.dense.bias", (H,), False),
    ("masked-LM", f"{MLM}/LayerNorm/gamma", f"{THEIR_MLM}.LayerNorm.weight", (H,), False),
    ("masked-LM", f"{MLM}/LayerNorm/beta", f"{THEIR_MLM}.LayerNorm.bias", (H,), False),
    ("masked-LM", "cls/predictions/output_bias", "cls.predictions.bias", (V,), False),
    ("next-sentence", "cls/seq_relationship/output_weights", "cls.seq_relationship.weight", (TWO, H), False),
    ("next-sentence", "cls/seq_relationship/output_bias", "cls.seq_relationship.bias", (TWO,), False),
]
# transformers' class of which these parts are all the weights, beside the encoder.
ARCHITECTURES: dict[tuple[Part, ...], str] = {
    (): "BertModel",
    ("pooler",): "BertModel",
    ("masked-LM",): "BertForMaskedLM",
    ("pooler", "masked-LM"): "BertForMaskedLM",
    ("pooler", "next-sentence"): "BertForNextSentencePrediction",
    ("pooler", "masked-LM", "next-sentence"): "BertForPreTraining",
}
WORD_EMBEDDINGS = "bert.embeddings.word_embeddings.weight"
DECODER_WEIGHT, DECODER_BIAS = "cls.predictions.decoder.weight", "cls.predictions.decoder.bias"
MLM_BIAS = "cls.predictions.bias"
POSITION_IDS = "bert.embeddings.position_ids"  # 0, 1, 2, ...: a buffer of older versions of transformers
# What optimisers keep for each weight under its name, and the counters beside the weights.
SLOTS = (
    "adam_m", "adam_v", "Adam", "Adam_1", "AdamWeightDecayOptimizer", "AdamWeightDecayOptimizer_1", "LAMBOptimizer",
    "LAMBOptimizer_1", "lamb_m", "lamb_v",
)  # fmt: skip
COUNTERS = ("global_step", "beta1_power", "beta2_power")


@dataclass(frozen=True, slots=True)
class Weight:
    """A weight under both its names, with its shape in TensorFlow."""

    part: Part
    tensorflow: str
    transformers: str
    shape: tuple[int, ...]
    transposed: bool


def weights(config: Mapping[str, int]) -> list[Weight]:
    """All weights of a BERT of these dimensions with both pre-training heads."""
    rows = [*EMBEDDINGS]
    for layer in range(config["num_hidden_layers"]):
        for tensorflow, transformers, shape, transposed in LAYER:
            theirs = f"bert.encoder.layer.{layer}.{transformers}"
            rows.append(("encoder", f"bert/encoder/layer_{layer}/{tensorflow}", theirs, shape, transposed))
    rows += HEADS
    return [
        Weight(part, ours, theirs, tuple(2 if length == TWO else config[length] for length in shape), transposed)
        for part, ours, theirs, shape, transposed in rows
    ]


def is_optimizers(name: str) -> bool:
    """Whether a variable is only of use for going on with a training."""
    return name in COUNTERS or name.rpartition("/")[2] in SLOTS


def check_parts(where: str, wanted: Mapping[str, Part], found: Iterable[str], stem: str) -> tuple[Part, ...]:
    """The parts beside the encoder that are there, all of them whole.

    `wanted` says to which part a name belongs, `found` are the names in the checkpoint, `stem` what those of an encoder
    begin with. Raises `CheckpointError` for an incomplete part, and for an encoder that has more than wanted.
    """
    there = set(found)
    whole: list[Part] = []
    for part in dict.fromkeys(wanted.values()):
        names = [name for name, of in wanted.items() if of == part]
        lacking = [name for name in names if name not in there]
        if lacking and (part == "encoder" or len(lacking) < len(names)):
            more = sorted(name for name in there if name.startswith(stem) and name not in wanted)
            others = f"; it has others, for instance {more[0]}" if more else ""
            if len(lacking) == len(names):
                others = f"; it holds, for instance, {', '.join(sorted(there)[:3])}" if there else "; it is empty"
            raise CheckpointError(
                f"{where}: not a whole BERT of the size that its config says: {len(lacking)} of {len(names)} weights "
                f"of the {part} part are missing, for instance {lacking[0]}{others}"
            )
        if not lacking and part != "encoder":
            whole.append(part)
    surplus = sorted(name for name in there if name.startswith(stem) and name not in wanted)
    if surplus:
        raise CheckpointError(
            f"{where}: {len(surplus)} weights that a BERT of its config has not, for instance {surplus[0]}; "
            f"does the config belong to it (num_hidden_layers)?"
        )
    if tuple(whole) not in ARCHITECTURES:
        raise CheckpointError(f"{where}: has {' and '.join(whole)} without pooler, which no BERT of transformers has")
    return tuple(whole)
