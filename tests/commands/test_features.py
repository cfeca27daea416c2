"""Features of documents, from encoders and from models, in files."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file as load_numpy
from safetensors.torch import load_file

import doctune
from doctune.errors import ConfigError, DataError
from doctune.runs.features import open_encoder
from doctune.settings import FeatureFileSettings
from doctune.tensors import Batch

Cli = Callable[..., Any]
TEXTS = ["the film was great", "", "awful food, bad service", "   ", "a good book about war and peace"]


def reference(folder: Path, text: str, pair: str | None = None) -> tuple[list[str], np.ndarray]:
    """Word pieces and hidden states [layers, tokens, H] by transformers itself, padding nothing."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    inputs = tokenizer(text, pair, return_tensors="pt")
    with torch.no_grad():
        states = model(**inputs, output_hidden_states=True).hidden_states[1:]
    return tokenizer.convert_ids_to_tokens(inputs["input_ids"][0]), torch.stack(states)[:, 0].numpy()


def test_tokens_of_every_layer_are_those_of_transformers(tiny_encoder: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    done = doctune.features(TEXTS, tiny_encoder, path, layers="all", device="cpu")
    table = pq.read_table(path)
    assert (done.documents, done.layers, done.rows) == (5, (0, 1), sum(map(len, table.column("tokens").to_pylist())))
    assert table.column("id").to_pylist() == ["0", "1", "2", "3", "4"]
    for place, text in enumerate(TEXTS):
        tokens, states = reference(tiny_encoder, text)
        assert table.column("tokens")[place].as_py() == tokens
        for layer in (0, 1):
            found = np.array(table.column(f"layer_{layer}")[place].as_py())
            np.testing.assert_allclose(found, states[layer], atol=2e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean", "max"])
def test_pooled_features(tiny_encoder: Path, tmp_path: Path, pooling: str) -> None:
    texts = ["one text", ("two three", "a pair"), "the film the book"]
    path = tmp_path / "f.safetensors"
    doctune.features(texts, tiny_encoder, path, layers=(-1, 0), token_pooling=pooling, device="cpu")
    found = load_numpy(path)
    pool = {"cls": lambda x: x[:, 0], "mean": lambda x: x.mean(axis=1), "max": lambda x: x.max(axis=1)}[pooling]
    for place, text in enumerate(texts):
        states = pool(reference(tiny_encoder, *((text,) if isinstance(text, str) else text))[1])
        for layer in (0, 1):
            np.testing.assert_allclose(found[f"layer_{layer}"][place], states[layer], atol=2e-5)


def test_layers_are_the_original_s(golden: Path, golden_bert: Path, pack: Callable[..., Batch]) -> None:
    folder = golden / "classifier_forward"
    given, expected = load_file(folder / "batch.safetensors"), load_file(folder / "expected.safetensors")
    real = given["input_mask"] > 0
    batch = pack(*([x[m].tolist() for x, m in zip(given[k], real, strict=True)] for k in ("input_ids", "segment_ids")))
    for pooling, name in (("cls", "cls_by_layer"), ("pooler", "pooled_output")):
        layers: Any = "all" if pooling == "cls" else (-1,)
        encoder = open_encoder(
            FeatureFileSettings.build({
                "output": "f", "encoder": {"encoder": str(golden_bert)}, "truncation": {"max_seq_len": 40},
                "features": {"layers": layers, "token_pooling": pooling}, "device": "cpu",
            })
        )  # fmt: skip
        found = np.concatenate([x for _, x in encoder.vectors(batch, encoder.extractor.run(batch))], axis=1)
        reference = expected[name].numpy()
        np.testing.assert_allclose(found, reference.reshape(found.shape), rtol=1e-5, atol=1e-5)


def test_the_pooler_in_bf16(golden_bert: Path, tmp_path: Path) -> None:
    found = []
    for precision in ("fp32", "bf16"):
        path = tmp_path / f"{precision}.safetensors"
        settings = {"max_seq_len": 40, "token_pooling": "pooler", "precision": precision, "device": "cpu"}
        doctune.features(TEXTS, golden_bert, path, **settings)
        found.append(load_numpy(path)["layer_11"])
    np.testing.assert_allclose(found[0], found[1], atol=0.1)
    assert found[1].dtype == np.float32
    assert (found[0] != found[1]).any()


@pytest.mark.parametrize("kind", ["parquet", "safetensors", "jsonl"])
def test_pieces_and_order_change_nothing(
    tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    texts = [f"the film {i} was {'great and lovely ' * (i % 7)}" for i in range(20)] + ["", "x"]
    found = []
    for size in (1 << 27, 1):
        monkeypatch.setattr("doctune.runs.features.BYTES_AT_A_TIME", size)
        path = tmp_path / f"{size}.{kind}"
        doctune.features(texts, tiny_encoder, path, device="cpu")
        if kind == "parquet":
            flat = [x for row in pq.read_table(path).column("layer_1").to_pylist() for x in row]
        elif kind == "safetensors":
            flat = load_numpy(path)["layer_1"]
        else:
            lines = [json.loads(line) for line in path.read_text().splitlines()]
            flat = [feature["layers"][0]["values"] for line in lines for feature in line["features"]]
        found.append(np.array(flat))
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


def test_a_file_with_labels_and_one_without(cli: Cli, tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "with.csv").write_text("text,label\nthe film,pos\na book,neg\n")
    (tmp_path / "without.csv").write_text("text\nthe film\na book\n")
    for name, columns in (("with", ["id", "label", "layer_1"]), ("without", ["id", "layer_1"])):
        out = tmp_path / f"{name}.parquet"
        flags = ("--encoder", tiny_encoder, "--output", out, "--token-pooling", "mean", "--device", "cpu")
        done = cli("features", tmp_path / f"{name}.csv", *flags)
        assert done.code == 0, done.err
        assert "2 documents (mean), layer 1, 32 numbers each" in done.err
        table = pq.read_table(out)
        assert table.column_names == columns
        assert table.column("id").to_pylist() == [f"{name}.csv:1", f"{name}.csv:2"]
    assert pq.read_table(tmp_path / "with.parquet").column("label").to_pylist() == ["pos", "neg"]


def test_lines_as_extract_features_reads_them(
    cli: Cli, tiny_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "the film\n\nwho is it ||| the team\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode()), encoding="utf-8"))
    out = tmp_path / "f.jsonl"
    flags = ("--encoder", tiny_encoder, "--layers", "-1", "-2", "--output", out, "--device", "cpu")
    assert cli("features", "-", *flags).code == 0
    read = [json.loads(line) for line in out.read_text().splitlines()]
    assert [line["linex_index"] for line in read] == [0, 1, 2]
    for line, texts in zip(read, (("the film",), ("",), ("who is it", "the team")), strict=True):
        tokens, states = reference(tiny_encoder, *texts)
        assert [feature["token"] for feature in line["features"]] == tokens
        assert [[x["index"] for x in f["layers"]] for f in line["features"]] == [[-1, -2]] * len(tokens)
        values = np.array([[x["values"] for x in feature["layers"]] for feature in line["features"]])
        np.testing.assert_allclose(values, states[::-1].transpose(1, 0, 2), atol=2e-5)


def test_a_model_is_read_as_it_was_trained(cli: Cli, trained: Path, tmp_path: Path) -> None:
    """Columns and truncation come from doctune.json; the mean of the last layer is what its classifier sees."""
    new = trained.parent / "test.csv"
    done = cli("features", new, "--encoder", trained, "--token-pooling", "mean", "--output", tmp_path / "f.parquet")
    assert done.code == 0, done.err
    table = pq.read_table(tmp_path / "f.parquet")
    assert json.loads(table.schema.metadata[b"truncation"])["max_seq_len"] == 32
    predictor = doctune.load(trained, "cpu", "fp32")
    head = predictor.model.task.head.linear
    with torch.no_grad():
        logits = head(torch.tensor(table.column("layer_1").to_pylist()))
    rows = doctune.predict(trained, new)
    labels = [predictor.labels[i] for i in logits.argmax(dim=1).tolist()]
    assert np.mean([a == row["label"] for a, row in zip(labels, rows, strict=True)]) >= 0.95


def test_a_given_truncation_wins_over_the_model_s(trained: Path, tmp_path: Path) -> None:
    path = tmp_path / "f.parquet"
    doctune.features(["the " * 60], trained, path, max_seq_len=5, truncation="tail-only", device="cpu")
    assert pq.read_table(path).column("tokens")[0].as_py() == ["[CLS]", "the", "the", "the", "[SEP]"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": (7,)}, "features.layers: layer 7 does not exist: there are 2"),
        ({"layers": (-1, 1)}, "names a layer twice"),
        ({"output": "f.txt"}, "does not tell its format"),
        ({"output": "."}, "is a folder"),
        ({"token_pooling": "median"}, "features.token_pooling"),
        ({"max_seq_len": 1000}, "more than the 128 positions"),
        ({"token_poolin": "mean"}, "did you mean 'token_pooling'"),
    ],
)
def test_what_is_wrong_is_said(tiny_encoder: Path, tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    output = tmp_path / settings.pop("output", "f.parquet")
    with pytest.raises(ConfigError, match=message.replace("(", "\\(")):
        doctune.features(TEXTS, tiny_encoder, output, device="cpu", **settings)
    assert list(tmp_path.iterdir()) == []


def test_nothing_to_read(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no document"):
        doctune.features([], tiny_encoder, tmp_path / "f.parquet", device="cpu")
    with pytest.raises(DataError, match="no such file"):
        doctune.features(tmp_path / "nowhere.csv", tiny_encoder, tmp_path / "f.parquet", device="cpu")
    assert list(tmp_path.iterdir()) == []
