"""The Python examples of the documents run as they stand, on data and an encoder of the names that they use."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import doctune

ROOT = Path(__file__).parents[1]
NEEDED = ("README.md", "docs/finetuning.md", "docs/features.md")


def examples(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def test_no_page_with_examples_is_forgotten() -> None:
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    assert sorted(str(page.relative_to(ROOT)) for page in pages if examples(page)) == sorted(NEEDED)


@pytest.fixture(scope="module")
def place(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the files that the examples name; `bert-base-uncased` has six layers of random weights."""
    from doctune.encoders.scratch import bert_config, new_bert

    folder = tmp_path_factory.mktemp("documents")
    encoder = folder / "bert-base-uncased"
    encoder.mkdir()
    shutil.copy(tiny_encoder / "vocab.txt", encoder)
    size = len((encoder / "vocab.txt").read_text(encoding="utf-8").splitlines())
    new_bert(encoder, bert_config(size, 6, 16, 64, 8), seed=0)
    for name in ("reviews.csv", "test.csv"):
        rows = [f"the {word} {i} was {word},{stars}" for i in range(60) for word, stars in (("good", 5), ("bad", 1))]
        (folder / name).write_text("review,stars\n" + "\n".join(rows) + "\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


def run(page: str, **names: object) -> None:
    blocks = examples(ROOT / page)
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_the_examples_of_the_readme_and_of_fine_tuning(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("README.md")
    assert 0 <= float(capsys.readouterr().out.splitlines()[-1]) <= 100
    assert (place / "runs" / "reviews" / "report.html").is_file()
    run("docs/finetuning.md", doctune=doctune)


def test_the_examples_of_features(place: Path) -> None:
    for kind in ("parquet", "safetensors"):
        doctune.features(
            "reviews.csv", "bert-base-uncased", f"reviews.{kind}", text="review", layers=5, token_pooling="mean"
        )
    run("docs/features.md")
