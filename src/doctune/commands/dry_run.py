"""`doctune finetune --dry-run`: what would run, without torch and without writing anything."""

from __future__ import annotations

import math
from collections import Counter

from doctune.config import to_toml
from doctune.errors import DataError
from doctune.readers import sources
from doctune.settings import DataSettings, FinetuneSettings
from doctune.store.splits import HOW_TO_COUNT, number_of_examples, unseen_line
from doctune.targets import TargetSettings


def describe_finetuning(settings: FinetuneSettings) -> str:
    """The settings as TOML, what the data files hold, and how many steps that makes.

    A run fills in the settings that depend on the encoder. Reads the data once, and raises the errors that a run would
    raise about it.
    """
    lines, documents = data_lines(settings.data, settings.target)
    training = settings.training
    if training.tokens_per_batch is None:
        steps = math.ceil(documents / training.batch_size / training.accumulation * training.epochs)
        lines.append(f"# about {steps:,} steps for each of {training.seeds} seed{'s' if training.seeds > 1 else ''}")
    return "\n".join([to_toml(settings).rstrip(), "", "# what would run", *lines, f"# output: {settings.output}"])


def data_lines(data: DataSettings, target: TargetSettings) -> tuple[list[str], int]:
    """What the data files hold, as comments, and about how many documents there are to train on."""
    lines = []
    counts: dict[str, Counter[str | None]] = {}
    found = sources(data)
    for split, source in found.items():
        counts[split] = Counter(example.label for example in source.read() if example.text.strip() or example.text_pair)
        lines.append(f"# {split}: {counts[split].total():,} documents in {source.name}")
    for split, labels in counts.items():
        if not labels.total():
            raise DataError(f"{split}: every document is empty; check the file and the text column")
    train = counts["train"]
    names = target.bind(train, found["train"].labels).names
    shown = ", ".join(f"{name} ({train[name]:,})" for name in names[:12]) + (", ..." if len(names) > 12 else "")
    lines.append(f"# {len(names)} classes: {shown}")
    for split, labels in counts.items():
        unseen = Counter({str(label): count for label, count in labels.items() if label not in train})
        if unseen and target.unseen_labels == "error":
            raise DataError(
                f"{split}: class {min(unseen)!r} does not occur in training; training has {', '.join(names)}; "
                f"{HOW_TO_COUNT}"
            )
        if unseen:
            lines.append(f"# {unseen_line(split, unseen)}")
    documents, of_what = train.total(), "train"
    wanted = data.train_examples
    if wanted is not None:
        documents = number_of_examples(wanted, documents, len(+train))
        lines.append(
            f"# labels: {documents:,} of {train.total():,} training documents, stratified; each seed draws its own"
        )
        of_what = "these"
    if "validation" not in counts:
        held = round(documents * data.validation_fraction)
        documents -= held
        lines.append(f"# validation: about {held:,} documents held out of {of_what}")
    tested = data.test_examples
    if tested is not None and "test" in counts and tested < counts["test"].total():
        lines.append(f"# test: {tested:,} of {counts['test'].total():,} documents, stratified, the same for every run")
    return lines, documents
