"""The settings of `doctune features` and `doctune probe`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from doctune.config import Settings
from doctune.settings.choices import Choice, Section, options_field
from doctune.settings.components import PoolerSettings, poolings_without
from doctune.settings.finetuning import DataSettings, EncoderSettings, Layers, Options, TruncationSettings
from doctune.targets.base import TargetSettings

WITHOUT_WEIGHTS = poolings_without("encoder's", "new")
"""The token poolings that every encoder has: a probe tries them all."""
POOLED = Choice("token_pooling", lambda: ("tokens", *poolings_without("encoder's", "new"), PoolerSettings.name))


class ExtractionSettings(Section):
    """What is taken out of the encoder."""

    layers: Layers = Field(
        (-1,), description="encoder layers to write, counted from 0, or from the end if negative, or all"
    )
    token_pooling: Annotated[str, POOLED] = Field(
        "tokens", description="tokens: a vector for every word piece; the others: one vector for a document"
    )
    token_pooling_options: Options = options_field()


class FeatureFileSettings(Settings):
    """Everything `doctune features` needs besides the documents."""

    output: str = Field(description="file to write")
    output_format: Literal["auto", "parquet", "safetensors", "jsonl"] = Field(
        "auto", description="auto goes by the name of the output; jsonl is the form of BERT's extract_features.py"
    )
    encoder: EncoderSettings
    features: ExtractionSettings = ExtractionSettings()
    truncation: TruncationSettings = TruncationSettings()
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "fp32", description="features are kept and compared, so fp32; bf16 is faster where the processor has it"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")

    @model_validator(mode="before")
    @classmethod
    def _name_what_is_missing(cls, tree: Any) -> Any:
        return {"encoder": {}, **tree} if isinstance(tree, dict) else tree


class ProbeTrainingSettings(Settings):
    """What a probe leaves to choose."""

    seed: int = Field(42, description="seed of the hold-out and of the choice of train_examples")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the processor has it")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")


class ProbeSettings(Settings):
    """Everything `doctune probe` needs."""

    output: str = Field(description="directory to make; must be empty or new")
    data: DataSettings
    target: TargetSettings = TargetSettings()
    encoder: EncoderSettings
    truncation: TruncationSettings = TruncationSettings()
    training: ProbeTrainingSettings = ProbeTrainingSettings()

    @model_validator(mode="before")
    @classmethod
    def _name_what_is_missing(cls, tree: Any) -> Any:
        return {"data": {}, "encoder": {}, **tree} if isinstance(tree, dict) else tree
