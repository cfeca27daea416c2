"""`doctune corpus --stats`: what a corpus holds, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from doctune.files import write_text
from doctune.readers.documents import open_documents
from doctune.settings import ReadingSettings
from doctune.store.corpus import Corpus
from doctune.store.corpus_stats import Lengths, Statistics, measure


def stats(folder: str, task: Sequence[str], reading: ReadingSettings, json: str | None) -> str:
    """The table for the corpus in `folder`, also written to `json`; `task`: sources whose words to look for."""
    corpus = Corpus.open(Path(folder).expanduser())
    texts = _texts(task, reading) if task else None
    figures = measure(corpus, texts)
    if json is not None:
        write_text(Path(json).expanduser(), figures.model_dump_json(indent=2) + "\n")
    return table(figures)


def _texts(task: Sequence[str], reading: ReadingSettings) -> Iterator[str]:
    for path in task:
        for part in open_documents(path, reading):
            for example in part.read():
                yield example.text


def table(figures: Statistics) -> str:
    """The figures for a terminal."""
    total = figures.total
    rows = [
        ("documents", f"{total.documents:,}"),
        ("sentences", f"{total.sentences:,}"),
        ("tokens", f"{total.tokens:,}"),
        ("tokens in a document", _spread(figures.document_tokens)),
        ("sentences in a document", _spread(figures.document_sentences)),
        ("tokens in a sentence", _spread(figures.sentence_tokens)),
        ("[UNK]", f"{figures.unknown:,} ({100 * figures.unknown / max(total.tokens, 1):.3g} % of the tokens)"),
        ("words", f"{figures.words:,}, {figures.pieces_per_word:.3f} pieces each"),
        ("words of 2 pieces or more", f"{100 * figures.share_broken(2):.2f} %"),
        ("words of 4 pieces or more", f"{100 * figures.share_broken(4):.2f} %"),
    ]
    if figures.overlap is not None:
        o = figures.overlap
        rows += [
            ("task", f"{o.texts:,} texts, {o.words:,} words, {o.types:,} different ones"),
            ("task's different words here", f"{o.types_found:,} ({100 * o.types_found / max(o.types, 1):.2f} %)"),
            ("task's words here", f"{o.words_found:,} ({100 * o.words_found / max(o.words, 1):.2f} %)"),
        ]
    width = max(len(name) for name, _ in rows)
    lines = [f"{name:<{width}}  {value}" for name, value in rows]
    if figures.broken_words:
        error = f", or up to {figures.count_error:,} more" if figures.count_error else ""
        lines.append(f"broken words that make the most tokens (times{error}):")
        lines += [f"  {' '.join(word.pieces)}  {word.count:,}" for word in figures.broken_words]
    return "\n".join(lines)


def _spread(lengths: Lengths) -> str:
    parts = (f"{'longest' if p == 100 else f'{p} %'} {value:,}" for p, value in lengths.percentiles.items())
    return f"mean {lengths.mean:.1f}; {', '.join(parts)}"
