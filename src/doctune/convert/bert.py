"""BERT from TensorFlow 1's form into transformers' and back, bit for bit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from doctune.convert import configs
from doctune.convert.bundle import Array, Bundle, write_bundle
from doctune.convert.names import ARCHITECTURES, Part, Weight, check_parts, is_optimizers, weights
from doctune.convert.sources import Checkpoint, Folder
from doctune.convert.stored import WEIGHTS, stored_weights
from doctune.convert.vocabularies import VOCABULARY, check_size, lines, read_vocabulary, write_tokenizer
from doctune.errors import CheckpointError
from doctune.files import write_json, write_text

CONFIG, ORIGINAL_CONFIG = "config.json", "bert_config.json"
PREFIX = "bert_model.ckpt"  # as Google names it
FLOAT32 = "float32"


@dataclass(frozen=True, slots=True)
class Converted:
    """What was converted, for the summary."""

    config: Mapping[str, Any]
    heads: tuple[Part, ...]  # the pooler counts as one
    num_weights: int
    num_parameters: int
    lower_case: bool | None  # None: not known
    optimizers: tuple[str, ...] = ()  # skipped: slots and counters of the optimiser
    left_out: tuple[str, ...] = ()  # what is no part of BERT, such as another head

    @property
    def architecture(self) -> str:
        """transformers' class with just these weights."""
        return ARCHITECTURES[self.heads]


def is_transformers_folder(source: Path) -> bool:
    """Whether this is a folder as transformers saves a model: config.json and safetensors."""
    return (source / CONFIG).is_file() and any(source.glob("*.safetensors"))


def to_transformers(
    checkpoint: Checkpoint, config_file: Path | None, vocab_file: Path | None, lower: bool | None, folder: Path
) -> Converted:
    """Write config.json, model.safetensors and the tokenizer of a TensorFlow checkpoint into an existing folder.

    `config_file` and `vocab_file` are bert_config.json and vocab.txt, None where they lie beside the checkpoint;
    `lower` is whether texts are lower-cased, None to tell by the vocabulary. Every checksum is verified before a weight
    is written.
    Raises `CheckpointError` for files that are missing, damaged, of another kind or do not fit each other.
    """
    bundle = Bundle(checkpoint)
    where, data = _beside(checkpoint, config_file, ORIGINAL_CONFIG, "--config")
    config = configs.from_tensorflow(where, configs.parse(where, data))
    found = [name for name in bundle.entries if not is_optimizers(name)]
    wanted = weights(config)
    heads = check_parts(checkpoint.label, {w.tensorflow: w.part for w in wanted}, found, "bert/")
    wanted = [weight for weight in wanted if weight.part in ("encoder", *heads)]
    for weight in wanted:
        entry = bundle.entries[weight.tensorflow]
        _check(checkpoint.label, weight.tensorflow, entry.type_name, entry.shape, weight.shape)
    where, data = _beside(checkpoint, vocab_file, VOCABULARY, "--vocab")
    tokenizer = write_tokenizer(where, data, lower, config["max_position_embeddings"], folder)
    check_size(where, tokenizer.size, config["vocab_size"])
    config["pad_token_id"] = tokenizer.tokenizer.token_to_id("[PAD]") or 0
    config["architectures"] = [ARCHITECTURES[heads]]
    write_json(folder / CONFIG, config)

    bundle.verify()
    stem = "bert." if ARCHITECTURES[heads] == "BertModel" else ""  # which that class does not have
    tensors = {}
    for weight in wanted:
        value = bundle.read(weight.tensorflow)
        value = value.T if weight.transposed else value
        tensors[weight.transformers.removeprefix(stem)] = np.ascontiguousarray(value)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    known = {weight.tensorflow for weight in wanted}
    return Converted(
        config, heads, len(wanted), _count(wanted), tokenizer.config["do_lower_case"],
        tuple(name for name in bundle.entries if is_optimizers(name)),
        tuple(f"{name} {list(bundle.entries[name].shape)}" for name in found if name not in known),
    )  # fmt: skip


def to_tensorflow(source: Path, vocab_file: Path | None, folder: Path) -> Converted:
    """Write bert_model.ckpt, bert_config.json and vocab.txt of a Hugging Face folder into an existing folder.

    `vocab_file` is for a folder without a tokenizer. Raises `CheckpointError` where the folder is no BERT, is
    incomplete, or has what the original code cannot compute.
    """
    where = str(source / CONFIG)
    config = configs.to_tensorflow(where, configs.parse(where, (source / CONFIG).read_bytes()))
    wanted = weights(config)
    variables: dict[str, Array] = {}
    with stored_weights(source) as stored:
        heads = check_parts(str(source), {w.transformers: w.part for w in wanted}, stored, "bert.")
        wanted = [weight for weight in wanted if weight.part in ("encoder", *heads)]
        for weight in wanted:
            tensor = stored[weight.transformers]
            shape = weight.shape[::-1] if weight.transposed else weight.shape
            _check(str(source), tensor.name, tensor.type_name, tensor.shape, shape)
            value = tensor.read()
            variables[weight.tensorflow] = np.ascontiguousarray(value.T) if weight.transposed else value
    known = {weight.transformers for weight in wanted}
    left_out = tuple(f"{t.name} {list(t.shape)}" for name, t in stored.items() if name not in known)
    lower: bool | None = None
    if vocab_file is None:
        where = str(source)
        data, lower = read_vocabulary(source)
    else:
        where, data = str(vocab_file), _given(vocab_file, "--vocab")
    check_size(where, len(lines(data)), config["vocab_size"])
    (folder / VOCABULARY).write_bytes(data)
    write_text(folder / ORIGINAL_CONFIG, configs.dump(config))
    write_bundle(folder, PREFIX, variables)
    return Converted(config, heads, len(wanted), _count(wanted), lower, left_out=left_out)


def _beside(checkpoint: Checkpoint, given: Path | None, name: str, flag: str) -> tuple[str, bytes]:
    """How messages call a file that belongs to the checkpoint, and its bytes."""
    if given is not None:
        return str(given), _given(given, flag)
    files = checkpoint.files
    if name not in files.names():
        raise CheckpointError(f"{files.label('')}: no {name} beside the checkpoint; say where it is with {flag} FILE")
    return files.label(name), bytes(files.read(name))


def _given(file: Path, flag: str) -> bytes:
    if not file.is_file():
        raise CheckpointError(f"{flag} {file}: no such file")
    return bytes(Folder(file.parent).read(file.name))


def _check(where: str, name: str, type_name: str, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if shape != expected:
        raise CheckpointError(
            f"{where}: {name} has shape {list(shape)}, by the config it should have {list(expected)}; "
            f"the config belongs to another checkpoint"
        )
    if type_name != FLOAT32:
        raise CheckpointError(f"{where}: {name} is {type_name}; only {FLOAT32} is converted, so that no bit changes")


def _count(wanted: Iterable[Weight]) -> int:
    return sum(int(np.prod(weight.shape, dtype=np.int64)) for weight in wanted)
