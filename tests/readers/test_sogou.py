"""Sogou News: the golden raw documents, and the choice of train and test."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from doctune.errors import DataError
from doctune.readers.sogou import HOSTS, SogouReader, sogou_documents

Write = Callable[[str, str | bytes], Path]


def test_golden_documents(shared: Path) -> None:
    folder = shared / "golden/sogou"
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    assert expected["hosts"] == HOSTS
    for file in ("part1.dat", "part2.dat"):
        entries = [entry for entry in expected["documents"] if entry["file"] == file]
        for entry, document in zip(entries, sogou_documents(folder / file), strict=True):
            assert document.url == entry["url"]
            assert document.docno == entry["docno"]
            assert document.title == entry["title"]
            assert document.label == entry["class"]
            assert bool(document.content and document.label) == entry["used"]
            if "bytes_invalid_in_gb18030" in entry["flags"]:
                before, after = entry["content"].split("<2 invalid bytes>")
                assert document.content is not None
                assert document.content.startswith(before)
                assert document.content.endswith(after)
                assert "\ufffd" in document.content
            else:
                assert document.content == entry["content"]


def test_golden_choice(shared: Path) -> None:
    folder = shared / "golden/sogou"
    expected = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
    reader = SogouReader()
    train, test = list(reader.read(folder, "train")), list(reader.read(folder, "test"))
    assert Counter(e.label for e in train + test) == expected["used_per_class"]
    assert {e.id for e in train + test} == {d["docno"] for d in expected["documents"] if d["used"]}
    assert not {e.text for e in train} & {e.text for e in test}
    assert set(Counter(e.label for e in test).values()) == {1}
    assert train == list(reader.read(folder, "train"))
    first = next(d for d in expected["documents"] if d["docno"] == train[0].id)
    assert train[0].text == f"{first['title']} {first['content']}"


def document(number: int, site: str, text: str) -> str:
    return (
        f"<doc>\n<url>http://{site}/{number}.shtml</url>\n<docno>{number}</docno>\n"
        f"<contenttitle></contenttitle>\n<content>{text}</content>\n</doc>\n"
    )


@pytest.mark.parametrize("name", ["raw.txt", "raw.txt.gz", "raw.dat.xz"])
def test_choice_is_disjoint_balanced_and_stable(write: Write, name: str) -> None:
    content = "".join(
        document(number, site, f"文章 {number % 90} {site}")
        for number in range(200)
        for site in list(HOSTS.values())[:2]
    )
    path = write(name, content.encode("gb18030"))
    small = SogouReader(train_per_class=40, test_per_class=10)
    train, test = list(small.read(path, "train")), list(small.read(path, "test"))
    assert Counter(e.label for e in train) == {"sports": 40, "house": 40}
    assert Counter(e.label for e in test) == {"sports": 10, "house": 10}
    texts = [e.text for e in train + test]
    assert len(texts) == len(set(texts))  # a repeated text counts once
    fewer = SogouReader(train_per_class=900, test_per_class=100)  # 90 different texts a class: 81 and 9
    assert Counter(e.label for e in fewer.read(path, "train")) == {"sports": 81, "house": 81}
    assert Counter(e.label for e in fewer.read(path, "test")) == {"sports": 9, "house": 9}


def test_nothing_usable(write: Write) -> None:
    path = write("a/raw.txt", document(1, "news.sohu.com", "x"))
    for place in (path, path.parent):
        with pytest.raises(DataError, match=r"no <doc> of sports\.sohu\.com"):
            list(SogouReader().read(place, "train"))
    with pytest.raises(DataError, match="no split 'validation'; there is train, test"):
        list(SogouReader().read(path, "validation"))
    with pytest.raises(DataError, match="no raw SogouCS files"):
        list(SogouReader().read(write("b/a.json", "{}").parent, "train"))
