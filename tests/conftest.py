"""Fixtures for all tests: real data where it is, tiny random encoders everywhere."""

from __future__ import annotations

import json
import os
import shutil
import string
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from doctune.tensors import Batch

if "PYTEST_XDIST_WORKER" in os.environ:
    # Workers that each compute on all cores wait for one another most of the time: one thread each, 2.5 times as fast.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

WORDS = tuple(
    """
the a of to and in it is was this that film movie book food place service good great excellent lovely bad
awful terrible boring sad happy sport match team goal player market price stock bank money science space
computer network city war election minister peace he she they we you i not very so but with for on at by from
one two three
""".split()  # noqa: SIM905
)
LAYERS, HIDDEN, HEADS, POSITIONS = 2, 32, 4, 128
COMMON = {
    "vocab_size": 100, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
    "max_position_embeddings": 120, "pad_token_id": 0,
}  # fmt: skip
PAD_1 = {**COMMON, "pad_token_id": 1}
ROPE = {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
CONFIGS: dict[str, dict[str, Any]] = {
    "bert": COMMON,
    "electra": {**COMMON, "embedding_size": 16},
    "roberta": {**PAD_1, "type_vocab_size": 1},
    "xlm-roberta": {**PAD_1, "type_vocab_size": 1},
    "camembert": {**PAD_1, "type_vocab_size": 1},
    "albert": {**COMMON, "embedding_size": 16},
    "distilbert": {
        "vocab_size": 100, "dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 64, "max_position_embeddings": 120,
    },
    "modernbert": {**COMMON, **ROPE, "local_attention": 8, "global_attn_every_n_layers": 3},
    "deberta": COMMON,
    "deberta-v2": {
        **COMMON, "relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False,
    },
    "mpnet": PAD_1,
}  # fmt: skip


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and golden outputs beside the repository."""
    folder = Path(__file__).parents[1].parent / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"{folder} is missing: real data and golden files are there")
    return folder


@pytest.fixture(scope="session")
def golden(shared: Path) -> Path:
    """Inputs and outputs of the original code."""
    return shared / "golden"


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random BERT of two layers and a vocabulary of common words and letters."""
    from doctune.encoders.scratch import bert_config, new_bert
    from doctune.text.vocabulary import SPECIAL_TOKENS

    folder = tmp_path_factory.mktemp("tiny-encoder")
    letters = [*string.ascii_lowercase, *string.digits, *".,!?'-"]
    pieces = [*SPECIAL_TOKENS, *letters, *(f"##{letter}" for letter in string.ascii_lowercase), *WORDS]
    vocabulary = list(dict.fromkeys(pieces))
    (folder / "vocab.txt").write_text("\n".join(vocabulary) + "\n", encoding="utf-8")
    new_bert(folder, bert_config(len(vocabulary), LAYERS, HIDDEN, POSITIONS, HIDDEN // HEADS), seed=0)
    return folder


@pytest.fixture
def tiny_csv(tmp_path: Path) -> Callable[..., Path]:
    """Makes a small CSV with columns text and label whose classes differ in one telling word."""

    def make(
        name: str = "train.csv", rows: int = 24, classes: tuple[str, ...] = ("neg", "pos"), header: bool = True
    ) -> Path:
        telling = ("awful", "great", "goal", "bank", "war")
        lines = ["text,label"] if header else []
        for row in range(rows):
            kind = row % len(classes)
            lines.append(f"the film {row} is {telling[kind]} and {WORDS[row % len(WORDS)]},{classes[kind]}")
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return make


@pytest.fixture(scope="session")
def tiny_corpus(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of two sources and two shards in the tiny encoder's tokens: 40 documents of some sentences each."""
    from doctune.runs.corpus import run
    from doctune.settings import CorpusSettings

    folder = tmp_path_factory.mktemp("tiny-corpus")
    random = Random(1)
    for name, number in (("films", 30), ("news", 10)):
        lines = []
        for _ in range(number):
            sentences = [" ".join(random.choices(WORDS, k=random.randint(3, 9))) for _ in range(random.randint(1, 8))]
            lines.append(json.dumps({"text": ". ".join(sentences) + "."}) + "\n")
        (folder / f"{name}.jsonl").write_text("".join(lines))
    sources = [{"path": str(folder / "films.jsonl")}, {"path": str(folder / "news.jsonl"), "weight": 1.5}]
    output = folder / "corpus"
    run(CorpusSettings.build({
        "sources": sources, "encoder": str(tiny_encoder), "output": str(output), "workers": 1, "shard_bytes": 3000,
    }))  # fmt: skip
    return output


@pytest.fixture(scope="session")
def pack() -> Callable[..., Batch]:
    """Makes a packed batch of sequences of token ids, each a document; optional token types and labels."""
    import torch

    from doctune.tensors import Batch

    def make(
        sequences: Sequence[Sequence[int]],
        types: Sequence[Sequence[int]] | None = None,
        labels: Sequence[int] | None = None,
    ) -> Batch:
        lengths = [len(sequence) for sequence in sequences]
        flat = [token for sequence in sequences for token in sequence]
        kinds = [kind for row in types for kind in row] if types else [0] * len(flat)
        return Batch(
            input_ids=torch.tensor(flat),
            position_ids=torch.cat([torch.arange(length) for length in lengths]),
            token_type_ids=torch.tensor(kinds),
            cu_seqlens=torch.tensor([0, *lengths]).cumsum(0),
            max_seqlen=max(lengths),
            window_of=torch.arange(len(lengths)),
            rows=torch.arange(len(lengths)),
            labels=None if labels is None else torch.tensor(labels),
            lengths=tuple(lengths),
        )

    return make


@pytest.fixture(scope="session")
def golden_bert(golden: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The golden twelve-layer BERT as a folder that doctune loads."""
    source, folder = golden / "classifier_forward", tmp_path_factory.mktemp("golden-bert")
    config = json.loads((source / "bert_config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "model_type": "bert", "layer_norm_eps": 1e-12, "pad_token_id": 0})
    )
    shutil.copy(source / "weights_hf_names.safetensors", folder / "model.safetensors")
    shutil.copy(golden / "vocab.txt", folder / "vocab.txt")
    return folder


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with a random three-layer encoder of a family; weights are large enough for differences to show.

    `auto` names the class of transformers that makes it: with it the folder has heads, too.
    """
    import torch
    import transformers

    made: dict[tuple[str, str], Path] = {}

    def make(kind: str, auto: str = "AutoModel") -> Path:
        if (kind, auto) not in made:
            torch.manual_seed(list(CONFIGS).index(kind))  # the same weights in whatever order tests run
            model = getattr(transformers, auto).from_config(transformers.CONFIG_MAPPING[kind](**CONFIGS[kind]))
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter.add_(torch.randn_like(parameter) * (0.2 if parameter.ndim > 1 else 0.1))
            made[kind, auto] = tmp_path_factory.mktemp(kind)
            model.save_pretrained(made[kind, auto])
        return made[kind, auto]

    return make


@pytest.fixture(scope="session")
def golden_classifier(golden: Path, golden_bert: Path) -> Callable[..., Any]:
    """A classifier on the golden BERT as the original's `layers` and `pooling` arguments describe it."""
    import torch
    from safetensors.torch import load_file

    from doctune.encoders.load import load_encoder
    from doctune.models.classifier import build_classifier
    from doctune.settings import EncoderSettings

    heads = load_file(golden / "classifier_forward" / "heads.safetensors")

    def make(layers: Any, pooling: str | None, head: str, num_labels: int = 4) -> Any:
        pooled = layers is None or (isinstance(layers, list) and layers[0] == -2)
        over_layers = isinstance(layers, str)
        everything = over_layers or (not pooled and layers[0] == -1)
        chosen: Any = (-1,) if pooled else "all" if everything else tuple(layers)
        kind: Any = "attention" if over_layers else "concat" if pooled else (pooling or "concat")
        loaded = load_encoder(golden_bert, EncoderSettings(encoder=str(golden_bert)), chosen)
        model = build_classifier(loaded, "pooler" if pooled or over_layers else "cls", kind, num_labels)
        with torch.no_grad():
            name = head.split(" ")[0]
            model.task.head.linear.weight.copy_(heads[f"{name}.weight"])
            model.task.head.linear.bias.copy_(heads[f"{name}.bias"])
            if over_layers:
                prefix = "attention_over_layers."
                state = {k.removeprefix(prefix): v for k, v in heads.items() if k.startswith(prefix)}
                model.task.layer_pooling.load_state_dict(state)
        return model

    return make
