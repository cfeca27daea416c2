"""A saved classifier is the same when doctune loads it, and, where its head is the standard one, for transformers."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import AutoModel, AutoModelForSequenceClassification

from doctune.classifier.folder import (
    Description,
    TrainingColumns,
    is_sentence_model,
    is_standard,
    link_model,
    load_model,
    read_description,
    save_model,
    who_loads,
)
from doctune.encoders.base import FAMILIES
from doctune.encoders.load import load_encoder
from doctune.encoders.resolve import resolve_encoder
from doctune.errors import CheckpointError
from doctune.models.classifier import TASK, Classifier, build_classifier
from doctune.models.standard import STANDARD
from doctune.pooling.layers import LayerPooling
from doctune.settings import EncoderSettings, TruncationSettings
from doctune.tensors import Batch

LABELS = ("neg", "pos", "so-so")


class NoTokenizer:
    def save(self, folder: Path) -> None:
        """The folders here are loaded for their weights only."""


def make(folder: Path, token_pooling: str = "pooler", layers: tuple[int, ...] = (-1,), layer_pooling: str = "concat"):
    torch.manual_seed(1)
    loaded = load_encoder(folder, EncoderSettings(encoder=str(folder)), layers)
    model = build_classifier(loaded, token_pooling, layer_pooling, len(LABELS)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder."):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    description = Description(
        doctune="0", labels=LABELS, truncation=TruncationSettings(), layers=model.encoder.layers,
        num_layers=model.encoder.num_layers, layer_pooling=layer_pooling, token_pooling=token_pooling,
        packing=model.encoder.packing,
    )  # fmt: skip
    return model, loaded, description


@pytest.fixture(scope="module")
def batch(pack: Callable[..., Batch]) -> Batch:
    random = torch.Generator().manual_seed(4)
    return pack([torch.randint(5, 100, (n,), generator=random).tolist() for n in (9, 30, 2)])


@torch.no_grad()
def logits(model: Classifier, batch: Batch) -> torch.Tensor:
    return model(batch)


@pytest.mark.parametrize("kind", sorted(FAMILIES))
def test_plain_transformers_loads_the_standard_head(
    kind: str, family_folder: Callable[[str], Path], batch: Batch, tmp_path: Path
) -> None:
    model, loaded, description = make(family_folder(kind))
    assert is_standard(model)
    save_model(model, loaded.config, description, NoTokenizer(), tmp_path / "model")
    theirs, info = AutoModelForSequenceClassification.from_pretrained(tmp_path / "model", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert theirs.config.id2label == dict(enumerate(LABELS))
    ours = logits(model, batch)
    starts = batch.cu_seqlens.tolist()
    for row, (start, stop) in enumerate(itertools.pairwise(starts)):
        with torch.no_grad():
            expected = theirs.eval()(input_ids=batch.input_ids[start:stop].unsqueeze(0)).logits[0]
        torch.testing.assert_close(ours[row], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta", "modernbert", "albert", "deberta-v2"])
@pytest.mark.parametrize(
    ("token_pooling", "layers", "layer_pooling"),
    [
        ("pooler", (-1,), "concat"),
        ("mean", (-1,), "concat"),
        ("cls", (0, 1), "max"),
        ("attention", (1, -1), "attention"),
    ],
)
def test_what_is_saved_is_what_is_loaded(
    kind: str, token_pooling: str, layers: tuple[int, ...], layer_pooling: str,
    family_folder: Callable[[str], Path], batch: Batch, tmp_path: Path,
) -> None:  # fmt: skip
    model, loaded, description = make(family_folder(kind), token_pooling, layers, layer_pooling)
    save_model(model, loaded.config, description, NoTokenizer(), tmp_path / "model")
    again, read = load_model(tmp_path / "model")
    assert read == description
    torch.testing.assert_close(logits(again, batch), logits(model, batch), rtol=1e-6, atol=1e-6)
    # Whatever the head: transformers loads the encoder, cut to the layers in use.
    apart = {} if is_standard(model) else {"subfolder": "encoder"}
    encoder, info = AutoModel.from_pretrained(tmp_path / "model", output_loading_info=True, **apart)
    assert not info["unexpected_keys"] or is_standard(model)
    assert {key for key in info["missing_keys"] if "pooler" not in key} == set()
    assert encoder.config.num_hidden_layers == max(model.encoder.layers) + 1


def test_bad_folders(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no doctune\.json"):
        read_description(tmp_path)
    model, loaded, description = make(family_folder("bert"))
    save_model(model, loaded.config, description, NoTokenizer(), tmp_path / "run" / "model")
    with pytest.raises(CheckpointError, match="did you mean its model folder"):
        read_description(tmp_path / "run")
    path = tmp_path / "run" / "model" / "doctune.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "labels": ["a", "b"]}))
    with pytest.raises(CheckpointError, match=r"does not fit doctune\.json"):
        load_model(tmp_path / "run" / "model")
    for change, message in (
        ({"format": 3}, "format 3 was made by a newer doctune, this one reads 1 to 2"),
        ({"temperature": 1.5}, "temperature: no such setting"),
        ({"columns": {"separator": "|"}}, "columns.separator: no such setting"),
        ({"format": None}, "damaged"),
        ({"format": True}, "damaged"),
    ):
        path.write_text(json.dumps({**content, **change}))
        with pytest.raises(CheckpointError, match=message) as caught:
            load_model(tmp_path / "run" / "model")
        assert "\n" not in str(caught.value)


# A description of every format that a release has written, as it stood there.
FORMATS = {
    1: {
        "format": 1, "doctune": "0.1.0", "labels": ["neg", "pos", "so-so"],
        "truncation": {
            "truncation": "head+tail", "head_tokens": None, "max_seq_len": 64, "overlap": 0, "max_windows": None,
            "original_truncation": False,
        },
        "layers": [2], "num_layers": 3, "layer_pooling": "concat", "token_pooling": "mean", "window_pooling": "mean",
        "head": "linear", "bilstm": None, "packing": "packed",
        "columns": {
            "dataset": "trec", "format": "auto", "encoding": "utf-8", "header": True, "text": ["text"], "join": " ",
            "label": "label",
        },
    },
    2: {
        "format": 2, "doctune": "0.2.0", "labels": ["neg", "pos", "so-so"], "answer": {"target": "single"},
        "truncation": {
            "truncation": "head+tail", "head_tokens": None, "max_seq_len": 64, "overlap": 0, "max_windows": None,
            "original_truncation": False,
        },
        "layers": [2], "num_layers": 3, "layer_pooling": "concat", "token_pooling": "mean", "window_pooling": "mean",
        "head": "linear", "bilstm": None, "packing": "packed",
        "columns": {"own_reader": "MyReader", "header": True, "text": ["a", 1], "join": " ", "label": "label",
                    "format": "auto", "encoding": "utf-8"},
    },
}  # fmt: skip


@pytest.mark.parametrize("number", FORMATS)
def test_descriptions_of_every_format_are_read(number: int, tmp_path: Path) -> None:
    (tmp_path / "doctune.json").write_text(json.dumps(FORMATS[number]))
    description = read_description(tmp_path)
    written = description.model_dump(mode="json")
    assert written == {"answer": {"target": "single"}, **FORMATS[number], "format": 2}
    sparse = {key: value for key, value in FORMATS[1].items() if key not in ("window_pooling", "head", "bilstm")}
    (tmp_path / "doctune.json").write_text(json.dumps({**sparse, "format": number}))
    assert read_description(tmp_path) == Description.build({**FORMATS[1], "format": 2})


@pytest.mark.parametrize("kind", ["bert", "modernbert", "distilbert"])
def test_a_folder_of_format_1_gives_the_same_answers(
    kind: str, family_folder: Callable[[str], Path], batch: Batch, tmp_path: Path
) -> None:
    """There all weights were in one file, the encoder's under the prefix of transformers' classifier."""
    model, loaded, description = make(family_folder(kind), "mean")
    prefix = STANDARD[kind].prefix
    folder = tmp_path / "model"
    folder.mkdir()
    state = {
        name.replace("encoder.model.", f"{prefix}.")
        if name.startswith("encoder.model.")
        else name.removeprefix(TASK): tensor
        for name, tensor in model.state_dict().items()
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = {**loaded.config.to_dict(), "architectures": [type(model.encoder.model).__name__]}
    (folder / "config.json").write_text(json.dumps(config))
    columns = description.model_dump(mode="json")["columns"]
    old = {**description.model_dump(mode="json"), "format": 1, "columns": {**columns, "dataset": "trec"}}
    (folder / "doctune.json").write_text(json.dumps(old))
    again, _ = load_model(folder)
    torch.testing.assert_close(logits(again, batch), logits(model, batch), rtol=0, atol=0)
    assert resolve_encoder(str(folder)) == folder
    assert who_loads(folder) == "doctune; transformers the encoder alone (AutoModel)"


@pytest.mark.parametrize(("token_pooling", "sentences"), [("mean", True), ("cls", False), ("pooler", False)])
def test_a_head_that_transformers_does_not_know_is_never_replaced(
    token_pooling: str, sentences: bool, family_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    layers = (-1,) if token_pooling != "pooler" else (-1, 0)
    model, loaded, description = make(family_folder("bert"), token_pooling, layers)
    folder = tmp_path / "run" / "model"
    save_model(model, loaded.config, description, NoTokenizer(), folder)
    for auto in (AutoModel, AutoModelForSequenceClassification):
        with pytest.raises(ValueError, match="model type `doctune`"):
            auto.from_pretrained(folder)
    assert resolve_encoder(str(folder)) == resolve_encoder(str(tmp_path / "run")) == folder / "encoder"
    assert (folder / "modules.json").is_file() == sentences
    line = who_loads(folder)
    assert "\n" not in line
    assert ("sentence-transformers" in line) == sentences
    sizes = {}
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            sizes |= {(path.name, name): file.get_tensor(name).numel() for name in file.keys()}  # noqa: SIM118
    assert sum(sizes.values()) == sum(tensor.numel() for tensor in model.state_dict().values())


def test_a_standard_head_stays_transformers_own(family_folder: Callable[[str], Path], tmp_path: Path) -> None:
    model, loaded, description = make(family_folder("bert"))
    save_model(model, loaded.config, description, NoTokenizer(), tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "config.json", "doctune.json", "model.safetensors",
    ]  # fmt: skip
    assert "transformers as its own classifier" in who_loads(tmp_path / "model")
    assert resolve_encoder(str(tmp_path / "model")) == tmp_path / "model"


@pytest.mark.parametrize("token_pooling", ["pooler", "mean"])
def test_a_layer_pooling_of_ones_own_is_nobody_elses(token_pooling: str, family_folder: Callable[[str], Path]) -> None:
    class Doubled(LayerPooling):
        def forward(self, layers: Sequence[torch.Tensor]) -> torch.Tensor:
            return 2 * layers[0]

    model, _, _ = make(family_folder("bert"), token_pooling)
    assert is_standard(model) or is_sentence_model(model)
    model.task.layer_pooling = Doubled(32, 1)
    assert not is_standard(model)
    assert not is_sentence_model(model)


def test_a_linked_model_is_the_whole_model(family_folder: Callable[[str], Path], batch: Batch, tmp_path: Path) -> None:
    model, loaded, description = make(family_folder("bert"), "mean")
    save_model(model, loaded.config, description, NoTokenizer(), tmp_path / "seed-1")
    link_model(tmp_path / "seed-1", tmp_path / "model")
    names = [sorted(str(p.relative_to(d)) for p in d.rglob("*")) for d in (tmp_path / "seed-1", tmp_path / "model")]
    assert names[0] == names[1]
    shutil.rmtree(tmp_path / "seed-1")
    torch.testing.assert_close(logits(load_model(tmp_path / "model")[0], batch), logits(model, batch), rtol=0, atol=0)


def test_a_reader_of_ones_own_is_stored_by_its_name_alone() -> None:
    columns = TrainingColumns.of({"dataset": "/somewhere/my_file.py:MyReader", "train": "a", "text": ("body",)})
    assert columns.dataset is None
    assert columns.own_reader == "MyReader"
    assert "somewhere" not in columns.model_dump_json()
    assert TrainingColumns.of({"dataset": "trec-fine"}).dataset == "trec-fine"
