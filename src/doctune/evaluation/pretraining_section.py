"""What a report of fine-tuning says of the further pre-training of its encoder, from the facts in the folder of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from doctune.evaluation.comparison import CorpusFacts, PretrainingFacts, read_facts
from doctune.evaluation.schema import PretrainingSection


class Compared(BaseModel):
    """Texts that a corpus was searched for."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    texts: int


class Corpus(CorpusFacts):
    """A corpus, with what its leak guard did."""

    exclude: list[Compared] | None = None
    left_out: dict[str, int] | None = None


class Facts(PretrainingFacts):
    """A pre-training run, and the one before it whose encoder it began with."""

    objective: str | None = None
    corpus: Corpus = Corpus()
    before: Facts | None = None


def further_pretraining(encoder: Path) -> list[PretrainingSection]:
    """The pre-training runs that made the encoder in a folder, the latest first; empty where the folder tells of none.

    Raises `CheckpointError` if its file of facts is damaged.
    """
    facts, found = read_facts(encoder, Facts), []
    while facts is not None:
        corpus = facts.corpus
        found.append(
            PretrainingSection(
                base_encoder=facts.base_encoder,
                objective=facts.objective,
                steps=facts.steps,
                kept_step=facts.kept_step,
                tokens=facts.tokens,
                seconds=facts.seconds,
                corpus=corpus.name,
                documents=corpus.documents,
                compared_with=[{"name": one.name, "texts": one.texts} for one in corpus.exclude or ()],
                left_out=corpus.left_out or {},
                transductive=bool(corpus.transductive),
            )
        )
        facts = facts.before
    return found


def pretraining_warnings(runs: Sequence[PretrainingSection]) -> list[str]:
    """What a reader must know of the pre-training: that it saw the texts of a test set."""
    return [
        f"The encoder was further pre-trained on the corpus {run['corpus'] or 'of no name'}, which holds texts of the "
        f"test set (transductive): on those, these figures say less of new documents. Say so beside them."
        for run in runs
        if run["transductive"]
    ]
