"""The settings of `doctune pretrain`; the defaults are the paper's (section 5.4 of Sun et al. 2019)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from doctune.config import Settings
from doctune.settings.finetuning import OptimizerSettings, ScheduleSettings

Probability = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]


class PairSettings(Settings):
    """How sentences become sequences. The semantics are those of the original's `create_pretraining_data.py`."""

    objective: Literal["nsp", "none", "sop"] = Field(
        "nsp", description="nsp: next sentence or one of another document; sop: two parts in order or swapped; "
        "none: masked words only, no pairs"
    )  # fmt: skip
    sequence_len: Annotated[int, Field(ge=8)] = Field(
        128, description="longest sequence in tokens, special tokens included"
    )
    short_seq_prob: Probability = Field(0.1, description="share of the documents cut into shorter sequences")
    duplication: Positive | None = Field(
        None, description="static data: pairs and masks repeat after so many passes, the original's dupe_factor; "
        "default: new ones in every pass"
    )  # fmt: skip


class MaskingSettings(Settings):
    """Which tokens are predicted."""

    masking: Literal["token", "whole-word"] = Field("token", description="what is masked as one")
    masked_lm_prob: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(0.15, description="share of the tokens to predict")
    max_predictions_per_seq: Positive | None = Field(
        None, description="most predictions in a sequence; default: masked_lm_prob times sequence_len, rounded up"
    )
    mask_fraction: Probability = Field(0.8, description="share of the chosen tokens that become [MASK]")
    random_fraction: Probability = Field(0.1, description="share that become a random token; the others stay")

    @model_validator(mode="after")
    def _fractions_fit(self) -> MaskingSettings:
        if self.mask_fraction + self.random_fraction > 1.0:
            raise ValueError("mask_fraction and random_fraction add up to more than 1")
        return self


class StartSettings(Settings):
    """The encoder to begin with, and how it computes."""

    encoder: str | None = Field(
        None, description="folder or hub id of an encoder of the BERT family, doctune-mini, or minilm"
    )
    from_scratch: str | None = Field(
        None, description="begin with random weights: mini (4 layers of 256), small (4x512), medium (8x512), or a "
        "config.json; with the corpus's own vocabulary"
    )  # fmt: skip
    revision: str | None = Field(None, description="revision of a hub id")
    packing: Literal["auto", "packed", "padded"] = Field(
        "auto", description="packed computes no padding; padded is the fallback; auto checks the encoder"
    )
    dropout: Annotated[float, Field(ge=0.0, lt=1.0)] | None = Field(
        None, description="dropout of hidden states; default: as the encoder's config says, 0 from scratch"
    )
    attention_dropout: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.0, description="dropout of attention probabilities; the original has 0.1, which is slower"
    )
    head_warmup: Annotated[float, Field(ge=0.0, lt=1.0)] | None = Field(
        None, description="share of the budget in which only the heads are trained, the encoder being frozen; "
        "default: 0.05 where the encoder has no head for masked words, else 0"
    )  # fmt: skip

    @model_validator(mode="after")
    def _one_start(self) -> StartSettings:
        if (self.encoder is None) == (self.from_scratch is None):
            raise ValueError("give either --encoder DIR_OR_ID or --from-scratch PRESET")
        return self


class PretrainOptimizerSettings(OptimizerSettings):
    """The optimiser of further pre-training."""

    learning_rate: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="peak learning rate; default: the paper's 5e-5; from scratch 1e-3"
    )


class PretrainTrainingSettings(Settings):
    """The training loop of further pre-training."""

    steps: Positive | None = Field(None, description="budget in optimiser steps; default: the paper's 100000")
    tokens: Positive | None = Field(None, description="budget in tokens, special tokens included")
    minutes: Annotated[float, Field(gt=0.0)] | None = Field(None, description="budget in minutes of training")
    batch_size: Positive = Field(32, description="sequences in a batch")
    accumulation: Positive = Field(1, description="batches whose gradients are added up before a step")
    short_share: Probability = Field(
        0.0, description="share of the budget, at its beginning, with short sequences: from scratch a model learns "
        "from them much faster at first"
    )  # fmt: skip
    short_len: Annotated[int, Field(ge=8)] = Field(
        32, description="length of those short sequences; a batch has as many more of them"
    )
    seed: int = Field(42, description="seed of everything random")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the processor has it")
    save_dtype: Literal["float32", "float16", "bfloat16"] = Field(
        "float32", description="how the encoder's weights are written; those of 16 bits take half the room"
    )  # fmt: skip
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass to save memory")
    held_out: Annotated[int, Field(ge=0)] = Field(
        500, description="documents kept out of training to measure on; at most a tenth of the corpus"
    )
    evaluations: Positive = Field(20, description="measurements on the held-out documents, evenly over the budget")
    snapshots: Annotated[int, Field(ge=0)] = Field(
        0, description="encoders to keep on the way, evenly over the budget, for doctune compare"
    )
    patience: Positive | None = Field(None, description="stop after so many measurements without improvement")
    checkpoint_minutes: Annotated[float, Field(ge=0.0)] = Field(
        10, description="minutes between checkpoints, from which --resume goes on"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")

    @model_validator(mode="after")
    def _one_budget(self) -> PretrainTrainingSettings:
        given = [name for name in ("steps", "tokens", "minutes") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"more than one budget: {' and '.join(given)}; give one of steps, tokens, minutes")
        return self


class PretrainSettings(Settings):
    """Everything `doctune pretrain` needs."""

    corpus: str = Field(description="corpus made by doctune corpus")
    output: str = Field(description="run directory to make; must be empty or new")
    start: StartSettings
    pairs: PairSettings = PairSettings()
    masking: MaskingSettings = MaskingSettings()
    optimizer: PretrainOptimizerSettings = PretrainOptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    training: PretrainTrainingSettings = PretrainTrainingSettings()

    @model_validator(mode="before")
    @classmethod
    def _name_what_is_missing(cls, tree: Any) -> Any:
        """A section without any setting is an empty one, so that the error names the setting that must be given."""
        return {"start": {}, **tree} if isinstance(tree, dict) else tree
