"""How well a model fills in masked words, and tells true pairs from others, on documents that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from doctune.devices import Device
from doctune.models.pretraining import PretrainingModel
from doctune.tensors import MaskedBatch


@torch.inference_mode()
def measure(model: PretrainingModel, batches: Sequence[MaskedBatch], device: Device) -> dict[str, float]:
    """Mean loss and accuracy over masked words, and over pairs where there are any; `held_out_loss` is their sum.

    `pair_majority` is the accuracy of always giving the more frequent answer: of short documents most pairs are random.
    """
    training, random = model.training, 0.0
    model.eval()
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    right: dict[str, float] = {}
    for batch in batches:
        moved = batch.to(device.torch)
        with device.autocast():
            words, pairs = model(moved)
            losses = model.losses_of(words, pairs, moved)
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + loss.sum.item()
            counts[name] = counts.get(name, 0.0) + loss.count.item()
        if moved.pair_labels is not None:
            random += float(moved.pair_labels.sum())
        for name, logits, labels in (("mlm", words, moved.masked_labels), ("pair", pairs, moved.pair_labels)):
            if logits is not None and labels is not None:
                right[name] = right.get(name, 0.0) + float((logits.argmax(-1) == labels).sum())
    model.train(training)
    figures = {f"{name}_loss": sums[name] / counts[name] for name in sums}
    figures |= {f"{name}_accuracy": right[name] / counts[name] for name in sums}
    if "pair" in counts:
        figures["pair_majority"] = max(random, counts["pair"] - random) / counts["pair"]
    return {"held_out_loss": sum(value for name, value in figures.items() if name.endswith("_loss")), **figures}
