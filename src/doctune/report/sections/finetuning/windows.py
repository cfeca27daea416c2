"""Which window of a long document decided."""

from __future__ import annotations

from typing import Any

import numpy as np

from doctune.evaluation.schema import Report, WindowExample, WindowsSection, judged
from doctune.report.charts import deciding, window_bars
from doctune.report.lines import passage
from doctune.report.page import Judged, Section

EXAMPLES = 10
TOKENS_SHOWN = 50

HTML = """
{% set decided = windows.decided %}
<p class="note">{{ windows.documents | whole }} documents of the {{ part }} set were read in several windows. The one that added most to the answer was the first of {{ decided.first | default(none) | whole }}, the last of {{ decided.last | default(none) | whole }}, and one between of {{ decided.between | default(none) | whole }}. A bar is what a window added to the logit of the answer, above the mean of all classes; downwards it spoke against it. The longest documents:</p>
<ol class="errors">
{% for example in examples %}
<li><div class="verdict">{% if example.label is defined %}labelled <b dir="auto">{{ example.label }}</b>, {% endif %}answered <b dir="auto">{{ example.prediction }}</b> with probability {{ example.probability | fixed(3) }} · document {{ example.id }} · {{ example.windows | length }} windows</div>{{ example.bars }}<p dir="auto"><span class="what">from token {{ example.deciding.start | whole }}:</span> {{ example.text }}</p></li>
{% endfor %}
</ol>
"""


def make(answers: Judged) -> WindowsSection | None:
    """Where the deciding windows stand, and the longest documents as examples; None if no document has several."""
    windows = answers.windows
    if not windows:
        return None
    section = WindowsSection(documents=len(windows), decided={"first": 0, "between": 0, "last": 0}, examples=[])
    for of_document in windows.values():
        best = deciding(of_document)
        section["decided"]["first" if best == 0 else "last" if best == len(of_document) - 1 else "between"] += 1
    longest = sorted(windows, key=lambda place: (-len(windows[place]), place))
    section["examples"] = [_example(answers, place) for place in longest[:EXAMPLES]]
    return section


def _example(answers: Judged, place: int) -> WindowExample:
    dataset, windows = answers.dataset, answers.windows[place]
    row, target, own = int(dataset.rows[place]), dataset.target, answers.probabilities[place : place + 1]
    (label,) = dataset.label_texts(np.array([place]))
    start = windows[deciding(windows)]["start"]
    ids, _ = dataset.shard.tokens(row)
    example = WindowExample(
        id=dataset.shard.value("id", row),
        prediction=target.text(target.decide(own)[0]),
        probability=float(target.confidence(own)[0]),
        windows=windows,
        text=answers.tokenizer.decode(ids[start : start + TOKENS_SHOWN]),
    )
    if label is not None:
        example["label"] = label
    return example


def values(report: Report) -> dict[str, Any] | None:
    """Nothing where every document is one window."""
    if "windows" not in report:
        return None
    examples = [
        {
            **example,
            "text": passage(example["text"]),
            "bars": window_bars(example["windows"]),
            "deciding": example["windows"][deciding(example["windows"])],
        }
        for example in report["windows"]["examples"]
        if example["windows"]
    ]
    return {"windows": report["windows"], "part": judged(report)[0], "examples": examples}


SECTION = Section(name="windows", place=80, title="Which window decided", html=HTML, values=values, make=make)
