"""A classifier on disk: Hugging Face's layout, and one doctune.json with everything else that use needs.

Where the features are what the family's own classifier of transformers sees (the pooled [CLS] of the last layer, one
linear layer), the weights carry its names, and plain transformers loads the folder as its own. Otherwise it would put a
new random head on the encoder: there the folder is of `model_type` doctune, which transformers refuses, and the encoder
with its tokenizer lies in a folder of its own, which transformers loads. With mean pooling sentence-transformers loads
the vectors that the head sees.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_serializer, field_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from doctune.config import Settings
from doctune.encoders.load import load_encoder
from doctune.encoders.resolve import CLASSIFIER_TYPE, ENCODER, encoder_in
from doctune.errors import CheckpointError, ConfigError
from doctune.files import atomic_folder, write_json
from doctune.heads.links import LINKS, Softmax
from doctune.models.classifier import TASK, Classifier, build_classifier
from doctune.models.standard import STANDARD
from doctune.pooling import layers
from doctune.pooling.tokens import Mean, Pooler
from doctune.readers.datasets import known_name
from doctune.settings import BiLstmSettings, Column, EncoderSettings, FeatureSettings, TruncationSettings
from doctune.settings.choices import Section, options_field, stored
from doctune.settings.components import KINDS, OPTIONS, Component, LinearSettings
from doctune.settings.implementations import Own, choose, reads_windows, stored_name
from doctune.targets import Target, from_json

DESCRIPTION = "doctune.json"
WEIGHTS, HEAD = "model.safetensors", "head.safetensors"
OF_ENCODER = "encoder.model."
FORMAT: Literal[2] = 2
OWN_READER = ".py:"
# What sentence-transformers reads: first the encoder, then the mean over its tokens.
SENTENCE_MODULES = [
    {"idx": 0, "name": "0", "path": ENCODER, "type": "sentence_transformers.models.Transformer"},
    {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
]


class TrainingColumns(Settings):
    """How the training data was read, which is how new files are read unless they are said to differ.

    `dataset` is a known name and nothing else: no field of a model's folder can name a place of code. `own_reader` is
    the mere name of a reader of the user's own, which the user gives again.
    """

    dataset: str | None = None
    own_reader: str | None = None
    header: bool = True
    text: tuple[Column, ...] = Field(("text",), min_length=1)
    text_pair: Column | None = None
    join: str = " "
    label: Column = "label"
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "folder"] = "auto"
    encoding: str = "utf-8"

    @field_validator("dataset")
    @classmethod
    def _is_a_name(cls, dataset: str | None) -> str | None:
        if dataset is not None and known_name(dataset) is None:
            raise ValueError(
                f"{dataset!r} is no known data set, and code that a model's folder names is never run; remove it from "
                f"the file, and give your own reader with --dataset when you use the model"
            )
        return dataset

    @field_validator("own_reader")
    @classmethod
    def _is_a_class(cls, name: str | None) -> str | None:
        if name is not None and not name.isidentifier():
            raise ValueError(f"{name!r} is not the name of a class")
        return name

    @classmethod
    def of(cls, reading: Mapping[str, Any]) -> TrainingColumns:
        """What to keep of the settings that the training data was read with."""
        kept = {name: value for name, value in reading.items() if name in cls.model_fields and value is not None}
        if OWN_READER in str(kept.get("dataset")):
            kept["own_reader"] = str(kept.pop("dataset")).rpartition(":")[2]
        return cls.build(kept)


class StoredTruncation(TruncationSettings):
    """A truncation in an artefact: one of the user's own is there by its name."""

    truncation: Annotated[str, stored("truncation")] = "head+tail"


def stored_parts(features: FeatureSettings) -> dict[str, Any]:
    """What a description says of the poolings and the head of a run."""
    parts: dict[str, Any] = {}
    for setting in (setting for setting, kind in KINDS.items() if kind.section == "features"):
        parts[setting] = stored_name(setting, getattr(features, setting))
        parts[f"{setting}{OPTIONS}"] = getattr(features, f"{setting}{OPTIONS}")
    if features.reads_tokens:
        parts["token_pooling"] = "tokens"
    return {**parts, "bilstm": features.bilstm}


class Description(Section):
    """What doctune.json holds: all that is not weights, config or tokenizer, so that training and use cannot differ.

    Format 1 had everything in one folder, and `columns` of any names.
    """

    format: Literal[2] = 2
    doctune: str
    labels: tuple[str, ...] = Field(min_length=2)
    answer: dict[str, Any] = Field({"target": "single"}, description="what an answer is, beside the labels")
    truncation: StoredTruncation
    layers: tuple[int, ...] = Field(description="encoder layers used, from 0", min_length=1)
    num_layers: int = Field(description="layers that the encoder had before those above the highest one used were cut")
    layer_pooling: Annotated[str, stored("layer_pooling")]
    token_pooling: Annotated[str, stored("token_pooling", after=("tokens",))]
    window_pooling: Annotated[str, stored("window_pooling")] = Field(
        "mean", description="in use where truncation is windows"
    )
    head: Annotated[str, stored("head")] = "linear"
    bilstm: BiLstmSettings | None = Field(None, description="its sizes, where the head is one")
    packing: Literal["packed", "padded"]
    columns: TrainingColumns = TrainingColumns()

    @field_serializer("columns")
    def _without_nothing(self, columns: TrainingColumns) -> dict[str, Any]:
        return columns.model_dump(mode="json", exclude_none=True)

    @field_validator("truncation", mode="before")
    @classmethod
    def _name_of_truncation(cls, value: Any) -> Any:
        """A run's settings as an artefact has them."""
        if isinstance(value, TruncationSettings):
            return {**value.model_dump(), "truncation": stored_name("truncation", value.truncation)}
        return value

    layer_pooling_options: dict[str, Any] | None = options_field()
    token_pooling_options: dict[str, Any] | None = options_field()
    window_pooling_options: dict[str, Any] | None = options_field()
    head_options: dict[str, Any] | None = options_field()

    def values_for(self, component: type[Component]) -> dict[str, Any]:
        """As for every section; the sizes of a BiLSTM have a place of their own."""
        if component is BiLstmSettings:
            return dict(self.bilstm or ())
        return super().values_for(component)

    @property
    def target(self) -> Target:
        """What an answer is."""
        return from_json({**self.answer, "labels": self.labels})


def is_standard(model: Classifier) -> bool:
    """Whether transformers' own classifier of the family computes the same of what it is given.

    Not with windows: it would read one sequence, and knows nothing of several.
    """
    task = model.task
    return isinstance(task.link, Softmax) and type(task.token_pooling) is Pooler and _reads_last_layer(model)


def is_sentence_model(model: Classifier) -> bool:
    """Whether the vectors that the head sees are those of a sentence-transformers model with mean pooling."""
    return type(model.task.token_pooling) is Mean and _reads_last_layer(model)


def _reads_last_layer(model: Classifier) -> bool:
    """Whether the head sees pooled tokens of the last layer as they are: every pooling of layers here leaves one alone,
    one of the user's own may not.
    """
    encoder, task = model.encoder, model.task
    leaves_alone = type(task.layer_pooling).__module__ == layers.__name__
    return leaves_alone and task.window_pooling is None and encoder.layers == (encoder.num_layers - 1,)


def who_loads(folder: Path) -> str:
    """One line about what can load a model's folder."""
    description = read_description(folder)
    chosen = [
        (kind, description.truncation if kind.section == "truncation" else description) for kind in KINDS.values()
    ]
    names = [getattr(section, kind.setting, None) for kind, section in chosen]
    own = [name for (kind, _), name in zip(chosen, names, strict=True)
           if name is not None and name not in kind.words and kind.component(name) is None]  # fmt: skip
    if own:
        return f"doctune alone, with the classes of your own that it is made of: --components for {', '.join(own)}"
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if config["model_type"] != CLASSIFIER_TYPE:
        if config["architectures"][0].endswith("ForSequenceClassification"):
            return "doctune, and transformers as its own classifier (AutoModelForSequenceClassification)"
        return "doctune; transformers the encoder alone (AutoModel)"
    line = f'doctune; transformers the encoder alone (AutoModel with subfolder="{ENCODER}")'
    modules = (folder / "modules.json").is_file()
    return f"{line}; sentence-transformers the vectors that the head sees" if modules else line


def save_model(model: Classifier, config: Any, description: Description, tokenizer: Any, folder: Path) -> None:
    """Write the model's folder atomically. `tokenizer` is the `TextTokenizer` that was used in training."""
    kind, apart = str(config.model_type), not is_standard(model)
    with atomic_folder(folder) as temporary:
        inside = temporary / ENCODER if apart else temporary
        inside.mkdir(exist_ok=True)
        state = model.state_dict()
        for file, names in _files(model, kind, apart).items():
            tensors = {stored: state[own].detach().cpu().contiguous() for own, stored in names.items()}
            save_file(tensors, temporary / file, metadata={"format": "pt"})
        write_json(inside / "config.json", _config(model, config, description.labels))
        tokenizer.save(inside)
        if apart:
            write_json(temporary / "config.json", {"model_type": CLASSIFIER_TYPE, **_classes(description.labels)})
        if is_sentence_model(model):
            _write_sentence_modules(temporary, model.encoder.hidden_size, description.truncation.max_seq_len)
        write_json(temporary / DESCRIPTION, description.model_dump(mode="json"))


def _files(model: Classifier, kind: str, apart: bool) -> dict[str, dict[str, str]]:
    """Which file holds which parameters: {file: {our name: name in the file}}; `apart`: the encoder has its own."""
    if not apart:
        return {WEIGHTS: _names(model, kind)}
    encoder, head = {}, {}
    for name in model.state_dict():
        if name.startswith(OF_ENCODER):
            encoder[name] = name.removeprefix(OF_ENCODER)
        else:
            head[name] = name.removeprefix(TASK)
    return {f"{ENCODER}/{WEIGHTS}": encoder, HEAD: head}


def _names(model: Classifier, kind: str) -> dict[str, str]:
    """Our parameter name -> the name in the one file of a folder that transformers loads, or of format 1."""
    standard = STANDARD[kind]
    renamed = [(OF_ENCODER, f"{standard.prefix}.")]
    if is_standard(model):
        renamed += [("token_pooling.dense.", f"{standard.dense}."), ("head.linear.", f"{standard.output}.")]
        renamed += [("token_pooling.norm.", f"{standard.norm}.")]
    names = {}
    for name in model.state_dict():
        plain = name.removeprefix(TASK)
        old, new = next(((o, n) for o, n in renamed if plain.startswith(o)), ("", ""))
        names[name] = new + plain.removeprefix(old)
    return names


def _write_sentence_modules(folder: Path, size: int, max_seq_len: int) -> None:
    """What makes a folder a sentence-transformers model with mean pooling."""
    write_json(folder / "modules.json", SENTENCE_MODULES)
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": size, "pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}
    write_json(folder / "1_Pooling" / "config.json", pooling)
    write_json(folder / ENCODER / "sentence_bert_config.json", {"max_seq_length": max_seq_len, "do_lower_case": False})


def _classes(labels: tuple[str, ...]) -> dict[str, Any]:
    numbered = dict(enumerate(labels))
    return {
        "id2label": {str(i): label for i, label in numbered.items()},
        "label2id": {v: k for k, v in numbered.items()},
    }


def _config(model: Classifier, config: Any, labels: tuple[str, ...]) -> dict[str, Any]:
    """The checkpoint's own config with our labels and depth, and the architecture that the weights are named for."""
    written: dict[str, Any] = config.to_dict()
    for key in ("_name_or_path", "_attn_implementation", "dtype", "torch_dtype"):
        written.pop(key, None)
    written |= {**_classes(labels), "problem_type": "single_label_classification"}
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
        for key in ("id2label", "label2id", "problem_type"):
            del written[key]
    written["dtype"] = "float32"
    return written


def read_description(folder: Path) -> Description:
    """doctune.json of a model's folder; a run directory is taken for the `model` folder inside it."""
    path = folder / DESCRIPTION
    if not path.is_file():
        hint = "; did you mean its model folder?" if (folder / "model" / DESCRIPTION).is_file() else ""
        raise CheckpointError(f"{folder}: no {DESCRIPTION}, so not a model that doctune finetune made{hint}")
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: damaged: not JSON ({error})") from None
    if not isinstance(tree, dict) or type(tree.get("format")) is not int or tree["format"] < 1:
        raise CheckpointError(f"{path}: damaged: expected an object with a format, 1 to {FORMAT}")
    if tree["format"] > FORMAT:
        raise CheckpointError(
            f"{path}: format {tree['format']} was made by a newer doctune, this one reads 1 to {FORMAT}; update doctune"
        )
    try:
        # Format 1 lacks nothing that has no default.
        return Description.build({**tree, "format": FORMAT})
    except ConfigError as error:
        raise CheckpointError(f"{path}: damaged or made by a newer doctune ({error})") from None


def load_model(
    folder: Path, packing: Literal["auto", "packed", "padded"] = "auto", own: Own = ()
) -> tuple[Classifier, Description]:
    """A classifier as it was saved, in evaluation mode.

    `own` are the classes of the user's own that it is made of. Raises `CheckpointError` for a folder that is not one,
    or whose weights do not fit its description, `ConfigError` where a class is missing.
    """
    description = read_description(folder)
    # Before the weights are read, so that what is missing is said at once.
    reads_tokens, several = (
        description.head != LinearSettings.name,
        reads_windows(description.truncation.truncation, own),
    )
    token_pooling = "tokens" if reads_tokens else choose("token_pooling", description, own)
    layer_pooling, head = (choose(setting, description, own) for setting in ("layer_pooling", "head"))
    window_pooling = choose("window_pooling", description, own) if several else None
    settings = EncoderSettings(encoder=str(folder), packing=packing)
    loaded = load_encoder(encoder_in(folder), settings, description.layers, description.num_layers)
    target = description.target
    model = build_classifier(
        loaded, token_pooling, layer_pooling, target.num_outputs, LINKS[target.link](), window_pooling=window_pooling,
        head=head,
    )  # fmt: skip
    load_weights(model, loaded.config.model_type, folder)
    return model.eval(), description


def load_weights(model: Classifier, kind: str, folder: Path) -> None:
    """Put the weights of a saved classifier into one of the same shape, whose encoder is of the family `kind`."""
    apart = encoder_in(folder) != folder
    state: dict[str, Tensor] = {}
    for file, names in _files(model, kind, apart).items():
        path = folder / file
        try:
            tensors = load_file(path)
            state |= {own: tensors[stored] for own, stored in names.items()}
        except (OSError, KeyError, SafetensorError) as error:
            raise _does_not_fit(path, error) from None
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise _does_not_fit(folder / (HEAD if apart else WEIGHTS), error) from None


def _does_not_fit(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"{path}: does not fit {DESCRIPTION}: {' '.join(str(error).split())[:200]}")


def link_model(source: Path, target: Path) -> None:
    """The same model in a second place, without a second copy of its weights where the disk allows it."""
    with atomic_folder(target) as temporary:
        shutil.copytree(source, temporary, copy_function=_link, dirs_exist_ok=True)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
