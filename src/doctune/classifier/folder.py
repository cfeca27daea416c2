"""A classifier on disk: Hugging Face's layout, and one doctune.json with everything else that use needs.

Where the features are what the family's own classifier of transformers sees (the pooled [CLS] of the last layer, one
linear layer), the weights carry its names, and plain transformers loads them. Otherwise transformers loads the encoder.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from doctune.config import Settings
from doctune.encoders.load import load_encoder
from doctune.errors import CheckpointError, ConfigError
from doctune.files import atomic_folder, write_json
from doctune.models.classifier import TASK, Classifier, build_classifier
from doctune.models.standard import STANDARD
from doctune.pooling.layers import Kind
from doctune.pooling.tokens import Pooler
from doctune.pooling.windows import Kind as WindowKind
from doctune.settings import BiLstmSettings, EncoderSettings, TruncationSettings
from doctune.targets import Target, from_json

DESCRIPTION = "doctune.json"
WEIGHTS = "model.safetensors"


class Description(Settings):
    """What doctune.json holds: all that is not weights, config or tokenizer, so that training and use cannot differ."""

    format: Literal[1] = 1
    doctune: str
    labels: tuple[str, ...]
    truncation: TruncationSettings
    layers: tuple[int, ...] = Field(description="encoder layers used, from 0")
    num_layers: int = Field(description="layers that the encoder had before those above the highest one used were cut")
    layer_pooling: Kind
    token_pooling: Literal["pooler", "cls", "mean", "max", "attention", "tokens"]
    window_pooling: WindowKind = Field("mean", description="in use where truncation is windows")
    head: Literal["linear", "bilstm"] = "linear"
    bilstm: BiLstmSettings | None = Field(None, description="its sizes, where the head is one")
    packing: Literal["packed", "padded"]
    columns: dict[str, Any] = Field(default_factory=dict, description="how the training data was read")

    @property
    def target(self) -> Target:
        """What an answer is."""
        return from_json({"labels": self.labels})

    @property
    def windows(self) -> WindowKind | None:
        """How windows are pooled, or None where every document is one."""
        return self.window_pooling if self.truncation.truncation == "windows" else None


def is_standard(model: Classifier) -> bool:
    """Whether transformers' own classifier of the family computes the same of what it is given.

    Not with windows: it would read one sequence, and knows nothing of several.
    """
    encoder, task = model.encoder, model.task
    last_alone = encoder.layers == (encoder.num_layers - 1,)
    return task.window_pooling is None and isinstance(task.token_pooling, Pooler) and last_alone


def save_model(model: Classifier, config: Any, description: Description, tokenizer: Any, folder: Path) -> None:
    """Write the model's folder atomically. `tokenizer` is the `TextTokenizer` that was used in training."""
    with atomic_folder(folder) as temporary:
        names = _names(model, str(config.model_type))
        tensors = {names[name]: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
        save_file(tensors, temporary / WEIGHTS, metadata={"format": "pt"})
        write_json(temporary / "config.json", _config(model, config, description.labels))
        tokenizer.save(temporary)
        write_json(temporary / DESCRIPTION, description.model_dump(mode="json"))


def _names(model: Classifier, kind: str) -> dict[str, str]:
    """Our parameter name -> the name in the file."""
    standard = STANDARD[kind]
    renamed = [("encoder.model.", f"{standard.prefix}.")]
    if is_standard(model):
        renamed += [("token_pooling.dense.", f"{standard.dense}."), ("head.linear.", f"{standard.output}.")]
        renamed += [("token_pooling.norm.", f"{standard.norm}.")]
    names = {}
    for name in model.state_dict():
        plain = name.removeprefix(TASK)
        old, new = next(((o, n) for o, n in renamed if plain.startswith(o)), ("", ""))
        names[name] = new + plain.removeprefix(old)
    return names


def _config(model: Classifier, config: Any, labels: tuple[str, ...]) -> dict[str, Any]:
    """The checkpoint's own config with our labels and depth, and the architecture that the weights are named for."""
    written: dict[str, Any] = config.to_dict()
    for key in ("_name_or_path", "_attn_implementation", "dtype", "torch_dtype"):
        written.pop(key, None)
    written["id2label"] = {str(i): label for i, label in enumerate(labels)}
    written["label2id"] = {label: i for i, label in enumerate(labels)}
    written["problem_type"] = "single_label_classification"
    written["num_hidden_layers"] = max(model.encoder.layers) + 1
    if "n_layers" in written:
        written["n_layers"] = written["num_hidden_layers"]
    if written.get("layer_types"):
        written["layer_types"] = written["layer_types"][: written["num_hidden_layers"]]
    if is_standard(model):
        written["architectures"] = [STANDARD[config.model_type].architecture]
        if config.model_type == "modernbert":
            written["classifier_pooling"] = "cls"
    else:
        written["architectures"] = [type(model.encoder.model).__name__]
    written["dtype"] = "float32"
    return written


def read_description(folder: Path) -> Description:
    """doctune.json of a model's folder; a run directory is taken for the `model` folder inside it."""
    path = folder / DESCRIPTION
    if not path.is_file():
        hint = "; did you mean its model folder?" if (folder / "model" / DESCRIPTION).is_file() else ""
        raise CheckpointError(f"{folder}: no {DESCRIPTION}, so not a model that doctune finetune made{hint}")
    try:
        return Description.build(json.loads(path.read_text(encoding="utf-8")))
    except (json.JSONDecodeError, UnicodeDecodeError, ConfigError) as error:
        raise CheckpointError(f"{path}: damaged or made by a newer doctune ({error})") from None


def load_model(folder: Path, packing: Literal["auto", "packed", "padded"] = "auto") -> tuple[Classifier, Description]:
    """A classifier as it was saved, in evaluation mode.

    Raises `CheckpointError` for a folder that is not one, or whose weights do not fit its description.
    """
    description = read_description(folder)
    settings = EncoderSettings(encoder=str(folder), packing=packing)
    loaded = load_encoder(folder, settings, description.layers, description.num_layers)
    model = build_classifier(
        loaded, description.token_pooling, description.layer_pooling, description.target.num_outputs,
        window_pooling=description.windows, bilstm=description.bilstm,
    )  # fmt: skip
    load_weights(model, loaded.config.model_type, folder)
    return model.eval(), description


def load_weights(model: Classifier, kind: str, folder: Path) -> None:
    """Put the weights of a saved classifier into one of the same shape, whose encoder is of the family `kind`."""
    names = _names(model, kind)
    try:
        tensors = load_file(folder / WEIGHTS)
        model.load_state_dict({ours: tensors[theirs] for ours, theirs in names.items()})
    except (KeyError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{folder / WEIGHTS}: does not fit {DESCRIPTION}: {reason}") from None


def link_model(source: Path, target: Path) -> None:
    """The same model in a second place, without a second copy of its weights where the disk allows it."""
    with atomic_folder(target) as temporary:
        for file in source.iterdir():
            try:
                os.link(file, temporary / file.name)
            except OSError:
                shutil.copy2(file, temporary / file.name)
