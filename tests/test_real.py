"""The real encoder and real data, where they are: the main job as a user runs it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from doctune.cli import main
from doctune.errors import CheckpointError
from doctune.tensors import Batch

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def minilm() -> Path:
    from doctune.encoders.resolve import resolve_encoder

    try:
        return resolve_encoder("minilm")
    except CheckpointError as error:
        pytest.skip(str(error))


def test_minilm_gives_its_published_similarities(minilm: Path, pack: Callable[..., Batch]) -> None:
    """The cosines that the documentation of sentence-transformers prints for this model."""
    import torch

    from doctune.encoders.load import load_encoder
    from doctune.pooling.tokens import Mean
    from doctune.settings import EncoderSettings
    from doctune.text.tokenizer import TextTokenizer

    tokenizer = TextTokenizer.load(minilm)
    texts = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."]
    batch = pack([tokenizer.template.assemble(ids)[0].tolist() for ids in tokenizer.encode(texts)])
    encoder = load_encoder(minilm, EncoderSettings(encoder="minilm"), (-1,)).encoder.eval()
    assert encoder.packing == "packed"
    with torch.no_grad():
        states = encoder(batch)
        vectors = torch.nn.functional.normalize(Mean()(states.layers[0], states))
    cosines = [float(vectors[i] @ vectors[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert cosines == pytest.approx([0.6660, 0.1046, 0.1411], abs=5e-5)


def test_the_main_job_on_trec(minilm: Path, shared: Path, tmp_path: Path) -> None:
    """400 of the training questions for two epochs do far better than guessing (the largest class is 27.6 %)."""
    lines = (shared / "data" / "trec" / "train_5500.label").read_bytes().splitlines(keepends=True)
    (tmp_path / "train_5500.label").write_bytes(b"".join(lines[:400]))
    with pytest.raises(SystemExit) as stopped:
        main([
            "finetune", "--dataset", "trec", "--train", str(tmp_path / "train_5500.label"),
            "--test", str(shared / "data" / "trec" / "TREC_10.label"), "--encoder", "minilm", "--max-seq-len", "64",
            "--epochs", "2", "--output", str(tmp_path / "run"),
        ])  # fmt: skip
    assert stopped.value.code == 0
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["test"]["count"] == 500
    assert report["test"]["error_percent"] < 40
    assert [row["name"] for row in report["test"]["per_class"]] == ["LOC", "NUM", "HUM", "ENTY", "ABBR", "DESC"]
