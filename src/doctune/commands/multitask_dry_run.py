"""`doctune multitask --dry-run`: what would run, without torch and without writing anything."""

from __future__ import annotations

import math

from doctune.batches.plan import documents_per_epoch
from doctune.commands.dry_run import data_lines
from doctune.config import to_toml
from doctune.errors import UserError
from doctune.settings import MultitaskSettings


def describe_multitask(settings: MultitaskSettings) -> str:
    """The settings as TOML, what each task's files hold, and how the tasks are mixed.

    A run fills in the settings that depend on the encoder, and leaves out training documents that are test documents.
    Reads the data once, and raises the errors that a run would raise about it.
    """
    lines = [to_toml(settings).rstrip(), "", "# what would run"]
    sizes = []
    for task in settings.tasks:
        try:
            found, documents = data_lines(task.data, settings.task(task).target)
        except UserError as error:
            raise type(error)(f"task {task.name}: {error}") from None
        lines += [f"# task {task.name}", *found]
        sizes.append(documents)
    training, wanted = settings.training, documents_per_epoch(sizes, settings.sampling)
    lines.append("# the tasks together, in an epoch:")
    for task, size, number in zip(settings.tasks, sizes, wanted, strict=True):
        lines.append(f"# {task.name}: {number:,.0f} of {size:,} documents, {100 * number / sum(wanted):.1f} % of all")
    if training.tokens_per_batch is None:
        per_epoch = sum(max(math.ceil(n / training.batch_size / training.accumulation), 1) for n in wanted)
        lines.append(f"# about {math.ceil(per_epoch * training.epochs):,} joint steps")
    epochs = settings.continuation.epochs
    passes = f"{epochs:g} epoch" + ("" if epochs == 1 else "s")
    lines.append(f"# then each task alone, {passes}" if epochs else "# no continuation")
    lines.append(f"# output: {settings.output}")
    return "\n".join(lines)
