"""Plain text as documents, and sources of a corpus."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doctune.errors import ConfigError, DataError
from doctune.examples import Example
from doctune.readers import plain
from doctune.readers.documents import open_documents
from doctune.settings import ReadingSettings, SourceSettings

Write = Callable[[str, str | bytes], Path]


def read(path: object, **reading: Any) -> list[Example]:
    return [example for part in open_documents(str(path), ReadingSettings(**reading)) for example in part.read()]


def texts(path: object, **reading: Any) -> list[str]:
    return [example.text for example in read(path, **reading)]


def test_the_originals_form_with_its_quirks(write: Write) -> None:
    path = write("c.txt", " one \ntwo\r\n \t \n\n\nthree\u2028still three\rand still\n")
    assert texts(path, format="sentences") == ["one\ntwo", "three\u2028still three\rand still"]
    assert [example.id for example in read(path, format="sentences")] == ["c.txt:1", "c.txt:2"]


def test_the_golden_corpus(golden: Path) -> None:
    documents = texts(golden / "pretraining_instances" / "corpus.txt", format="sentences")
    assert len(documents) == 70
    # One of the 456 lines that are not blank (U+200B) has no tokens; building drops it.
    assert sum(text.count("\n") + 1 for text in documents) == 456


def test_prose_is_a_document_a_file(write: Write) -> None:
    path = write("book.txt.xz", "One.\n\nTwo.\n")
    assert read(path) == [Example("book.txt", "One.\n\nTwo.\n")]
    assert texts(path, documents="blank-lines") == ["One.", "Two."]


def test_a_huge_document_is_probably_many(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "LONGEST_DOCUMENT", 10)
    path = write("c.txt", "a line\nanother line\n")
    with pytest.raises(DataError, match=r"c\.txt: a document of more than 10 characters.*--format sentences"):
        read(path)


def test_a_folder_of_files_of_several_formats(write: Write) -> None:
    write("in/b.jsonl.gz", '{"text": "from b"}\n')
    write("in/a.csv", "text\nfrom a\n")
    write("in/deep/c.txt", "from c")
    folder = write("in/.hidden", "no").parent
    assert texts(folder) == ["from a", "from b", "from c"]
    assert texts(write("texts/x", "one").parent) == ["one"], "a file without a known ending is text"
    (folder / "empty").mkdir()
    with pytest.raises(DataError, match="no files in this folder"):
        read(folder / "empty")


def test_several_columns_are_paragraphs(write: Write) -> None:
    path = write("a.csv", "title,body,more\nT,B,M\nonly,,\n")
    assert texts(path, text=("title", "body"), text_pair="more") == ["T\n\nB\n\nM", "only"]


def test_a_known_data_set_with_its_splits(write: Write) -> None:
    write("ag/train.csv", '"3","A title","The text."\n')
    folder = write("ag/test.csv", '"1","B title","More."\n').parent
    assert texts(f"ag_news:{folder}") == ["A title\n\nThe text."]
    assert texts(f"ag_news:{folder}:train+test") == ["A title\n\nThe text.", "B title\n\nMore."]
    assert texts(f"ag_news:{folder / 'test.csv'}") == ["B title\n\nMore."]
    with pytest.raises(DataError, match="no validation split of ag_news"):
        read(f"ag_news:{folder}:validation")


def test_imdb_without_labels(write: Write) -> None:
    folder = write("imdb/unsup.jsonl", '{"id": "u", "text": "A film."}\n').parent
    assert read(f"imdb:{folder}:unsup") == [Example("u", "A film.")]


def test_a_file_may_have_a_colon_in_its_name(write: Write) -> None:
    assert texts(write("imdb:train.txt", "text")) == ["text"]


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("imbd:data:train", ConfigError, "no data set 'imbd'; did you mean 'imdb'"),
        ("nothing.jsonl", DataError, "no such file"),
        ("imdb:nowhere", DataError, "nowhere: no such file"),
    ],
)
def test_what_is_not_there(path: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        read(path)


def test_an_unknown_format(write: Write) -> None:
    with pytest.raises(DataError, match=r"no known format '\.doc', known are .*\.txt; name it with --format"):
        read(write("a.doc", "x"))
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        read(write("a.txt", "x"), format="folder")


def test_a_source_has_its_own_settings() -> None:
    source = SourceSettings(path="x", text=("body",), header=False)
    reading = source.reading(ReadingSettings(encoding="latin-1", text=("text",)))
    assert (reading.text, reading.header, reading.encoding) == (("body",), False, "latin-1")
