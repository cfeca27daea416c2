"""`doctune corpus`: documents in, a corpus for further pre-training out."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from doctune.commands.command import GOES_ON, Call, Command, flag
from doctune.errors import ConfigError

if TYPE_CHECKING:
    from doctune.settings import CorpusSettings
    from doctune.store.corpus import Corpus, VocabularyRecord

USAGE = """
  doctune corpus SOURCE... [--exclude FILE...] --encoder DIR_OR_ID [--add-pieces N] --output DIR [any setting below]
  doctune corpus SOURCE... [--exclude FILE...] --new-vocabulary SIZE --output DIR [any setting below]
  doctune corpus --config FILE --output DIR [any setting below]
  doctune corpus --stats CORPUS [--task SOURCE...] [--json FILE]"""
EXAMPLES = """examples:
  doctune corpus reviews.jsonl --exclude test.csv --encoder bert-base-uncased --output corpora/reviews
  doctune corpus imdb:DIR:train+unsup --exclude imdb:DIR:test --encoder minilm --output corpora/imdb
  doctune corpus notes/ --encoder bert-base-uncased --add-pieces 2000 --output corpora/notes
  doctune corpus texts/ --new-vocabulary 16000 --output corpora/general
  doctune corpus task.csv domain/ --weights 2 0.5 --text body --encoder ./my-encoder --output corpora/mixed
An interrupted corpus goes on when the same command is run again.
"""
SECTIONS = {
    "": "corpus", "reading": "reading", "sentences": "sentences", "leaks": "leak guard",
}  # fmt: skip
STATISTICS = "statistics (makes no corpus)"
SUSPICIOUS = 20
"""Documents left out for one excluded text that make one ask whether it is boilerplate."""


def _settings() -> type[CorpusSettings]:
    from doctune.settings import CorpusSettings

    return CorpusSettings


def _run(call: Call) -> None:
    from doctune.settings import ReadingSettings

    args, tree = call.args, dict(call.tree)
    if args.stats is not None:
        from doctune.commands.corpus_stats import stats

        print(stats(args.stats, args.task or (), ReadingSettings.build(tree.get("reading", {}), flags=True), args.json))
        return
    for name in ("task", "json"):
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name}: only with --stats CORPUS")
    if args.weights is not None and len(args.weights) != len(args.source):
        raise ConfigError(f"--weights: {len(args.weights)} for {len(args.source)} sources; give one for each SOURCE")
    if args.source:
        weights = args.weights or [1.0] * len(args.source)
        tree["sources"] = [{"path": p, "weight": w} for p, w in zip(args.source, weights, strict=True)]
    settings = _settings().build(tree, flags=True)
    from doctune.runs.corpus import run

    corpus = run(settings)
    for note in boilerplate(corpus):
        print(note, file=sys.stderr)
    print(summary(corpus))


def summary(corpus: Corpus) -> str:
    """What was made and what was left out, in a few lines."""
    from doctune.store.corpus import LEDGER

    manifest = corpus.manifest
    total = manifest.total
    lines = [f"{total.documents:,} documents, {total.sentences:,} sentences, {total.tokens:,} tokens"]
    if len(manifest.sources) > 1:
        lines += [
            f"  {source.name}: {source.documents:,} documents, {source.tokens:,} tokens, "
            f"weight {source.weight:g}, {source.left_out:,} left out"
            for source in manifest.sources
        ]  # fmt: skip
    for what, counts in (("left out", manifest.left_out), ("KEPT though excluded (transductive)", manifest.kept)):
        if counts:
            lines.append(f"{what}: {', '.join(f'{count:,} {reason}' for reason, count in counts.items())}")
    if manifest.vocabulary is not None:
        lines += _vocabulary(manifest.vocabulary, manifest.tokenizer.vocab_size)
    if manifest.left_out or manifest.kept:
        lines.append(f"ledger  {corpus.folder / LEDGER}")
    return "\n".join([*lines, f"corpus  {corpus.folder}"])


def _vocabulary(record: VocabularyRecord, size: int) -> list[str]:
    """The corpus's own vocabulary, and how far it breaks words."""
    after, before = record.after, record.before
    if before is None:
        return [
            f"vocabulary: {record.pieces:,} word pieces; {after.pieces_per_word:.3f} of them a word, "
            f"{100 * after.broken:.1f} % of the words in two or more, {100 * after.unknown:.2g} % unknown"
        ]
    return [
        f"vocabulary: {record.pieces:,} new pieces, {size:,} in all: {', '.join(record.first)}"
        + (", ..." if record.pieces > len(record.first) else ""),
        f"pieces a word: {before.pieces_per_word:.3f} before, {after.pieces_per_word:.3f} now; words in two or more: "
        f"{100 * before.broken:.1f} % before, {100 * after.broken:.1f} % now",
    ]


def boilerplate(corpus: Corpus) -> list[str]:
    """A note for each excluded text that many documents are like: that may be boilerplate."""
    counts = Counter(f"{e['excluded_source']} {e['excluded']}" for e in corpus.ledger() if "excluded" in e)
    return [
        f"note: {count:,} documents are like the one excluded text {name}; if that is boilerplate, raise --similarity"
        for name, count in counts.most_common()
        if count >= SUSPICIOUS
    ]


COMMAND = Command(
    "corpus", "make a corpus for further pre-training from documents", _run,
    settings=_settings, sections=SECTIONS, skip=("sources",),
    flags=(
        flag("source", nargs="*", metavar="SOURCE", help="file, folder, hf:NAME[:SPLIT], or NAME:FOLDER[:SPLIT+SPLIT]"),
        flag(
            "--weights", nargs="+", metavar="NUMBER", help="a weight for each SOURCE: how often it is used in one pass"
        ),
        flag("--stats", group=STATISTICS, metavar="CORPUS", help="print what a finished corpus holds"),
        flag(
            "--task", group=STATISTICS, nargs="+", metavar="SOURCE",
            help="with --stats: texts whose words to look for in it",
        ),
        flag("--json", group=STATISTICS, metavar="FILE", help="with --stats: also write the figures as JSON"),
    ),
    usage=USAGE, examples=EXAMPLES, interrupted=GOES_ON,
)  # fmt: skip
