"""The section of a report that says which window of a long document decided."""

from __future__ import annotations

import numpy as np

from doctune.evaluation.schema import WindowExample, Windows, WindowsSection
from doctune.metrics.single import Probabilities
from doctune.report.window_charts import deciding
from doctune.store.splits import Dataset
from doctune.text.tokenizer import TextTokenizer

EXAMPLES = 10
TOKENS_SHOWN = 50


def windows_section(
    dataset: Dataset, probabilities: Probabilities, windows: Windows, tokenizer: TextTokenizer
) -> WindowsSection | None:
    """Where the deciding windows stand, and the longest documents as examples; None if no document has several."""
    if not windows:
        return None
    section = WindowsSection(documents=len(windows), decided={"first": 0, "between": 0, "last": 0}, examples=[])
    for found in windows.values():
        best = deciding(found)
        section["decided"]["first" if best == 0 else "last" if best == len(found) - 1 else "between"] += 1
    longest = sorted(windows, key=lambda place: (-len(windows[place]), place))
    section["examples"] = [_example(dataset, probabilities, windows, tokenizer, place) for place in longest[:EXAMPLES]]
    return section


def _example(
    dataset: Dataset, probabilities: Probabilities, windows: Windows, tokenizer: TextTokenizer, place: int
) -> WindowExample:
    row, found = int(dataset.rows[place]), windows[place]
    target, own = dataset.target, probabilities[place : place + 1]
    (label,) = dataset.label_texts(np.array([place]))
    start = found[deciding(found)]["start"]
    ids, _ = dataset.shard.tokens(row)
    example = WindowExample(
        id=dataset.shard.value("id", row),
        prediction=target.text(target.decide(own)[0]),
        probability=float(target.confidence(own)[0]),
        windows=found,
        text=tokenizer.decode(ids[start : start + TOKENS_SHOWN]),
    )
    if label is not None:
        example["label"] = label
    return example
