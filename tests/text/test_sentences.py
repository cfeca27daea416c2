"""Sentences of English, other Latin scripts and Chinese; what ends one."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from doctune.errors import ConfigError
from doctune.settings import SentenceSettings
from doctune.text.sentences import lines, make_splitter, mostly_chinese


def split(text: str, **settings: Any) -> list[str]:
    return make_splitter(SentenceSettings(**settings))(text)


@pytest.mark.parametrize(
    "sentences",
    [
        ["Dr. Smith went to Washington.", "He met Mr. Jones at 5 p.m.", "They talked."],
        ["The price rose 3.5 percent to $1.2 billion.", "Analysts were surprised."],
        ["The U.S. economy grew.", "The U.S. President spoke.", "The end."],
        ['"I hate it," she said.', '"It is awful!"', "He left."],
        ["J. R. R. Tolkien wrote it.", "See Fig. 3 for details."],
        ["Shares of Google Inc. rose.", "IBM Corp. said so."],
        ["Visit www.example.com.", "It's good."],
        ["What?!", "No way."],
    ],
)
def test_english(sentences: list[str]) -> None:
    assert split(" ".join(sentences)) == sentences


def test_another_language() -> None:
    sentences = ["Herr Dr. Müller kommt am 3. Mai.", "Er bleibt z. B. bis Freitag.", "Schön!"]
    assert split(" ".join(sentences), language="de") == sentences


def test_a_sentence_does_not_cross_a_paragraph_but_does_cross_a_line() -> None:
    assert split("A title\n\nIt goes on\nover two lines. End") == ["A title", "It goes on\nover two lines.", "End"]
    assert split("A title\n \t\nText") == ["A title", "Text"]


def test_html_line_breaks_end_a_sentence() -> None:
    text = "I liked it<br /><br />not really<BR>but 1 < 2"
    assert split(text) == ["I liked it", "not really", "but 1 < 2"]
    assert split(text, html_breaks="keep") == ["I liked it<br />", "<br />", "not really<BR>", "but 1 < 2"]


def test_chinese_sentences_end_after_closing_quotes() -> None:
    text = "他说：「你好吗？」我很好！！今天天气3.5度。没有句号"
    expected = ["他说：「你好吗？」", "我很好！！", "今天天气3.5度。", "没有句号"]
    assert split(text) == split(text, splitter="chinese") == expected
    assert split("标题\n\u3000\u3000今天很好。") == ["标题", "今天很好。"]


def test_which_text_is_chinese() -> None:
    assert mostly_chinese("图书馆 is a library 图书馆图书馆图书馆")
    assert not mostly_chinese("The word 图书馆 means library in Chinese.")
    assert not mostly_chinese("")
    assert split("He said 你好。Then he left. Yes.", splitter="auto")[-1] == "Yes."


def test_lines_end_at_line_feeds_only() -> None:
    assert lines(" one \r\n\n \x0b\n two\u2028three ") == ["one", "two\u2028three"]
    assert split("One. Two.\nThree", splitter="none") == ["One. Two.", "Three"]


@pytest.mark.parametrize("text", ["", " \n ", "<br />"])
def test_nothing_gives_no_sentence(text: str) -> None:
    assert split(text) == []


def test_spacy_by_its_rules() -> None:
    pytest.importorskip("spacy")
    assert split("It is good. He left!\n\nNew", splitter="spacy") == ["It is good.", "He left!", "New"]
    with pytest.raises(ConfigError, match="no_such_model"):
        split("x", splitter="spacy", spacy_model="no_such_model")


def test_spacy_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ConfigError, match=r"pip install 'doctune\[spacy\]'"):
        split("x", splitter="spacy")


def test_a_language_is_a_code() -> None:
    with pytest.raises(ConfigError, match="'English' is no language code"):
        split("x", language="English")
