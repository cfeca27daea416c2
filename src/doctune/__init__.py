"""doctune: the best text classifier an encoder can give from your own documents.

The public names load on first use, so that `import doctune` is fast and does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from doctune.version import __version__

if TYPE_CHECKING:
    from doctune.classifier.predictor import Predictor, load
    from doctune.commands.features import features
    from doctune.commands.probe import probe
    from doctune.errors import CheckpointError, ConfigError, DataError, DoctuneError, TrainingError, UserError
    from doctune.runs.comparing import compare
    from doctune.runs.evaluating import evaluate
    from doctune.runs.finetuning import finetune
    from doctune.runs.multitasking import multitask
    from doctune.runs.predicting import predict
    from doctune.runs.pretraining import pretrain
    from doctune.studies.command import study
    from doctune.studies.curve import curve

_HOMES = {
    "compare": "doctune.runs.comparing",
    "curve": "doctune.studies.curve",
    "features": "doctune.commands.features",
    "finetune": "doctune.runs.finetuning",
    "evaluate": "doctune.runs.evaluating",
    "multitask": "doctune.runs.multitasking",
    "pretrain": "doctune.runs.pretraining",
    "probe": "doctune.commands.probe",
    "predict": "doctune.runs.predicting",
    "study": "doctune.studies.command",
    "load": "doctune.classifier.predictor",
    "Predictor": "doctune.classifier.predictor",
    **dict.fromkeys(
        ("DoctuneError", "UserError", "ConfigError", "DataError", "CheckpointError", "TrainingError"), "doctune.errors"
    ),
}

__all__ = [
    "CheckpointError", "ConfigError", "DataError", "DoctuneError", "Predictor", "TrainingError", "UserError",
    "__version__", "compare", "curve", "evaluate", "features", "finetune", "load", "multitask", "predict", "pretrain",
    "probe", "study",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'doctune' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
