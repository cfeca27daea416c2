"""Documents in and out of a shard."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, replace
from pathlib import Path

import pytest

from doctune.errors import DataError
from doctune.examples import Example
from doctune.store.build import build_shard, cached_shard
from doctune.store.shards import ROWS_PER_CHUNK, Shard
from doctune.text.tokenizer import Ids, TextTokenizer

EMPTY = ["", "   ", "\n\t", "\u200b", "\u200b \u200b"]


class Counting(TextTokenizer):
    """Counts the texts that it is given."""

    texts = 0

    def encode(self, texts: Sequence[str]) -> list[Ids]:
        self.texts += len(texts)
        return super().encode(texts)


def documents(count: int) -> list[Example]:
    return [
        Example(
            f"näme {i}", f"the film {i} is 好 great ünd" * (1 + i % 3), str(i % 3),
            text_pair=f"a book {i}" if i % 2 else None, group=f"g{i // 10}" if i % 5 else None,
        )
        for i in range(count)
    ]  # fmt: skip


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*")) if folder.exists() else []


def test_round_trip_over_several_chunks(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    examples = documents(2 * ROWS_PER_CHUNK + 345)
    built = build_shard(iter(examples), tokenizer, tmp_path, "train")
    shard = Shard(built.shard.path)
    assert (len(shard), built.left_out_empty) == (len(examples), 0)
    assert shard.column("id") == [e.id for e in examples]
    assert shard.column("label") == [e.label for e in examples]
    assert shard.column("group") == [e.group for e in examples]
    assert shard.column("text") == [e.text if e.text_pair is None else f"{e.text}\n{e.text_pair}" for e in examples]
    first = tokenizer.encode([e.text for e in examples])
    second = tokenizer.encode([e.text_pair or "" for e in examples])
    for row in (0, 1, 999, 1000, 1001, 1999, 2000, 2344, 7):
        ids, pair = shard.tokens(row)
        assert ids.tolist() == first[row].tolist()
        assert (pair is None) == (examples[row].text_pair is None)
        assert pair is None or pair.tolist() == second[row].tolist()
        assert shard.value("id", row) == examples[row].id
    assert shard.lengths().tolist() == [[len(a), len(b)] for a, b in zip(first, second, strict=True)]
    assert list(shard.values("label", [2001, 3, 1000])) == [examples[row].label for row in (2001, 3, 1000)]


def test_empty_documents_are_left_out_and_counted(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    examples = documents(ROWS_PER_CHUNK + 20)
    mixed = [Example(f"e{i}", text, "0") for i, text in enumerate(EMPTY * 10)] + examples
    built = build_shard(mixed, tokenizer, tmp_path, "train")
    assert built.left_out_empty == len(EMPTY) * 10
    assert built.shard.column("id") == [e.id for e in examples]
    for row in (0, 999, 1000, 1019):
        assert built.shard.tokens(row)[0].tolist() == tokenizer.encode([examples[row].text])[0].tolist()


def test_a_document_with_a_second_text_only_is_not_empty(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    built = build_shard([Example("a", "", "0", text_pair="the film")], tokenizer, tmp_path, "train")
    first, second = built.shard.tokens(0)
    assert len(first) == 0
    assert second is not None
    assert second.tolist() == tokenizer.encode(["the film"])[0].tolist()


@pytest.mark.parametrize(("texts", "message"), [(EMPTY, "every document is empty"), ([], "there is no document")])
def test_nothing_left(tmp_path: Path, tokenizer: TextTokenizer, texts: list[str], message: str) -> None:
    folder = tmp_path / "shards"
    with pytest.raises(DataError, match=f"^train: {message}"):
        build_shard([Example(str(i), t, "0") for i, t in enumerate(texts)], tokenizer, folder, "train")
    assert names(folder) == []


def test_an_error_while_reading_leaves_no_file(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    def damaged():  # type: ignore[no-untyped-def]
        yield from documents(1500)
        raise DataError("line 1501 is ragged")

    with pytest.raises(DataError, match="line 1501"):
        build_shard(damaged(), tokenizer, tmp_path / "shards", "train")
    assert names(tmp_path / "shards") == []


def test_the_hash_is_that_of_documents_and_tokenizer(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    lower = TextTokenizer(tokenizer.tokenizer.from_str(tokenizer.tokenizer.to_str()), {})
    lower.tokenizer.normalizer.lowercase = False
    examples = documents(30)
    changed = [*examples[:-1], Example("last", "the film", "0")]

    def name(number: int, documents: list[Example], using: TextTokenizer) -> str:
        return build_shard(documents, using, tmp_path / str(number), "train").shard.path.name

    first = name(0, examples, tokenizer)
    assert first == name(1, examples, tokenizer)
    assert len({first, name(2, examples, lower), name(3, changed, tokenizer)}) == 3


def test_the_cache_does_not_tokenise_twice(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    counting = Counting(tokenizer.tokenizer, {})
    examples = [*documents(40), Example("empty", " ", "0")]
    first = cached_shard(iter(examples), counting, tmp_path, "train")
    seen = counting.texts
    assert seen >= 41
    again = cached_shard(iter(examples), counting, tmp_path, "train")
    assert counting.texts == seen
    assert (again.left_out_empty, again.shard.path) == (1, first.shard.path)
    assert again.shard.column("id") == first.shard.column("id")
    cached_shard(iter(examples[1:]), counting, tmp_path, "train")
    assert counting.texts > seen


def test_lone_surrogates_become_replacement_characters(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    examples = [Example("a", "the \ud83d film", "0", text_pair="good \udc00"), Example("b", "\ud83d\ude00 ok", "1")]
    shard = build_shard(examples, tokenizer, tmp_path, "train").shard
    assert shard.column("text")[0] == "the \ufffd film\ngood \ufffd"
    assert shard.column("label") == ["0", "1"]


def test_the_cache_finds_documents_with_lone_surrogates(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    counting = Counting(tokenizer.tokenizer, {})
    examples = [Example("a", "the \ud83d film", "0"), Example("b", "the book", "1")]
    cached_shard(iter(examples), counting, tmp_path, "train")
    seen = counting.texts
    cached_shard(iter(examples), counting, tmp_path, "train")
    assert counting.texts == seen


def test_lone_surrogates_are_tokenised_as_by_the_original(golden: Path, tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes((golden / "vocab.txt").read_bytes())
    cases = json.loads((golden / "tokenization.json").read_text(encoding="utf-8"))["lone_surrogates"]
    texts = [case["text_escaped"].encode().decode("unicode_escape") for case in cases]
    assert all(any("\ud800" <= character <= "\udfff" for character in text) for text in texts)
    documents = [Example(str(i), text, "0") for i, text in enumerate(texts)]
    shard = build_shard(documents, TextTokenizer.load(tmp_path), tmp_path, "train").shard
    assert [shard.tokens(row)[0].tolist() for row in range(len(shard))] == [case["lower"]["ids"] for case in cases]


def test_a_damaged_file(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    path = build_shard(documents(50), tokenizer, tmp_path, "train").shard.path
    for name, content in (("cut", path.read_bytes()[:-100]), ("text", b"no arrow at all"), ("empty", b"")):
        damaged = tmp_path / f"{name}.arrow"
        damaged.write_bytes(content)
        with pytest.raises(DataError, match=rf"{name}\.arrow: not a shard .*remove it and run again"):
            Shard(damaged)
    with pytest.raises(DataError, match=r"gone\.arrow: not a shard"):
        Shard(tmp_path / "gone.arrow")


def test_a_file_that_was_damaged_inside(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    path = build_shard(documents(50), tokenizer, tmp_path, "train").shard.path
    size = os.path.getsize(path)
    with path.open("r+b") as file:
        file.seek(8)
        file.write(b"\xff" * (size // 8))
    with pytest.raises(DataError, match="not a shard"):
        Shard(path)


def test_several_at_once_fill_one_cache(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    """As runs of a study do: the same documents are tokenised once, and others do not come in between."""
    kinds = [[Example(str(i), f"{word} film {i}") for i in range(60)] for word in ("good", "bad", "long")]
    with ThreadPoolExecutor(3) as pool:
        built = list(pool.map(lambda number: cached_shard(kinds[number % 3], tokenizer, tmp_path, "train"), range(9)))
    for number, one in enumerate(built):
        assert [one.shard.value("text", row) for row in range(60)] == [e.text for e in kinds[number % 3]]
    assert len(list(tmp_path.glob("*.arrow"))) == 3


def test_the_name_of_a_shard_changes_with_all_that_its_documents_are(tmp_path: Path, tokenizer: TextTokenizer) -> None:
    """Shards are known by their names: in a cache, and in what a checkpoint belongs to."""
    first, last = Example("a", "the film", "0", "a book", "g"), Example("b", "the place", "1")
    changes = {"id": "other", "text": "the food", "label": "7", "text_pair": "two", "group": "h"}
    assert set(changes) == {field.name for field in fields(Example)}
    other_files = [[replace(first, **{name: value}), last] for name, value in changes.items()]
    other_files += [
        [last, first], [first], [first, last, last], [replace(first, group=None), last],
        # The same letters elsewhere: what stands in which field is told apart.
        [replace(first, id="at", text="he film"), last],
    ]  # fmt: skip
    for build in (build_shard, cached_shard):
        name = build([first, last], tokenizer, tmp_path, "train").shard.path.name
        assert build(iter([first, last]), tokenizer, tmp_path, "train").shard.path.name == name
        others = [build(examples, tokenizer, tmp_path, "train").shard.path.name for examples in other_files]
        assert len({name, *others}) == 1 + len(others)
