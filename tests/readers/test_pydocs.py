"""The embedded data set, on the libraries that are installed here."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from doctune.errors import DataError
from doctune.examples import Example
from doctune.readers import pydocs
from doctune.readers.pydocs import INSTALLED, PyDocsReader, mask, without_licence

Write = Callable[[str, str | bytes], Path]


@pytest.fixture(scope="module")
def both() -> dict[str, list[Example]]:
    return {split: list(PyDocsReader().read(Path(INSTALLED), split)) for split in ("train", "test")}


def test_size_and_classes(both: dict[str, list[Example]]) -> None:
    train, test = both["train"], both["test"]
    assert {example.label for example in train} == {example.label for example in test}
    assert len({example.label for example in train}) >= 4
    assert 1500 <= len(train) <= 2400
    assert 300 <= len(test) <= 600


def test_no_module_and_no_text_on_both_sides(both: dict[str, list[Example]]) -> None:
    train, test = both["train"], both["test"]
    assert not {example.group for example in train} & {example.group for example in test}
    texts = [" ".join(example.text.split()) for example in train + test]
    assert len(texts) == len(set(texts))
    assert min(len(text.split()) for text in texts) >= 8
    ids = [example.id for example in train + test]
    assert len(ids) == len(set(ids))


def test_names_are_masked(both: dict[str, list[Example]]) -> None:
    for example in both["train"] + both["test"]:
        assert example.label is not None
        assert example.label.lower() not in example.text.lower(), example.id
        assert not re.search(r"copyright|all rights reserved", example.text, re.IGNORECASE), example.id


def test_the_same_again_and_nothing_imported() -> None:
    reader = PyDocsReader(packages=("markupsafe", "jinja2", "networkx"), train_per_library=10, test_per_library=3)
    before = set(sys.modules)
    first = list(reader.read(Path(INSTALLED), "train"))
    assert not {name for name in set(sys.modules) - before if name.startswith(("markupsafe", "jinja2", "networkx"))}
    pydocs._picked.cache_clear()
    assert first == list(reader.read(Path(INSTALLED), "train"))
    assert len(first) > 10


def test_mask() -> None:
    assert (
        mask("Use torch.nn, PyTorch and `is_torch_ok`. TORCH!", "torch")
        == "Use library.nn, library and `library`. library!"
    )
    assert mask("import numpy as np; np.array, snippet", "numpy") == "import library as library; library.array, snippet"
    assert mask("pip runs a pipeline; PIP", "pip") == "library runs a pipeline; library"
    assert mask("the huggingface-hub, Hugging Face Hub", "huggingface_hub") == "the library, library"


def test_licences_are_dropped() -> None:
    assert (
        without_licence("Does it.\n\nCopyright 2020 Someone.\nAll rights reserved.\n\nSee there.")
        == "Does it.\n\nSee there."
    )


def test_a_folder_of_libraries(write: Write, tmp_path: Path) -> None:
    words = "this docstring has well over eight words in it, number"
    for library in ("alpha", "beta"):
        for number in range(40):
            code = f'"""{library.title()} {words} {library} {number}."""\ndef f():\n    """Too short."""\n'
            write(f"{library}/module_{number}.py", code)
        write(f"{library}/broken.py", "def (")
        write(f"{library}/tests/test_it.py", f'"""{words} test."""')
    reader = PyDocsReader(packages=("alpha", "missing", "beta"))
    train, test = (list(reader.read(tmp_path, split)) for split in ("train", "test"))
    # The texts of the two libraries are equal once their names are masked, so the second has none left.
    assert {example.label for example in train + test} == {"alpha"}
    assert len(train) + len(test) == 40
    assert 2 <= len(test) <= 16
    assert all("library" in example.text for example in train)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found 0 of the libraries"):
        list(PyDocsReader().read(tmp_path, "train"))
    with pytest.raises(DataError, match="found 1 of the libraries jinja2, no_such_library"):
        list(PyDocsReader(packages=("jinja2", "no_such_library")).read(Path(INSTALLED), "train"))
    with pytest.raises(DataError, match="no split 'validation'"):
        list(PyDocsReader().read(Path(INSTALLED), "validation"))
