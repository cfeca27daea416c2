"""A further pre-trained encoder on disk: a Hugging Face folder with its heads, which transformers loads as its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from doctune.errors import CheckpointError
from doctune.files import atomic_folder, write_json
from doctune.models.pretraining import OWN_PAIR_HEAD, PAIR_HEADS, PretrainingModel
from doctune.models.standard import STANDARD

FACTS = "doctune-pretraining.json"
WEIGHTS = "model.safetensors"
# Transformers' classes that hold both heads.
WITH_PAIR_HEAD = {"bert": "BertForPreTraining", "albert": "AlbertForPreTraining"}
# Where a family's own pooler stands below the encoder; others have none.
POOLERS = {"albert": "pooler", "bert": "pooler.dense", "roberta": "pooler.dense", "xlm-roberta": "pooler.dense",
           "camembert": "pooler.dense", "mpnet": "pooler.dense"}  # fmt: skip
# What makes a folder a sentence-transformers model: how tokens are pooled, and what follows.
SENTENCE_TRANSFORMERS = ("modules.json", "sentence_bert_config.json", "config_sentence_transformers.json",
                         "1_Pooling/config.json", "2_Normalize/config.json")  # fmt: skip


def save_pretrained(
    model: PretrainingModel,
    config: Any,
    tokenizer: Any,
    facts: dict[str, Any],
    start: Path | None,
    folder: Path,
    dtype: str = "float32",
) -> None:
    """Write encoder, heads, tokenizer and facts atomically; `start` is the folder that training began with.

    A decoder tied to the word embeddings is not written twice. Weights that `dtype` cannot hold (float16 ends at
    65,504) raise `CheckpointError`.
    """
    with atomic_folder(folder) as temporary:
        tensors = {
            name: _in_dtype(name, tensor, getattr(torch, dtype))
            for name, tensor in named_tensors(model, str(config.model_type)).items()
        }
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / "config.json", _config(model, config, dtype))
        tokenizer.save(temporary)
        vocabulary = tokenizer.word_pieces()
        if vocabulary is not None:
            (temporary / "vocab.txt").write_text("".join(f"{piece}\n" for piece in vocabulary), encoding="utf-8")
        write_json(temporary / FACTS, facts)
        for name in SENTENCE_TRANSFORMERS if start is not None else ():
            if start is not None and (start / name).exists():
                (temporary / name).parent.mkdir(exist_ok=True)
                shutil.copy2(start / name, temporary / name)


def named_tensors(model: PretrainingModel, family: str) -> dict[str, Tensor]:
    """The weights under the names that transformers gives them; what the decoder shares is not there twice."""
    prefix = STANDARD[family].prefix
    decoder = f"mlm.{model.mlm.decoder_name.rpartition('.')[0]}."
    state = model.state_dict()
    elsewhere = {tensor.data_ptr() for name, tensor in state.items() if not name.startswith(decoder)}
    return {
        _renamed(name, family, prefix): tensor.detach().cpu().contiguous()
        for name, tensor in state.items()
        if not (name.startswith(decoder) and tensor.data_ptr() in elsewhere)
    }


def _renamed(name: str, family: str, prefix: str) -> str:
    part, _, rest = name.partition(".")
    if part == "encoder":
        return f"{prefix}.{rest.removeprefix('model.')}"
    if part == "mlm":
        return rest
    if part == "pooler":
        place = POOLERS.get(family)
        return f"{prefix}.{place}.{rest.removeprefix('dense.')}" if place else f"{OWN_PAIR_HEAD}.pooler.{rest}"
    return f"{PAIR_HEADS.get(family, OWN_PAIR_HEAD)}.{rest.removeprefix('linear.')}"


def _in_dtype(name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    converted = tensor.to(dtype)
    if not converted.isfinite().all():
        raise CheckpointError(f"training.save_dtype: {name} has values that {dtype} cannot hold; take float32")
    return converted


def _config(model: PretrainingModel, config: Any, dtype: str) -> dict[str, Any]:
    written: dict[str, Any] = config.to_dict()
    for key in ("_name_or_path", "_attn_implementation", "dtype", "torch_dtype"):
        written.pop(key, None)
    family = config.model_type
    masked = MODEL_FOR_MASKED_LM_MAPPING_NAMES[family]
    name = masked if model.pair_head is None else WITH_PAIR_HEAD.get(family, masked)
    written["architectures"] = [name]
    written["vocab_size"] = int(model.mlm.embeddings().shape[0])
    written["dtype"] = dtype
    return written
