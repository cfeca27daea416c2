"""What was trained: the encoder and what is behind it, the documents, the time, the recipe."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.schema import Report
from doctune.report.page import Section

HTML = """
{% set encoder, data = report.encoder, report.data %}
<div class="two">
{% call ui.pairs() %}
{{ ui.group("Encoder") }}
{{ ui.pair("Name", encoder.name) }}
{{ ui.pair("Size", encoder.num_layers | value + " layers of " + encoder.hidden_size | value) }}
{{ ui.pair("Parameters", (encoder.num_parameters / 1000000) | fixed(1) + " million") }}
{{ ui.pair("Batches", encoder.packing) }}
{% for run in report.further_pretraining | default([]) %}
{{ ui.group("Further pre-training" if loop.first else "Pre-training before that") }}
{{ ui.pair("Begun with", run.base_encoder | value) }}
{% call ui.pair("Corpus") %}{{ run.corpus | value }}, {{ run.documents | whole }} documents{% if run.transductive %}, <b class="bad">with test texts (transductive)</b>{% endif %}{% endcall %}
{% call ui.pair("Training") %}{{ run.steps | whole }} steps{% if run.kept_step is not none and run.kept_step != run.steps %} (weights of step {{ run.kept_step | whole }}){% endif %}, {{ run.tokens | whole }} tokens, {{ run.seconds | duration }}{% endcall %}
{% call ui.pair("Compared with") %}{% for one in run.compared_with %}{{ ", " if not loop.first }}{{ one.name }} ({{ one.texts | whole }} texts){% else %}no texts: the corpus may hold some of the test set{% endfor %}{% endcall %}
{% call ui.pair("Left out of it") %}{% for reason, count in run.left_out.items() %}{{ ", " if not loop.first }}{{ count | whole }} {{ reason }}{% else %}none{% endfor %}{% endcall %}
{% endfor %}
{{ ui.group("Documents") }}
{{ ui.chosen(data) }}
{% if data.test_examples is defined %}
{{ ui.pair("Tested on", data.test_examples.count | whole + " of " + data.test_examples.of | whole + " test documents, stratified; the same for every run") }}
{% endif %}
{% for name, count in counts.items() %}
{% call ui.pair(name | capitalize) %}{{ count | whole }}
{%- if data.left_out_empty.get(name) %}, {{ data.left_out_empty[name] | whole }} empty left out{% endif %}{% endcall %}
{% endfor %}
{{ ui.pair("Validation set", data.validation_from) }}
{% for name in counts if name in data.mean_tokens %}
{% call ui.pair("Tokens, " + name) %}{{ data.mean_tokens[name] | fixed(0) }} on average
{%- if data.truncated_percent.get(name) is not none %}, {{ data.truncated_percent[name] | fixed(1) }} % truncated{% endif %}{% endcall %}
{% endfor %}
{{ ui.group("Time") }}
{{ ui.pair("Training", report.time.train_seconds | duration) }}
{{ ui.pair("Speed", report.time.examples_per_second | fixed(1) + " documents/s, " + report.time.tokens_per_second | fixed(0) + " tokens/s") }}
{% endcall %}
{{ ui.recipe_table(report.recipe) }}
</div>
"""


def values(report: Report) -> dict[str, Any]:
    """The counts of the parts that there are."""
    data = report["data"]
    counts = {"train": data["train"], "validation": data["validation"], "test": data["test"]}
    return {"counts": {name: count for name, count in counts.items() if count}}


SECTION = Section(name="trained", place=30, title="What was trained", html=HTML, values=values)
