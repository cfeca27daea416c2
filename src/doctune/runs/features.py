"""The vectors that an encoder has for tokens or documents, written to a file piece by piece."""

from __future__ import annotations

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from doctune.batches.collate import make_collator
from doctune.classifier.folder import DESCRIPTION, Description, StoredTruncation, load_model, read_description
from doctune.classifier.predictor import DOCUMENTS_AT_A_TIME, model_folder
from doctune.devices import choose_device
from doctune.encoders.base import FAMILIES
from doctune.encoders.load import asked_layers, load_encoder, read_config, read_shape
from doctune.encoders.resolve import encoder_in, resolve_encoder
from doctune.errors import ConfigError, DataError, TrainingError
from doctune.examples import Example
from doctune.files import atomic_path, stem
from doctune.pooling.tokens import Pooler
from doctune.progress import Progress, duration
from doctune.runs.extraction import Extractor
from doctune.runs.resolve import check_fit
from doctune.runs.trial import try_token_pooling, try_truncation
from doctune.settings import FeatureFileSettings, TruncationSettings
from doctune.settings.implementations import Own, choose, own_classes
from doctune.store.build import NothingToReadError, build_shard
from doctune.store.features import FeatureForm, FeatureRows, Vectors, feature_writer
from doctune.store.splits import make_dataset
from doctune.targets import SingleTarget
from doctune.tensors import Batch, HiddenStates
from doctune.text.tokenizer import TextTokenizer
from doctune.version import __version__

FORMATS = {
    ".parquet": "parquet", ".pq": "parquet", ".safetensors": "safetensors", ".jsonl": "jsonl", ".json": "jsonl",
}  # fmt: skip
BYTES_AT_A_TIME = 128 << 20


@dataclass(frozen=True, slots=True)
class FeatureFile:
    """What was written: `rows` are documents, or with token features all their tokens."""

    path: Path
    documents: int
    rows: int
    layers: tuple[int, ...]
    hidden_size: int
    token_pooling: str
    seconds: float

    def __str__(self) -> str:
        what = "tokens" if self.token_pooling == "tokens" else "documents"
        of = f" of {self.documents:,} documents" if what == "tokens" else f" ({self.token_pooling})"
        layers = f"layer{'s' if len(self.layers) > 1 else ''} {' '.join(map(str, self.layers))}"
        size = self.path.stat().st_size / 2**20
        return (
            f"{self.rows:,} {what}{of}, {layers}, {self.hidden_size} numbers each, "
            f"in {self.path} ({size:,.1f} MiB, {duration(self.seconds)})"
        )


def write_features(
    settings: FeatureFileSettings, name: str, documents: Callable[[FeatureEncoder], tuple[Iterator[Example], bool]]
) -> FeatureFile:
    """Everything from settings to the file, in memory that does not depend on the number of documents.

    `documents` opens them, and says whether they have labels; it is given the encoder, as a model knows how its
    documents are read. `name` is what an error calls them.
    """
    started = time.monotonic()
    path = Path(settings.output).expanduser()
    kind = _format(settings, path)
    encoder = open_encoder(settings)
    examples, labelled = documents(encoder)
    form = FeatureForm(
        encoder.layers, encoder.asked, encoder.hidden_size, settings.features.token_pooling, labelled,
        _facts(settings, encoder.truncation),
    )  # fmt: skip
    written = rows = 0
    with (
        atomic_path(path) as temporary,
        Progress(None, "features", "documents") as progress,
        feature_writer(kind, temporary, form) as writer,
    ):
        for piece in _pieces(examples, encoder.documents_at_a_time):
            features = encoder.rows(piece, progress)
            writer.write(features)
            written, rows = written + len(piece), rows + len(features.layers[0])
        if not written:
            raise DataError(f"{name}: there is no document")
    seconds = time.monotonic() - started
    return FeatureFile(path, written, rows, form.layers, form.hidden_size, form.pooling, seconds)


@dataclass(frozen=True, slots=True)
class FeatureEncoder:
    """An encoder with the pooling of its tokens, None for the tokens themselves; `asked` are the layers as given."""

    extractor: Extractor
    pooling: nn.Module | None
    tokenizer: TextTokenizer
    asked: tuple[int, ...]
    truncation: TruncationSettings
    description: Description | None

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers, counted from 0."""
        return self.extractor.encoder.layers

    @property
    def hidden_size(self) -> int:
        return self.extractor.encoder.hidden_size

    @property
    def documents_at_a_time(self) -> int:
        """As many as keep a piece's features within `BYTES_AT_A_TIME`."""
        longest = self.extractor.collator.max_seq_len if self.pooling is None else 1
        each = 4 * longest * self.hidden_size * len(self.layers)
        return min(max(BYTES_AT_A_TIME // each, 1), DOCUMENTS_AT_A_TIME)

    def rows(self, examples: list[Example], progress: Progress | None = None) -> FeatureRows:
        """The features of some documents; one without any token has those of the special tokens."""
        found: dict[int, tuple[npt.NDArray[np.int64], Vectors]] = {}
        with tempfile.TemporaryDirectory(prefix="doctune-") as folder:
            numbered = [replace(example, id=str(i)) for i, example in enumerate(examples)]
            try:
                shard = build_shard(numbered, self.tokenizer, Path(folder), "documents", show_progress=False).shard
            except NothingToReadError:
                pass
            else:
                dataset = make_dataset("documents", shard, SingleTarget(()), labelled=False)
                ids = dataset.ids()
                for batch, states in self.extractor.states(dataset, progress):
                    for row, one in zip(batch.rows.tolist(), self.vectors(batch, states), strict=True):
                        found[int(ids[row])] = one
        if len(found) < len(examples):
            batch = self.extractor.empty()
            (nothing,) = self.vectors(batch, self.extractor.run(batch))
            found = {i: found.get(i, nothing) for i in range(len(examples))}
        return self._joined(examples, [found[i] for i in range(len(examples))])

    def vectors(self, batch: Batch, states: HiddenStates) -> Iterator[tuple[npt.NDArray[np.int64], Vectors]]:
        """Of each document its token ids and its vectors [L, R, H]."""
        stacked = self._pooled(states)
        bounds = batch.cu_seqlens.tolist()
        input_ids = batch.input_ids.numpy()
        for place, (start, stop) in enumerate(itertools.pairwise(bounds)):
            rows = slice(start, stop) if self.pooling is None else slice(place, place + 1)
            yield input_ids[start:stop], stacked[:, rows]

    def _pooled(self, states: HiddenStates) -> Vectors:
        layers = states.layers
        if self.pooling is not None:
            with torch.inference_mode(), self.extractor.device.autocast():
                layers = tuple(self.pooling(layer, states) for layer in layers)
        return np.stack([layer.float().cpu().numpy() for layer in layers])

    def _joined(
        self, examples: list[Example], found: list[tuple[npt.NDArray[np.int64], Vectors]]
    ) -> FeatureRows:  # fmt: skip
        lost = [e.id for e, (_, vectors) in zip(examples, found, strict=True) if not np.isfinite(vectors).all()]
        if lost:
            named = ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
            raise TrainingError(f"features: the encoder gives no finite number for these documents: {named}")
        layers = [np.concatenate([vectors[i] for _, vectors in found]) for i in range(len(self.layers))]
        offsets = np.cumsum([0, *(vectors.shape[1] for _, vectors in found)], dtype=np.int64)
        ids = [example.id for example in examples]
        labels = [example.label for example in examples]
        if self.pooling is not None:
            return FeatureRows(ids, labels, layers, offsets)
        input_ids = np.concatenate([tokens for tokens, _ in found])
        return FeatureRows(ids, labels, layers, offsets, self.tokenizer.pieces(input_ids.tolist()), input_ids)


def open_encoder(settings: FeatureFileSettings, components: Sequence[str | type] = ()) -> FeatureEncoder:
    """The encoder or model that the settings name; a model truncates as it was trained, except for what is given."""
    name = settings.encoder.encoder
    model = model_folder(Path(name).expanduser())
    description = read_description(model) if (model / DESCRIPTION).is_file() else None
    folder = resolve_encoder(name, settings.encoder.revision) if description is None else encoder_in(model)
    tokenizer = TextTokenizer.load(folder)
    shape = read_shape(folder)
    cut = settings.truncation.model_dump(exclude_unset=True)
    if description is not None:
        cut = {**description.truncation.model_dump(), **cut}
    else:
        cut.setdefault("max_seq_len", min(settings.truncation.max_seq_len, shape.max_seq_len))
    own = own_classes(components)
    chosen_here = description is None or "truncation" in settings.truncation.model_fields_set
    truncation = (TruncationSettings if chosen_here else StoredTruncation).build(cut)
    try_truncation(choose("truncation", truncation, own))
    collator = make_collator(tokenizer, truncation, own)
    check_fit(tokenizer, shape, collator.max_seq_len, str(folder))
    device = choose_device(settings.device, settings.precision)
    there: int = read_config(folder).num_hidden_layers
    asked = settings.features.layers
    layers = asked_layers(asked, there)
    if len(set(layers)) < len(layers):
        raise ConfigError(f"features.layers: {' '.join(map(str, asked))} names a layer twice; there are {there}")
    # A model without its highest layers still counts them, or its last layer would be taken for the encoder's.
    total = None if description is None else description.num_layers
    loaded = load_encoder(folder, settings.encoder, layers, total)
    pooling: nn.Module | None = None
    kind = settings.features.token_pooling
    if kind == "pooler":
        pooling = (
            _pooler(folder if description is None else model, description, own, loaded.pooler, loaded.config.model_type)
            .to(device.torch)
            .eval()
        )
    elif kind != "tokens":
        part = choose("token_pooling", settings.features)
        try_token_pooling(part, loaded.encoder.hidden_size)
        pooling = part.make(hidden_size=loaded.encoder.hidden_size).eval()
        if any(True for _ in pooling.parameters()):
            raise ConfigError(f"features.token_pooling: {kind} has weights that were never trained; take another one")
    extractor = Extractor(loaded.encoder.to(device.torch).eval(), collator, device)
    numbers = layers if isinstance(asked, str) else asked
    return FeatureEncoder(extractor, pooling, tokenizer, numbers, truncation, description)


def _pooler(folder: Path, description: Description | None, own: Own, dense: nn.Linear | None, kind: str) -> nn.Module:
    if description is not None:
        pooling = load_model(folder, own=own)[0].task.token_pooling
        if isinstance(pooling, Pooler):
            return pooling
    elif dense is not None:
        return Pooler(dense, FAMILIES[kind].pooler_activation, True)
    raise ConfigError(f"features.token_pooling: {folder} has no trained pooler; take cls, mean or max")


def _pieces(examples: Iterator[Example], size: int) -> Iterator[list[Example]]:
    while piece := list(itertools.islice(examples, size)):
        yield piece


def _format(settings: FeatureFileSettings, path: Path) -> str:
    if path.is_dir():
        raise ConfigError(f"output: {path} is a folder; give the file to write")
    if settings.output_format != "auto":
        return settings.output_format
    suffix = stem(path)[1]
    if suffix not in FORMATS or path.name.endswith((".gz", ".xz")):
        raise ConfigError(
            f"output: {path} does not tell its format; end it with .parquet, .safetensors or .jsonl, or give "
            f"--output-format"
        )
    return FORMATS[suffix]


def _facts(settings: FeatureFileSettings, truncation: TruncationSettings) -> dict[str, str]:
    """What the features were made with, for the file's metadata."""
    return {
        "doctune": __version__,
        "encoder": settings.encoder.encoder,
        "token_pooling": settings.features.token_pooling,
        "truncation": truncation.model_dump_json(),
        "precision": settings.precision,
    }
