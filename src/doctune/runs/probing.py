"""Linear probes on every layer and pooling of an encoder: which of them to fine-tune."""

from __future__ import annotations

import itertools
import shlex
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from doctune.batches.collate import make_collator
from doctune.devices import Device, choose_device
from doctune.distributed import World
from doctune.encoders.load import load_encoder
from doctune.errors import TrainingError, UserError
from doctune.evaluation.probe import Probe, ProbeAnswers, advise, judge, sentences
from doctune.progress import Progress
from doctune.readers import sources
from doctune.report.probe import write_probe
from doctune.runs.data import Prepared, read, split
from doctune.runs.directory import PROBING, SHARDS, RunDirectory
from doctune.runs.extraction import Extractor
from doctune.runs.fit import FEWEST_TO_CHOOSE_BY, validation_documents
from doctune.runs.resolve import resolve
from doctune.settings import FinetuneSettings, ProbeSettings, dotted_fields
from doctune.settings.features import WITHOUT_WEIGHTS as NAMES
from doctune.settings.implementations import choose
from doctune.store.splits import Dataset, unseen_line
from doctune.training.logistic import choose_logistic
from doctune.version import __version__

# Features beyond this wait on the disk, in the run directory.
BYTES_IN_MEMORY = 1 << 30
Features = npt.NDArray[np.float32]


def run(settings: ProbeSettings, command: str) -> Probe:
    """Everything from settings to report; on bad input nothing half-written stays, and there is no going on."""
    with RunDirectory.open(settings.output, PROBING, False, World.single()) as place:
        output = place.output
        given = settings.model_dump(exclude_unset=True)
        resolved, folder, tokenizer = resolve(FinetuneSettings.build(given))
        device = choose_device(settings.training.device, settings.training.precision)
        collator = make_collator(tokenizer, resolved.truncation)
        found = sources(settings.data)
        place.make(settings)
        documents = read(settings.data, settings.target, found, tokenizer, output / SHARDS)
        prepared = split(resolved, documents, settings.training.seed)
        loaded = load_encoder(folder, resolved.encoder, "all")
        extractor = Extractor(loaded.encoder.to(device.torch).eval(), collator, device)
        with tempfile.TemporaryDirectory(prefix=".features-", dir=output) as scratch:
            started = time.monotonic()
            features = encode(extractor, prepared, Path(scratch))
            encoded = time.monotonic()
            answers = probes(features, prepared, device)
        cells, best = judge(answers)
        advised = advise(cells, best)
        layers = loaded.encoder.num_layers
        result: Probe = {
            "format": 1, "doctune": __version__, "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "command": command, "title": prepared.title,
            "encoder": {
                "name": settings.encoder.encoder, "num_layers": layers, "hidden_size": loaded.encoder.hidden_size,
                "packing": loaded.encoder.packing,
            },
            "data": {
                "train": len(prepared.train), "validation": len(prepared.validation),
                "test": 0 if prepared.test is None else len(prepared.test),
                "validation_from": prepared.validation_from, "chosen_from": prepared.chosen_from,
                "labels": list(prepared.names), "majority_error_percent": _majority_error(prepared),
            },
            "max_seq_len": collator.max_seq_len, "truncation": resolved.truncation.truncation,
            "cells": cells, "best": best, "advised": advised, "sentences": sentences(cells, best, layers),
            "finetune": finetune_command(settings, cells[advised]["layer"], cells[advised]["token_pooling"]),
            "warnings": _warnings(prepared, cells[best]["validation"]["high"]),
            "seconds": {"features": encoded - started, "probes": time.monotonic() - encoded},
        }  # fmt: skip
        write_probe(output, result)
        return result


def encode(extractor: Extractor, prepared: Prepared, scratch: Path) -> dict[str, Features]:
    """Every document through the encoder once: for each part [layers, poolings, D, H], on the disk if it is large."""
    encoder, parts = extractor.encoder, prepared.parts()
    cells = len(encoder.layers) * len(NAMES) * encoder.hidden_size
    needed = 4 * cells * sum(map(len, parts.values()))
    on_disk = needed > BYTES_IN_MEMORY
    if on_disk and needed > shutil.disk_usage(scratch).free:
        raise UserError(
            f"{scratch.parent}: the features of all layers need {needed / 2**30:,.1f} GiB, "
            f"{shutil.disk_usage(scratch).free / 2**30:,.1f} are free; use fewer documents: --train-examples"
        )
    features: dict[str, Features] = {}
    with Progress(sum(map(len, parts.values())), "features", "documents") as progress:
        for name, dataset in parts.items():
            shape = (len(encoder.layers), len(NAMES), len(dataset), encoder.hidden_size)
            made: Features = (
                np.memmap(scratch / name, np.float32, "w+", shape=shape) if on_disk else np.zeros(shape, np.float32)
            )
            _encode(extractor, dataset, made, progress)
            features[name] = made
    return features


def _encode(extractor: Extractor, dataset: Dataset, into: Features, progress: Progress) -> None:
    poolings = [choose("token_pooling", name).make() for name in NAMES]
    for batch, states in extractor.states(dataset, progress):
        rows = batch.rows.numpy()
        with torch.inference_mode():
            for (i, layer), (j, pooling) in itertools.product(enumerate(states.layers), enumerate(poolings)):
                into[i, j, rows] = pooling(layer, states).float().cpu().numpy()


def probes(features: dict[str, Features], prepared: Prepared, device: Device) -> list[ProbeAnswers]:
    """A logistic regression for every layer and pooling, layer by layer."""
    parts, target = prepared.parts(), prepared.target
    train = torch.from_numpy(prepared.train.labels).to(device.torch)
    # A label that training lacks has no likelihood: its document counts as an error, and not in the loss.
    known = target.known(prepared.validation.labels)
    to_choose_by = slice(None) if known.all() else torch.from_numpy(np.flatnonzero(known)).to(device.torch)
    held_out = torch.from_numpy(prepared.validation.labels).to(device.torch)[to_choose_by]
    layers = features["train"].shape[0]
    answers = []
    with Progress(layers * len(NAMES), "probes", "probes") as progress:
        for layer, (place, name) in itertools.product(range(layers), enumerate(NAMES)):
            x = {part: torch.from_numpy(all_[layer, place]).to(device.torch) for part, all_ in features.items()}
            if not all(bool(values.isfinite().all()) for values in x.values()):
                raise TrainingError(
                    f"layer {layer}: the encoder gives numbers that are not finite; try --precision fp32"
                )
            model = choose_logistic(x["train"], train, target.num_outputs, (x["validation"][to_choose_by], held_out))
            logits = {part: model.logits(values) for part, values in x.items() if part != "train"}
            correct = {
                part: target.correct(rows.cpu().double().numpy(), parts[part].labels) for part, rows in logits.items()
            }
            loss = float(cross_entropy(logits["validation"][to_choose_by], held_out))
            answers.append(ProbeAnswers(layer, name, model.l2, loss, correct["validation"], correct.get("test")))
            progress.advance(1)
    return answers


def finetune_command(settings: ProbeSettings, layer: int, token_pooling: str) -> str:
    """`doctune finetune` on the same data with that layer and pooling."""
    words = ["doctune", "finetune"]
    for dotted in dotted_fields(ProbeSettings):
        section, _, name = dotted.rpartition(".")
        part = getattr(settings, section) if section else settings
        if dotted == "output" or name not in part.model_fields_set:
            continue
        value, flag = getattr(part, name), name.replace("_", "-")
        if value == type(part).model_fields[name].default:
            continue
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", *map(str, value if isinstance(value, tuple) else (value,))]
    words += ["--layers", str(layer), "--token-pooling", token_pooling]
    return shlex.join([*words, "--output", f"runs/layer-{layer}-{token_pooling}"])


def _majority_error(prepared: Prepared) -> float:
    """Error on validation of always answering the class that training has most of, in percent."""
    return prepared.target.constant_error(prepared.train.labels, prepared.validation.labels)


def _warnings(prepared: Prepared, highest_error: float) -> list[str]:
    warnings = []
    if len(prepared.validation) < FEWEST_TO_CHOOSE_BY:
        warnings.append(
            f"{validation_documents(len(prepared.validation), 'tell')} little: give more with --validation or a "
            f"larger --validation-fraction"
        )
    warnings += [unseen_line(name, unseen) for name, part in prepared.parts().items() if (unseen := part.unseen())]
    if highest_error >= _majority_error(prepared):
        warnings.append("not even the best probe is clearly better than always answering the largest class")
    return warnings
