"""A corpus from documents: the same bytes however it is made, and the contract of its folder."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doctune.errors import DataError, UserError
from doctune.readers.documents import open_documents
from doctune.settings import CorpusSettings, ReadingSettings
from doctune.store import corpus_part
from doctune.store.corpus import Corpus
from doctune.store.corpus_build import build_corpus, cut
from doctune.store.corpus_part import Document, Part, Piece, Worker
from doctune.text.tokenizer import TextTokenizer

Build = Callable[..., Corpus]
WORDS = "the film was good and bad one two three market money science he she they".split()  # noqa: SIM905


def documents(count: int, source: int = 0) -> list[Document]:
    random = np.random.default_rng(source)
    made = []
    for number in range(count):
        sentences = [
            " ".join(random.choice(WORDS, random.integers(3, 9))).capitalize() + "." for _ in range(number % 5)
        ]
        made.append(Document(f"d{number}", source, " ".join(sentences)))
    return made


def settings(folder: Path, **more: Any) -> CorpusSettings:
    tree = {"output": str(folder), "encoder": "x", "name": "c", "sources": ["a", "b"], "shard_bytes": 2000, **more}
    return CorpusSettings.build(tree)


@pytest.fixture
def build(tmp_path: Path, tokenizer: TextTokenizer) -> Build:
    def build(
        made: Sequence[Document] | Iterator[Document], name: str = "corpus", workers: int = 1,
        excluded: Sequence[Document] = (), finished: Callable[[Part], None] = lambda part: None, **more: Any,
    ) -> Corpus:  # fmt: skip
        return build_corpus(made, settings(tmp_path / name, **more), tokenizer, workers, excluded, finished)

    return build


def files(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_what_a_corpus_holds(build: Build, tokenizer: TextTokenizer) -> None:
    made = [
        Document("first", 0, "The film was good. He was not!\n\nA market"),
        Document("nothing", 1, " \n<br />\u200b"),
        Document("split", 1, "One. Two.\n \nthree", split_already=True),
    ]
    corpus = build(made, sources=["a", {"path": "b", "weight": 0.5}])
    [shard] = corpus.shards
    assert shard.ids() == ["first", "split"]
    assert shard.sources.tolist() == [0, 1]
    assert shard.documents.tolist() == [0, 3, 5]
    assert shard.word_starts is None
    expected = tokenizer.encode(["The film was good.", "He was not!", "A market", "One. Two.", "three"])
    assert np.array_equal(shard.input_ids, np.concatenate(expected))
    assert np.diff(shard.sentences).tolist() == [len(ids) for ids in expected]
    manifest = corpus.manifest
    assert [(s.documents, s.sentences, s.left_out) for s in manifest.sources] == [(1, 3, 0), (1, 2, 1)]
    assert corpus.weights.tolist() == [1.0, 0.5]
    assert manifest.left_out == {"empty": 1}
    assert (manifest.total.documents, manifest.total.tokens) == (2, len(shard.input_ids))
    assert list(corpus.ledger()) == [{"id": "nothing", "source": "b", "reason": "empty", "kept": False}]
    assert corpus.tokenizer().hash == tokenizer.hash == manifest.tokenizer.hash
    assert sorted(p.name for p in corpus.folder.iterdir()) == [
        "corpus.json", "ledger.jsonl", "shards", "tokenizer.json", "tokenizer_config.json",
    ]  # fmt: skip


def test_any_number_of_workers_gives_the_same_bytes(build: Build) -> None:
    made = documents(300) + documents(100, 1)
    excluded = [Document("e", 0, made[14].text)]
    same = [
        files(build(made, str(n), n, excluded, leaks={"exclude": ["test"]}).folder) for n in (1, 2, 4)
    ]  # fmt: skip
    assert same[0] == same[1] == same[2]
    assert sum(name.startswith("shards/") for name in same[0]) > 8


def test_an_interrupted_corpus_goes_on(build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = documents(300)
    text = tmp_path / "text"
    whole = files(build(made, "whole", write_text=str(text / "whole")).folder)

    def broken() -> Iterator[Document]:
        yield from made[:150]
        raise KeyboardInterrupt

    remade: list[int] = []
    make = Worker._make

    def record(self: Worker, piece: corpus_part.Piece, key: str) -> Part:
        remade.append(piece.number)
        return make(self, piece, key)

    for workers in (1, 2):
        name = f"again{workers}"
        with pytest.raises(KeyboardInterrupt):
            build(broken(), name, workers, write_text=str(text / name))
        with pytest.raises(DataError, match="is not finished; run the same doctune corpus command again"):
            Corpus.open(tmp_path / name)
        done = {p.name: p.stat().st_mtime_ns for p in (tmp_path / name / "shards").iterdir()}
        assert len(done) >= 2
        remade.clear()
        with monkeypatch.context() as patch:
            patch.setattr(Worker, "_make", record)
            corpus = build(made, name, 1, write_text=str(text / name))
        assert files(corpus.folder) == whole
        assert (text / name).read_bytes() == (text / "whole").read_bytes()
        assert remade == [number for number in range(len(corpus.shards)) if number >= len(done)]
        assert done.items() <= {p.name: p.stat().st_mtime_ns for p in (corpus.folder / "shards").iterdir()}.items()


def test_a_piece_whose_input_changed_is_made_again(build: Build) -> None:
    made = documents(100)

    def broken() -> Iterator[Document]:
        yield from made
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(broken(), "a")
    changed = [Document("new", 0, "A new film."), *made]
    assert files(build(changed, "a").folder) == files(build(changed, "b").folder)


def _killed() -> None:
    os._exit(9)


def test_a_killed_worker_leaves_what_is_finished(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    made = documents(200)
    with monkeypatch.context() as patch:
        patch.setattr("doctune.store.corpus_workers._start", _killed)
        with pytest.raises(UserError, match=r"was killed.*run the same command again"):
            build(made, "a", 2)
    assert files(build(made, "a").folder) == files(build(made, "b").folder)


def test_a_folder_is_not_overwritten(build: Build, tmp_path: Path) -> None:
    build(documents(9), "done")
    with pytest.raises(DataError, match="holds a finished corpus"):
        build(documents(9), "done")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(DataError, match="is not empty"):
        build(documents(9), "full")

    def broken() -> Iterator[Document]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        build(broken(), "other")
    with pytest.raises(DataError, match="unfinished corpus of other sources, settings or tokenizer"):
        build(documents(9), "other", sentences={"language": "de"})


def test_no_document_is_left(build: Build, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no documents: the sources have none; check the files"):
        build([])
    with pytest.raises(DataError, match="no documents: all were left out: 2 empty"):
        build([Document("a", 0, ""), Document("b", 0, "\n")], "b")
    assert not (tmp_path / "b" / "unfinished").exists()


def test_the_leak_guard_and_its_ledger(build: Build) -> None:
    leaked = "The film was good and he was bad. She and they had one market for money."
    made = [Document("fine", 0, "One two three."), Document("leak", 0, leaked.upper()), Document("void", 0, "")]
    excluded = [Document("t1", 0, "Something else."), Document("t2", 1, leaked)]
    guarded = build(made, "a", excluded=excluded, leaks={"exclude": ["validation.csv", "test.csv"]})
    assert guarded.shards[0].ids() == ["fine"]
    assert guarded.manifest.left_out == {"empty": 1, "exact": 1}
    assert guarded.manifest.kept == {}
    assert [(e.name, e.texts) for e in guarded.manifest.exclude] == [("validation.csv", 1), ("test.csv", 1)]
    entry = {
        "id": "leak", "source": "a", "reason": "exact", "kept": False, "excluded": "t2", "excluded_source": "test.csv",
        "similarity": 1.0,
    }  # fmt: skip
    assert next(guarded.ledger()) == entry
    leaks = {"exclude": ["validation.csv", "test.csv"], "transductive": True}
    kept = build(made, "b", excluded=excluded, leaks=leaks)
    assert kept.shards[0].ids() == ["fine", "leak"]
    assert kept.manifest.transductive
    assert (kept.manifest.left_out, kept.manifest.kept) == ({"empty": 1}, {"exact": 1})
    assert next(kept.ledger()) == {**entry, "kept": True}


def test_excluded_texts_must_be_there(build: Build) -> None:
    with pytest.raises(DataError, match=r"leaks\.exclude: test\.csv has no texts"):
        build(documents(9), leaks={"exclude": ["test.csv"]})


def test_the_text_form_goes_round(build: Build, golden: Path, tmp_path: Path) -> None:
    def read(path: Path) -> list[Document]:
        [part] = open_documents(str(path), ReadingSettings(format="sentences"))
        return [Document(e.id, 0, e.text, part.split_already) for e in part.read()]

    first = build(read(golden / "pretraining_instances" / "corpus.txt"), "a", write_text=str(tmp_path / "a.txt"))
    total = first.manifest.total
    assert (total.documents, total.sentences) == (70, 455)
    second = build(read(tmp_path / "a.txt"), "b", write_text=str(tmp_path / "b.txt"))
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()
    assert second.manifest.total == total
    assert all(np.array_equal(a.input_ids, b.input_ids) for a, b in zip(first.shards, second.shards, strict=True))


def test_words_of_chinese(build: Build) -> None:
    pytest.importorskip("rjieba")
    [shard] = build([Document("a", 0, "the film。我们看书。")], sentences={"segmenter": "jieba"}).shards
    assert shard.word_starts is not None
    assert len(shard.word_starts) == len(shard.input_ids)
    assert build([Document("a", 0, "the film")], "b").shards[0].word_starts is None


def test_pieces_are_cut_by_bytes_of_text() -> None:
    made = [Document(str(i), 0, text) for i, text in enumerate(["aaaa", "图", "b", "c" * 99, "d", ""])]
    assert [[d.id for d in piece.documents] for piece in cut(made, 7)] == [["0", "1"], ["2"], ["3"], ["4", "5"]]


def test_half_an_emoji_is_no_obstacle(build: Build) -> None:
    assert build([Document("a", 0, "the film \ud83d was good")]).manifest.total.documents == 1


def test_memory_does_not_grow_with_the_corpus(build: Build) -> None:
    def stream(count: int) -> Iterator[Document]:
        for round_ in range(count):
            yield from (Document(f"{round_}-{d.id}", 0, d.text) for d in documents(50))

    def peak(name: str, count: int) -> int:
        tracemalloc.start()
        build(stream(count), name, shard_bytes=20_000)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak("warm", 2)
    small, large = peak("small", 30), peak("large", 300)
    assert large < 1.5 * small


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "corpus.json").unlink(), "no corpus.json here; make a corpus with doctune corpus"),
        (lambda folder: (folder / "corpus.json").write_text("{}"), "corpus.json: not a corpus of this doctune"),
        (lambda folder: next((folder / "shards").iterdir()).unlink(), "the shard shards/.* is missing"),
    ],
)
def test_a_damaged_corpus(build: Build, damage: Callable[[Path], object], message: str) -> None:
    folder = build(documents(9)).folder
    damage(folder)
    with pytest.raises(DataError, match=message):
        Corpus.open(folder)


def test_a_damaged_shard_and_another_tokenizer(build: Build) -> None:
    folder = build(documents(9)).folder
    next((folder / "shards").iterdir()).write_bytes(b"nothing")
    with pytest.raises(DataError, match="not a shard of a corpus"):
        len(Corpus.open(folder).shards[0])
    made = json.loads((folder / "tokenizer.json").read_text())
    made["normalizer"]["lowercase"] = False
    (folder / "tokenizer.json").write_text(json.dumps(made))
    with pytest.raises(DataError, match="are not those the corpus was made with"):
        Corpus.open(folder).tokenizer()


def test_the_key_of_a_piece_changes_with_all_that_its_shard_is_made_from() -> None:
    """A piece that an interrupted run finished is taken as it is by its key alone."""
    one, two = Document("a", 0, "The film."), Document("b", 1, "A book. Or two.")
    same = [replace(one), replace(two)]
    changes: dict[str, Any] = {"id": "other", "source": 7, "text": "The film!", "split_already": True}
    assert set(changes) == {field.name for field in fields(Document)}
    key = Piece(3, [one, two]).key("settings")
    assert Piece(3, same).key("settings") == key
    others = [Piece(3, [one, replace(two, **{name: value})]).key("settings") for name, value in changes.items()]
    others += [
        Piece(3, [two, one]).key("settings"),
        Piece(3, [one]).key("settings"),
        Piece(3, [one, two, two]).key("settings"),
        Piece(3, [one, two]).key("other settings"),
        # The same letters elsewhere: what stands in the id and what in the text are two things.
        Piece(3, [replace(one, id="aT", text="he film."), two]).key("settings"),
    ]
    assert len({key, *others}) == 1 + len(others)


@pytest.mark.parametrize("transductive", [False, True])
def test_counts_of_what_was_left_out_agree_with_the_ledger(build: Build, transductive: bool) -> None:
    """Every document of a source is in the corpus or left out, and one that is kept though it leaks is in it."""
    made = documents(60) + [replace(document, id=f"e{n}") for n, document in enumerate(documents(40, 1))]
    excluded = [Document("t0", 0, made[14].text), Document("t1", 0, made[74].text)]
    corpus = build(made, excluded=excluded, leaks={"exclude": ["test"], "transductive": transductive})
    ledger = list(corpus.ledger())
    manifest = corpus.manifest
    ids = [name for shard in corpus.shards for name in shard.ids()]
    assert {made[14].id, made[74].id} <= {line["id"] for line in ledger if line["reason"] == "exact"}
    gone = [line["id"] for line in ledger if not line["kept"]]
    assert sorted(ids + gone) == sorted(document.id for document in made)
    assert all((line["id"] in ids) == line["kept"] for line in ledger)
    assert all(line["kept"] == (transductive and line["reason"] != "empty") for line in ledger)
    for number, source in enumerate(manifest.sources):
        whole = sum(document.source == number for document in made)
        assert source.left_out == sum(line["source"] == source.name and not line["kept"] for line in ledger)
        assert source.documents + source.left_out == whole
    for kept, counts in ((False, manifest.left_out), (True, manifest.kept)):
        assert counts == Counter(line["reason"] for line in ledger if line["kept"] == kept)
