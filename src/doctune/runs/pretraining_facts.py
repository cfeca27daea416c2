"""What an encoder's folder says of its further pre-training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from doctune.models.pretrained_folder import FACTS
from doctune.models.pretraining import PretrainingLoaded
from doctune.settings import PretrainSettings
from doctune.store.corpus import Corpus
from doctune.training.state import TrainingState
from doctune.version import __version__


class Described(Protocol):
    """What is told of a run."""

    @property
    def settings(self) -> PretrainSettings:
        """Its settings, complete."""
        ...

    @property
    def corpus(self) -> Corpus:
        """Its corpus."""
        ...

    @property
    def start(self) -> Path:
        """The folder of the encoder that it began with."""
        ...

    @property
    def new_pieces(self) -> Mapping[int, Sequence[int]]:
        """Pieces that the encoder's vocabulary did not have."""
        ...


def facts_of(
    job: Described, loaded: PretrainingLoaded, state: TrainingState, warmed_up: float, best: int = -1
) -> dict[str, Any]:
    """What the encoder's folder says of its pre-training."""
    manifest, settings, encoder = job.corpus.manifest, job.settings, loaded.model.encoder
    evaluation = state.records[best].evaluation if state.records else None
    return {
        "doctune": __version__,
        "base_encoder": settings.start.encoder or f"from scratch: {settings.start.from_scratch}",
        "before": _before(job),
        "encoder": {
            "hidden_size": encoder.hidden_size,
            "num_layers": encoder.num_layers,
            "num_parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
            "packing": encoder.packing,
        },
        "objective": settings.pairs.objective,
        "steps": state.step,
        "tokens": state.tokens,
        "seconds": round(state.seconds, 1),
        "kept_step": state.records[best].step if state.records else state.step,
        "new_heads": list(loaded.new_heads),
        "new_pieces": len(job.new_pieces),
        "head_warmup": warmed_up,
        "held_out": evaluation.record if evaluation else None,
        "corpus": {
            "name": manifest.name,
            "sources": [source.model_dump(mode="json") for source in manifest.sources],
            **manifest.total.model_dump(mode="json"),
            "exclude": [record.model_dump(mode="json") for record in manifest.exclude],
            "left_out": manifest.left_out,
            "kept": manifest.kept,
            "transductive": manifest.transductive,
            "vocabulary": manifest.vocabulary.model_dump(mode="json") if manifest.vocabulary else None,
        },
        "settings": settings.model_dump(mode="json", exclude={"output": True}),
    }


def _before(job: Described) -> dict[str, Any] | None:
    """The facts of the encoder that this run began with: what it had seen stays seen."""
    path = job.start / FACTS
    if job.settings.start.encoder is None or not path.is_file():
        return None
    facts: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return facts
