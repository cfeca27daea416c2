"""The leak guard finds copies, whatever was done to them, and leaves what is merely alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from doctune.store import leaks
from doctune.store.grams import comparable_lines
from doctune.store.leaks import LeakIndex, Match, write_index

WORDS = [f"{a}{b}{c}" for a in "bdfgklm" for b in "aeiou" for c in ("n", "rt", "sk", "lo")]


def text(seed: int, length: int) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, length))


REVIEW, SHORT, QUESTION = text(1, 120), text(2, 24), "What is the capital of Burkina Faso in Africa ?"
NEWS = f"{text(3, 6)}\n\n{text(4, 30)}"
EXCLUDED = [REVIEW, SHORT, QUESTION, NEWS]


@pytest.fixture
def find(tmp_path: Path) -> Callable[..., list[Match | None]]:
    def find(texts: Sequence[str], excluded: Sequence[str] = EXCLUDED, similarity: float = 0.5) -> list[Match | None]:
        write_index(excluded, tmp_path / "index")
        return LeakIndex(tmp_path / "index", similarity).find(texts)

    return find


def changed(source: str, *places: int) -> str:
    words = source.split()
    for place in places:
        words[place] = "other"
    return " ".join(words)


@pytest.mark.parametrize(
    ("copy", "of", "reason"),
    [
        (REVIEW, 0, "exact"),
        (REVIEW.upper().replace(" ", " <br /><br />", 3).replace(" ", ",  ", 9), 0, "exact"),
        ("<p>" + SHORT + " &quot; #39; </p>", 1, "exact"),
        (SHORT.replace(" ", "\u00a0\n"), 1, "exact"),
        (QUESTION, 2, "exact"),
        (f"{text(9, 50)}\n{QUESTION.lower()}\n{text(8, 50)}", 2, "exact"),
        (NEWS.split("\n\n")[1], 3, "exact"),
        (NEWS.replace("\n\n", " - "), 3, "exact"),
        (" ".join(REVIEW.split()[:60]), 0, "near-duplicate"),
        (" ".join(REVIEW.split()[50:]), 0, "near-duplicate"),
        (f"{text(7, 300)} {REVIEW} {text(6, 300)}", 0, "near-duplicate"),
        (f"{REVIEW} {SHORT}", 0, "near-duplicate"),
        (changed(REVIEW, 30), 0, "near-duplicate"),
        (changed(SHORT, 11), 1, "near-duplicate"),
        (changed(REVIEW, *range(0, 120, 12)), 0, "near-duplicate"),
    ],
)
def test_copies_are_found(find: Callable[..., list[Match | None]], copy: str, of: int, reason: str) -> None:
    [match] = find([copy])
    assert match is not None
    assert (match.text, match.reason) == (of, reason)
    assert 0.5 <= match.similarity <= 1


@pytest.mark.parametrize(
    "other",
    [
        text(5, 120),
        "What is the capital of Upper Volta in Africa ?",
        f"{text(9, 50)} {' '.join(REVIEW.split()[:15])} {text(8, 50)}",  # a quotation
        changed(REVIEW, *range(0, 120, 4)),
        NEWS.split("\n\n")[0],  # a title
        "",
        "?!",
        "Burkina Faso",
    ],
)
def test_what_is_merely_alike_stays(find: Callable[..., list[Match | None]], other: str) -> None:
    assert find([other]) == [None]


def test_the_threshold_is_a_setting(find: Callable[..., list[Match | None]]) -> None:
    half = changed(REVIEW, *range(0, 120, 9))
    [match] = find([half], similarity=0.3)
    assert match is not None
    assert match.similarity == pytest.approx(0.42, abs=0.05)
    assert find([half], similarity=0.5) == [None]


def test_boilerplate_of_many_excluded_texts_says_nothing(find: Callable[..., list[Match | None]]) -> None:
    footer = text(100, 40)
    excluded = [f"{text(200 + i, 20)} {footer}" for i in range(leaks.MOST_OWNERS + 1)]
    ordinary = f"{text(300, 20)} {footer}"
    copy = f"{excluded[3]} and more"
    assert find([ordinary, copy], excluded) == [None, Match(3, "near-duplicate", 1.0)]


def test_repeated_and_empty_excluded_texts(find: Callable[..., list[Match | None]]) -> None:
    excluded = ["", REVIEW, REVIEW.upper(), " "]
    assert find([REVIEW, changed(REVIEW, 5), ""], excluded) == [
        Match(1, "exact", 1.0), Match(1, "near-duplicate", 0.9569), None,
    ]  # fmt: skip


def test_chinese_characters_are_words(find: Callable[..., list[Match | None]]) -> None:
    chinese = "今天我们去图书馆看书，明天我们去公园散步，后天我们在家里休息。"
    found = find([chinese.replace("，", " "), chinese.replace("公园", "学校") + "很好", "我们今天休息。"], [chinese])
    assert [match and match.reason for match in found] == ["exact", "near-duplicate", None]


def test_markup_is_not_compared() -> None:
    wire = 'Google Inc. &lt;A HREF="http://x.y/z?a=b"&gt;GOOG.O&lt;/A&gt; said it #39;s \\nfine<br/>AT&amp;T'
    words = ["google", "inc", "goog", "o", "said", "it", "s"]
    assert comparable_lines(wire) == [words, ["fine"], ["at", "t"]]


def test_the_answer_depends_on_each_document_alone(find: Callable[..., list[Match | None]]) -> None:
    documents = [text(1000 + i, 40) for i in range(50)] + [changed(SHORT, 3), REVIEW]
    together = find(documents)
    assert together == [find([document])[0] for document in documents]
    assert [i for i, match in enumerate(together) if match] == [50, 51]


def test_a_similarity_that_is_just_the_threshold_is_a_match(find: Callable[..., list[Match | None]]) -> None:
    """The setting is the least similarity that counts: a document at it is out, one below it stays."""
    whole = text(20, 44).split()  # 40 grams
    for shared, share in ((20, 0.5), (24, 0.6), (10, 0.25)):
        document = " ".join([*whole[: shared + 4], *text(21, 60).split()])  # `shared` of its grams are the other's
        [match] = find([document], [" ".join(whole)], similarity=share)
        assert match == Match(0, "near-duplicate", share)
        assert find([document], [" ".join(whole)], similarity=share + 1e-6) == [None]


def test_how_many_words_in_a_row_are_a_near_duplicate(find: Callable[..., list[Match | None]]) -> None:
    """Eight grams of five words, which is twelve words in a row; of eleven words nothing is said."""
    whole = text(22, 14).split()
    least = leaks.FEWEST_GRAMS + 4
    assert least == 12
    for words, found in ((least, True), (least - 1, False)):
        document = " ".join([*whole[:words], *text(23, 30).split()])
        [match] = find([document], [" ".join(whole)], similarity=0.1)
        assert (match is not None) == found


def test_how_many_texts_make_a_phrase_a_common_one(find: Callable[..., list[Match | None]]) -> None:
    """A passage in `MOST_OWNERS` excluded texts still tells of each; one more, and it is boilerplate."""
    passage = text(24, 40)
    copy = f"{text(25, 5)} {passage} {text(26, 5)}"
    for owners, found in ((leaks.MOST_OWNERS, True), (leaks.MOST_OWNERS + 1, False)):
        [match] = find([copy], [f"{text(400 + i, 10)} {passage}" for i in range(owners)])
        assert (match is not None) == found


def test_how_many_words_make_a_line_of_a_document_comparable(find: Callable[..., list[Match | None]]) -> None:
    for words, found in ((leaks.SHORTEST_LINE, True), (leaks.SHORTEST_LINE - 1, False)):
        line = text(27, words)
        assert (find([f"{text(28, 30)}\n{line}"], [line])[0] is not None) == found
        # And the other way: a title and its text, of which the document has the text alone.
        titled = f"{text(29, 3)}\n{line}"
        assert (find([line], [titled])[0] is not None) == found
        assert find([titled], [titled]) == [Match(0, "exact", 1.0)]
