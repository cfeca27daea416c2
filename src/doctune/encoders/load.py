"""Loading an encoder from a folder: safetensors only, no code from elsewhere."""

from __future__ import annotations

import copy
import json
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.utils import logging as transformers_logging

from doctune.encoders.attention import NAME
from doctune.encoders.base import FAMILIES, Family, chosen_layers
from doctune.encoders.dropout import replace_dropout
from doctune.encoders.embedding import replace_word_embeddings
from doctune.encoders.packed import (
    PackedEncoder,
    PaddedEncoder,
    TransformersEncoder,
    register_attention,
    use_fast_layers,
    use_plain_layers,
)
from doctune.errors import CheckpointError, ConfigError
from doctune.settings import EncoderSettings
from doctune.tensors import Batch

PICKLES = ("pytorch_model.bin", "pytorch_model.bin.index.json", "model.pt", "model.ckpt")
HIDDEN_DROPOUTS = ("hidden_dropout_prob", "dropout", "embedding_dropout", "mlp_dropout")
ATTENTION_DROPOUTS = ("attention_probs_dropout_prob", "attention_dropout")
PROBE_TOLERANCE = 1e-3


@dataclass(frozen=True, slots=True)
class Loaded:
    """An encoder ready to run.

    `config` is as the checkpoint has it (`encoder.config` may have other dropout rates and fewer layers);
    `pooler` is the checkpoint's own pooler, taken out of the encoder, or None if it has no trained one.
    """

    encoder: TransformersEncoder
    config: Any
    pooler: nn.Linear | None


def check_folder(folder: Path) -> dict[str, Any]:
    """The folder's config.json, after checking that nothing in it needs unpickling or foreign code."""
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise CheckpointError(
            f"{folder}: no config.json; an encoder's folder has config.json, model.safetensors and a tokenizer"
        )
    try:
        config: dict[str, Any] = json.loads(config_file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{config_file}: not JSON: {error}") from None
    if not isinstance(config, dict) or not isinstance(config.get("vocab_size", 0), int):
        raise CheckpointError(
            f"{config_file}: not an encoder's config; expected an object with model_type and vocab_size"
        )
    if "auto_map" in config:
        raise CheckpointError(
            f"{config_file}: this encoder needs Python code from its folder (auto_map), which is never run; "
            f"use an encoder that transformers knows: {', '.join(sorted(FAMILIES))}"
        )
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise CheckpointError(
            f"{config_file}: model_type {kind!r} is not of the BERT family; there is {', '.join(sorted(FAMILIES))}"
        )
    if "vocab_size" not in config:
        raise CheckpointError(f"{config_file}: no vocab_size")
    if not any(folder.glob("*.safetensors")):
        pickled = [name for name in PICKLES if (folder / name).exists()]
        if pickled:
            raise CheckpointError(
                f"{folder / pickled[0]}: pickled weights can run code and are not loaded; "
                f"convert the folder to model.safetensors first"
            )
        raise CheckpointError(f"{folder}: no model.safetensors")
    return config


@dataclass(frozen=True, slots=True)
class Shape:
    """What must fit an encoder: rows of its vocabulary, its width, its positions for tokens; and its depth."""

    vocab_size: int
    hidden_size: int
    max_seq_len: int
    num_layers: int


def read_shape(folder: Path) -> Shape:
    """The shape of the encoder in a folder, from its config alone; checks the folder as `check_folder` does."""
    family = FAMILIES[check_folder(folder)["model_type"]]
    config = read_config(folder)
    positions = config.max_position_embeddings - family.first_position(config)
    return Shape(config.vocab_size, config.hidden_size, positions, config.num_hidden_layers)


def float32_size(weights: Path) -> int:
    """The bytes that a safetensors file takes once it is written in float32; a broken one is told of on loading."""
    try:
        with safe_open(weights, framework="pt") as file:
            shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - the file is no mapping
    except SafetensorError:
        return weights.stat().st_size
    return sum(4 * math.prod(shape) for shape in shapes)


def read_config(folder: Path) -> Any:
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder / 'config.json'}: not a config that transformers reads: {reason}") from None


def load_encoder(
    folder: Path,
    settings: EncoderSettings,
    layers: tuple[int, ...] | str,
    num_layers: int | None = None,
    tied: bool = False,
) -> Loaded:
    """Load an encoder with only the layers up to the highest one in `layers`.

    `num_layers`: how many layers the encoder had originally, when the folder holds one that was already cut. `tied`: a
    decoder will be tied to the word embeddings.
    Raises `CheckpointError` for a folder that is incomplete or unsafe, `ConfigError` for a layer that it lacks.
    """
    family = FAMILIES[check_folder(folder)["model_type"]]
    config = read_config(folder)
    total = num_layers or config.num_hidden_layers
    chosen = asked_layers(layers, total)
    register_attention()
    model, missing = from_pretrained(folder, _with_dropout_rates(config, settings))
    pooler = _take_pooler(model, missing)
    _check_missing(folder, missing)
    _cut(model, family, max(chosen) + 1)
    if settings.packing == "padded":
        packed = False
    else:
        packed = _packs_correctly(model, family, chosen, total)
        if settings.packing == "packed" and not packed:
            raise ConfigError(f"encoder.packing: {config.model_type} does not run packed; use auto or padded")
    encoder = _wrap(model, family, chosen, total, packed)
    replace_dropout(model, None)
    replace_word_embeddings(model, shared=tied)
    return Loaded(encoder, config, pooler)


def asked_layers(layers: tuple[int, ...] | str, num_layers: int) -> tuple[int, ...]:
    """The layers that the settings ask for, as `chosen_layers` counts them; `ConfigError` for one that is not there."""
    try:
        return chosen_layers(layers, num_layers)
    except IndexError as error:
        raise ConfigError(f"features.layers: {error}") from None


def _with_dropout_rates(config: Any, settings: EncoderSettings) -> Any:
    config = copy.deepcopy(config)
    for names, rate in ((HIDDEN_DROPOUTS, settings.dropout), (ATTENTION_DROPOUTS, settings.attention_dropout)):
        for name in names:
            if rate is not None and hasattr(config, name):
                setattr(config, name, rate)
    return config


def from_pretrained(folder: Path, config: Any, kind: Any = AutoModel) -> tuple[PreTrainedModel, set[str]]:
    """The model of a transformers class in float32, and the names of parameters that the checkpoint lacks."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model, info = kind.from_pretrained(
                folder, config=config, use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
                attn_implementation="eager", output_loading_info=True,
            )  # fmt: skip
    except (OSError, SafetensorError, RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(f"{folder}: the weights do not load: {reason}") from None
    finally:
        transformers_logging.set_verbosity(level)
    return model, set(info["missing_keys"])


def _take_pooler(model: PreTrainedModel, missing: set[str]) -> nn.Linear | None:
    """Take the pooler out of the encoder, so that it exists once: in the classifier, if that uses one."""
    pooler = getattr(model, "pooler", None)
    if pooler is None:
        return None
    model.pooler = None  # type: ignore[assignment]
    fresh = {name for name in missing if name.startswith("pooler")}
    missing -= fresh
    dense = pooler if isinstance(pooler, nn.Linear) else pooler.dense
    assert isinstance(dense, nn.Linear)
    return None if fresh else dense


def _check_missing(folder: Path, missing: set[str]) -> None:
    if missing:
        names = sorted(missing)
        raise CheckpointError(
            f"{folder}: {len(names)} of the encoder's tensors are missing from the weights, for instance {names[0]}"
        )


def _cut(model: PreTrainedModel, family: Family, count: int) -> None:
    """Remove the layers above the highest one used: they are neither computed nor trained nor saved."""
    if not family.shared_layers:
        path, _, name = family.layers.rpartition(".")
        parent = model.get_submodule(path)
        setattr(parent, name, nn.ModuleList(list(model.get_submodule(family.layers).children())[:count]))
    model.config.num_hidden_layers = count
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = model.config.layer_types[:count]


def _wrap(
    model: PreTrainedModel, family: Family, layers: tuple[int, ...], total: int, packed: bool
) -> TransformersEncoder:
    if packed:
        model.set_attn_implementation(NAME)
        return PackedEncoder(model, family, layers, total)
    model.set_attn_implementation("sdpa" if model._supports_sdpa else "eager")
    return PaddedEncoder(model, family, layers, total)


@torch.no_grad()
def _packs_correctly(model: PreTrainedModel, family: Family, layers: tuple[int, ...], total: int) -> bool:
    """Whether packed and padded give the same hidden states on a small probe: a wrong answer must not go unnoticed."""
    if not family.packed:
        return False
    model.eval()
    top = (max(layers),)
    probe = _probe(model.config)
    outputs = []
    for packed in (False, True):
        if packed:
            use_fast_layers(model, family)
        encoder = _wrap(model, family, top, total, packed)
        outputs.append(encoder(probe).layers[0])
        for layer in model.get_submodule(family.layers).children():
            layer._forward_hooks.clear()
    scale = outputs[0].abs().max()
    equal = bool((outputs[0] - outputs[1]).abs().max() <= PROBE_TOLERANCE * scale)
    if not equal:
        use_plain_layers(model, family)
    return equal


def _probe(config: Any) -> Batch:
    """Two short sequences of ordinary tokens, the second longer than a local layer's window."""
    longest = min(2 * (getattr(config, "sliding_window", None) or 2) + 3, config.max_position_embeddings - 2)
    lengths = (3, longest)
    ids = torch.arange(sum(lengths)) * 7 % max(config.vocab_size - 6, 1) + 5
    return Batch(
        input_ids=ids % config.vocab_size, position_ids=torch.cat([torch.arange(n) for n in lengths]),
        token_type_ids=torch.zeros_like(ids), cu_seqlens=torch.tensor([0, 3, 3 + longest]), max_seqlen=longest,
        window_of=torch.arange(2), rows=torch.arange(2), lengths=lengths,
    )  # fmt: skip
