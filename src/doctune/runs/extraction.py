"""From documents to hidden states: the forward pass that features and probes share."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from doctune.batches.collate import Collator
from doctune.batches.plan import sorted_plan
from doctune.classifier.predictor import TOKENS_PER_BATCH
from doctune.devices import Device
from doctune.encoders.packed import TransformersEncoder
from doctune.errors import ConfigError
from doctune.progress import Progress
from doctune.store.splits import Dataset
from doctune.tensors import Batch, HiddenStates


@dataclass(frozen=True, slots=True)
class Extractor:
    """An encoder in evaluation mode with what feeding it needs; it gives the layers that it was loaded with."""

    encoder: TransformersEncoder
    collator: Collator
    device: Device

    def states(self, dataset: Dataset, progress: Progress | None = None) -> Iterator[tuple[Batch, HiddenStates]]:
        """The hidden states of all documents, batch by batch, in an order that suits the encoder: see `Batch.rows`."""
        for places in sorted_plan(self.collator.lengths(dataset), TOKENS_PER_BATCH):
            batch = self.collator(dataset, places)
            if len(batch.cu_seqlens) - 1 != batch.num_documents:
                raise ConfigError(
                    "truncation.truncation: features are those of one window a document; "
                    "take head+tail, head-only or tail-only"
                )
            yield batch, self.run(batch)
            if progress is not None:
                progress.advance(len(places))

    def run(self, batch: Batch) -> HiddenStates:
        """The hidden states of one batch."""
        # The caller may do as it likes between two batches, so the mode is set anew for each.
        with torch.inference_mode(), self.device.autocast():
            states: HiddenStates = self.encoder(batch.to(self.device.torch))
        return states

    def empty(self) -> Batch:
        """The batch of a text without any token: nothing but the special ones."""
        ids, types = self.collator.template.assemble(np.zeros(0, np.int32))
        return Batch(
            input_ids=torch.from_numpy(ids.astype(np.int64)), position_ids=torch.arange(len(ids)),
            token_type_ids=torch.from_numpy(types.astype(np.int64)), cu_seqlens=torch.tensor([0, len(ids)]),
            max_seqlen=len(ids), window_of=torch.zeros(1, dtype=torch.int64), rows=torch.zeros(1, dtype=torch.int64),
            lengths=(len(ids),),
        )  # fmt: skip
