"""Every setting of every command, with its default and a line of explanation.

They are here, on a floor that never imports torch, and not beside the components, so that `--help`, `--dry-run` and a
mistyped setting answer at once. A component receives its own section, never the whole run's. Command-line flags are
made from the fields: `optimizer.learning_rate` is `--learning-rate`.
"""

from doctune.settings.components import BiLstmSettings
from doctune.settings.corpus import CorpusSettings, LeakSettings, ReadingSettings, SentenceSettings, SourceSettings
from doctune.settings.features import ExtractionSettings, FeatureFileSettings, ProbeSettings
from doctune.settings.finetuning import (
    EMBEDDED_DATASET,
    Column,
    DataSettings,
    EncoderSettings,
    FeatureSettings,
    FinetuneSettings,
    LayerwiseSettings,
    OptimizerSettings,
    ScheduleSettings,
    TrainingSettings,
    TruncationSettings,
)
from doctune.settings.flat import dotted_fields, flat_names, from_flat
from doctune.settings.multitask import (
    ContinuationSettings,
    MixtureSettings,
    MultitaskSettings,
    TaskLeakSettings,
    TaskSettings,
)
from doctune.settings.pretraining import MaskingSettings, PairSettings, PretrainSettings, StartSettings
from doctune.targets.base import TargetSettings

__all__ = [
    "EMBEDDED_DATASET",
    "BiLstmSettings",
    "Column",
    "ContinuationSettings",
    "CorpusSettings",
    "DataSettings",
    "EncoderSettings",
    "ExtractionSettings",
    "FeatureFileSettings",
    "FeatureSettings",
    "FinetuneSettings",
    "LayerwiseSettings",
    "LeakSettings",
    "MaskingSettings",
    "MixtureSettings",
    "MultitaskSettings",
    "OptimizerSettings",
    "PairSettings",
    "PretrainSettings",
    "ProbeSettings",
    "ReadingSettings",
    "ScheduleSettings",
    "SentenceSettings",
    "SourceSettings",
    "StartSettings",
    "TargetSettings",
    "TaskLeakSettings",
    "TaskSettings",
    "TrainingSettings",
    "TruncationSettings",
    "dotted_fields",
    "flat_names",
    "from_flat",
]
