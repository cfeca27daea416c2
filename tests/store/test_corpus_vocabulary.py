"""A vocabulary of the corpus's own: learnt once, from what the leak guard lets through, by any number of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctune.errors import ConfigError
from doctune.settings import CorpusSettings
from doctune.store import corpus_vocabulary
from doctune.store.corpus import Corpus
from doctune.store.corpus_build import build_corpus
from doctune.store.corpus_part import Document
from doctune.text.tokenizer import TextTokenizer

Build = Callable[..., Corpus]
WORDS = "the film slapstick comedies were hilarious and unfunny science she they moviegoers".split()  # noqa: SIM905
NEW = {"encoder": None, "new_vocabulary": 120}
MORE = {"add_pieces": 5}


def documents(count: int) -> list[Document]:
    random = np.random.default_rng(0)
    return [Document(f"d{n}", 0, " ".join(random.choice(WORDS, random.integers(3, 30))) + ".") for n in range(count)]


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def build(tmp_path: Path, tokenizer: TextTokenizer) -> Build:
    def build(
        made: Sequence[Document], name: str = "corpus", workers: int = 1, excluded: Sequence[Document] = (),
        second: Sequence[Document] | Iterator[Document] | None = None, **more: Any,
    ) -> Corpus:  # fmt: skip
        tree = {"output": str(tmp_path / name), "encoder": "x", "name": "c", "sources": ["a"], "shard_bytes": 2000}
        settings = CorpusSettings.build({**tree, **more})
        given = None if settings.new_vocabulary else tokenizer
        second = made if second is None else second
        return build_corpus(second, settings, given, workers, excluded, first_pass=made)

    return build


@pytest.mark.parametrize("how", [NEW, MORE])
def test_any_number_of_workers_gives_the_same_bytes(build: Build, how: dict[str, Any]) -> None:
    made = documents(200)
    excluded = [Document("e", 0, made[14].text)]
    one, two = (
        files(build(made, str(n), n, excluded, leaks={"exclude": ["test"]}, **how).folder) for n in (1, 2)
    )  # fmt: skip
    assert one == two
    assert sum(name.startswith("shards/") for name in one) > 4


def test_new_pieces_are_used_and_counted(build: Build, tokenizer: TextTokenizer) -> None:
    made = documents(100)
    plain, more = build(made, "plain"), build(made, "more", **MORE)
    record = more.manifest.vocabulary
    assert plain.manifest.vocabulary is None
    assert record is not None
    assert record.before is not None
    assert set(record.first) == {"slapstick", "comedies", "hilarious", "moviegoers", "unfunny"}
    assert (record.kind, record.pieces) == ("extended", 5)
    assert more.manifest.tokenizer.vocab_size == tokenizer.size + 5
    assert more.tokenizer().hash == more.manifest.tokenizer.hash
    assert record.after.pieces_per_word < record.before.pieces_per_word
    assert record.after.broken < record.before.broken
    saved = plain.manifest.total.tokens - more.manifest.total.tokens
    assert saved == round(record.before.words * (record.before.pieces_per_word - record.after.pieces_per_word))
    assert sum(int((shard.input_ids >= tokenizer.size).sum()) for shard in more.shards) > 20


def test_a_new_vocabulary_fits_its_texts(build: Build) -> None:
    corpus = build(documents(100), **NEW)
    record = corpus.manifest.vocabulary
    assert record is not None
    assert record.kind == "new"
    assert record.pieces == corpus.tokenizer().size == corpus.manifest.tokenizer.vocab_size
    assert record.after.unknown == 0
    assert corpus.tokenizer().mask_id == 4
    assert record.after.pieces_per_word < 1.2


def test_excluded_texts_do_not_shape_the_vocabulary(build: Build) -> None:
    leaked = "the very peculiar xylophones of zanzibar were played by quixotic jazz musicians all day"
    made = [*documents(50), *(Document(f"leak{n}", 0, f"{leaked} {n}") for n in range(120))]
    for how in (NEW, MORE):
        name = next(iter(how))
        free = build(made, f"{name}-free", **how).tokenizer().tokenizer.get_vocab()
        guarded = build(made, f"{name}-guarded", 1, [Document("e", 0, leaked)], leaks={"exclude": ["test"]}, **how)
        assert sum(guarded.manifest.left_out.values()) == 120
        assert guarded.tokenizer().tokenizer.get_vocab() != free
        allowed = build(documents(50), f"{name}-clean", **how).tokenizer().tokenizer.get_vocab()
        assert guarded.tokenizer().tokenizer.get_vocab() == allowed


@pytest.mark.parametrize("how", [NEW, MORE])
def test_it_is_not_learnt_again(build: Build, monkeypatch: pytest.MonkeyPatch, how: dict[str, Any]) -> None:
    made = documents(100)
    whole = files(build(made, "whole", **how).folder)

    def broken() -> Iterator[Document]:
        yield from made[:60]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(made, "a", second=broken(), **how)

    def never(*_: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(corpus_vocabulary, "count_piece", never)
        assert files(build(made, "a", **how).folder) == whole


def test_other_excluded_texts_make_it_be_learnt_again(build: Build) -> None:
    made = documents(100)
    leaks = {"exclude": ["test"]}

    def broken() -> Iterator[Document]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        build(made, "a", 1, [Document("e", 0, "nothing like it")], broken(), leaks=leaks, **MORE)
    excluded = [Document("e", 0, made[0].text)]
    again = files(build(made, "a", 1, excluded, leaks=leaks, **MORE).folder)
    assert again == files(build(made, "b", 1, excluded, leaks=leaks, **MORE).folder)


def test_nothing_to_learn_leaves_the_folder_free(build: Build, tmp_path: Path) -> None:
    few = [Document("d", 0, "The film.")]
    with pytest.raises(ConfigError, match="add_pieces: no word that the tokenizer of x breaks occurs 5 times or more"):
        build(few, "a", **MORE)
    many = [Document("d", 0, "".join(chr(0x4E00 + n) for n in range(500)))]
    with pytest.raises(ConfigError, match="new_vocabulary: a vocabulary of 120 has room for 85 of the 500 different"):
        build(many, "a", **NEW)
    assert list((tmp_path / "a").iterdir()) == []
    build(documents(20), "a", **MORE)


def test_line_breaks_of_html_are_no_words(build: Build) -> None:
    made = [Document("d", 0, "films<br /><br />were " * 20)]
    corpus = build(made, add_pieces=9)
    assert corpus.manifest.vocabulary is not None
    assert set(corpus.manifest.vocabulary.first) == {"films", "were"}
