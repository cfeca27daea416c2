"""The weights of a Hugging Face folder, under the names of `BertForPreTraining`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from doctune.convert.bundle import Array
from doctune.convert.names import DECODER_BIAS, DECODER_WEIGHT, MLM_BIAS, POSITION_IDS, WORD_EMBEDDINGS
from doctune.errors import CheckpointError

WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
ENCODER = ("embeddings.", "encoder.", "pooler.")
OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor of a safetensors file, not read yet."""

    name: str  # as the file has it
    shape: tuple[int, ...]
    type_name: str
    file: Any

    def read(self) -> Array:
        """Its values."""
        value: Array = self.file.get_tensor(self.name)
        return value


@contextmanager
def stored_weights(folder: Path) -> Iterator[dict[str, Stored]]:
    """The tensors of a folder by their names in `BertForPreTraining`, whatever class of BERT they were saved from.

    Older names are translated, and what follows from other tensors (the tied decoder, position ids) is left out.
    Raises `CheckpointError` for a damaged file, and for a decoder that is not tied to the word embeddings.
    """
    with ExitStack() as stack:
        found: dict[str, Stored] = {}
        for path in _files(folder):
            try:
                file = stack.enter_context(safe_open(path, framework="np"))
                for name in file.keys():  # noqa: SIM118  (not a dict)
                    part = file.get_slice(name)
                    kind = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}.get(part.get_dtype())
                    found[name] = Stored(name, tuple(part.get_shape()), kind or str(part.get_dtype()), file)
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path}: not a whole safetensors file ({error}); copy it again") from None
        yield _renamed(folder, found)


def _files(folder: Path) -> list[Path]:
    """The one file, or the several over which transformers has spread a large model."""
    if (folder / WEIGHTS).is_file() or not (folder / SHARDS).is_file():
        names = [WEIGHTS]
    else:
        try:
            names = sorted(set(json.loads((folder / SHARDS).read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"{folder / SHARDS}: not an index of safetensors files ({error!r})") from None
    for name in names:
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder / name}: missing; weights are read from {WEIGHTS}, or as {SHARDS} says")
    return [folder / name for name in names]


def _renamed(folder: Path, found: dict[str, Stored]) -> dict[str, Stored]:
    bare = not any(name.startswith("bert.") for name in found)
    renamed: dict[str, Stored] = {}
    for name, tensor in found.items():
        for old, new in OLD_NAMES.items():
            name = name.replace(old, new)
        renamed["bert." + name if bare and name.startswith(ENCODER) else name] = tensor
    renamed.pop(POSITION_IDS, None)
    if MLM_BIAS not in renamed and DECODER_BIAS in renamed:
        renamed[MLM_BIAS] = renamed.pop(DECODER_BIAS)
    for copy, own in ((DECODER_WEIGHT, WORD_EMBEDDINGS), (DECODER_BIAS, MLM_BIAS)):
        decoder = renamed.pop(copy, None)
        if decoder is not None and own in renamed and not np.array_equal(decoder.read(), renamed[own].read()):
            raise CheckpointError(
                f"{folder}: {copy} differs from {own}; in the TensorFlow 1 form of BERT they are one variable"
            )
    return renamed
