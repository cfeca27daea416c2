"""From a document to its sentences.

A sentence never crosses a paragraph break: a blank line, or an HTML line break.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

import sentencex

from doctune.errors import ConfigError
from doctune.settings import SentenceSettings

Splitter = Callable[[str], list[str]]
"""Sentences of one paragraph or document, stripped, none of them empty."""

_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")
_HTML_BREAK = re.compile(r"<br\s{0,9}/?>", re.IGNORECASE)
_CHINESE_SENTENCE = re.compile(r"[^。？！\n]*(?:[。？！]+[」』”’》）】]*|\n|$)")
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\u3040-\u30ff\U00020000-\U0003ffff]")
_LETTER = re.compile(r"[^\W\d_]")


def make_splitter(settings: SentenceSettings) -> Splitter:
    """The splitter of documents that the settings name; `ConfigError` if it is not installed."""
    if settings.splitter == "none":
        return lines
    breaks = _breaks(settings.html_breaks == "keep")
    rules = _in_language(settings.language)
    match settings.splitter:
        case "rules":
            return lambda text: _each(rules, breaks(text))
        case "chinese":
            return lambda text: _each(chinese, breaks(text))
        case "spacy":
            model = _spacy(settings)
            return lambda text: _each(model, breaks(text))
        case _:
            return lambda text: _each(chinese if mostly_chinese(text) else rules, breaks(text))


def without_breaks(text: str) -> str:
    """The text with a space for each HTML line break, so that its characters are no words."""
    return _HTML_BREAK.sub(" ", text) if "<" in text else text


def lines(text: str) -> list[str]:
    """Each line that is not white space, stripped; only a line feed ends a line."""
    return _stripped(text.split("\n"))


def chinese(text: str) -> list[str]:
    """Chinese sentences: they end after 。？！ and the closing quotes that follow, and at the end of a line."""
    return _stripped(match[0] for match in _CHINESE_SENTENCE.finditer(text))


def mostly_chinese(text: str) -> bool:
    """Whether more than half of the letters are Chinese characters (or Japanese, whose sentences end alike)."""
    if text.isascii() or not _HAN.search(text):
        return False
    return 2 * len(_HAN.findall(text)) > len(_LETTER.findall(text))


def _in_language(language: str) -> Splitter:
    if not re.fullmatch(r"[a-z]{2,3}(-[A-Za-z]+)*", language):
        raise ConfigError(f"sentences.language: {language!r} is no language code; for instance en, de, fr, zh")
    return lambda text: _stripped(sentencex.segment(language, text))


def _spacy(settings: SentenceSettings) -> Splitter:
    try:
        import spacy  # optional, and slow to import
    except ImportError:
        raise ConfigError("sentences.splitter: spacy needs the spaCy library: pip install 'doctune[spacy]'") from None
    pipeline: Any
    try:
        if settings.spacy_model is not None:
            pipeline = spacy.load(settings.spacy_model)
        else:
            pipeline = spacy.blank(settings.language)
            pipeline.add_pipe("sentencizer")
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"sentences.splitter: spaCy cannot load it: {reason}") from None
    pipeline.max_length = 2**31
    return lambda text: _stripped(str(sentence) for sentence in pipeline(text).sents)


def _breaks(keep: bool) -> Callable[[str], list[str]]:
    """Paragraphs of a text; `keep`: an HTML line break stays at the end of its paragraph."""
    mark = r"\g<0>\n\n" if keep else "\n\n"

    def paragraphs(text: str) -> list[str]:
        if "<" in text:
            text = _HTML_BREAK.sub(mark, text)
        return _BLANK_LINE.split(text) if "\n" in text else [text]

    return paragraphs


def _each(split: Splitter, paragraphs: Iterable[str]) -> list[str]:
    return [sentence for paragraph in paragraphs for sentence in split(paragraph)]


def _stripped(parts: Iterable[str]) -> list[str]:
    return [part for part in map(str.strip, parts) if part]
