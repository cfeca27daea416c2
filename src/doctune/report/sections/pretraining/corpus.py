"""The corpus: its sources, its vocabulary, what its leak guard did."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

from doctune.report.numbers import value
from doctune.report.page import Section
from doctune.report.pretraining import PretrainingReport

HTML = """
{% set facts, corpus = report.facts, report.facts.corpus %}
{% call ui.table(["Source", {"num": "Weight"}, {"num": "Documents"}, {"num": "Sentences"}, {"num": "Tokens"}, {"num": "Left out"}]) %}
{% for source in corpus.sources %}
<tr><th scope="row" dir="auto">{{ source.name }}</th><td class="num">{{ source.weight | value }}</td><td class="num">{{ source.documents | whole }}</td><td class="num">{{ source.sentences | whole }}</td><td class="num">{{ source.tokens | whole }}</td><td class="num">{{ source.left_out | whole }}</td></tr>
{% endfor %}
{% if corpus.sources | length > 1 %}
<tr><th scope="row">All</th><td></td><td class="num">{{ corpus.documents | whole }}</td><td class="num">{{ corpus.sentences | whole }}</td><td class="num">{{ corpus.tokens | whole }}</td><td class="num">{{ corpus.sources | sum(attribute="left_out") | whole }}</td></tr>
{% endif %}
{% endcall %}
<p class="note">A weight says how often a document is used in one pass. The run saw {{ facts.tokens | whole }} tokens, special tokens included{% if passes is not none %}: about {{ passes | fixed(2) }} passes{% endif %}.{% if facts.objective == "nsp" %} A pass has more tokens than the corpus: the random second sentences come from other documents.{% endif %}</p>
{% call ui.pairs() %}
{{ ui.group("Leak guard") }}
{% if corpus.vocabulary %}
{% set words = corpus.vocabulary %}
{% call ui.pair("Vocabulary") %}{{ words.pieces | whole }} {{ "new pieces" if words.before else "pieces of its own" }}{% if words.first %}: <bdi>{{ words.first | join(", ") }}</bdi>{{ ", ..." if words.first | length < words.pieces }}{% endif %}; {% if words.before %}{{ words.before.pieces_per_word | fixed(3) }} pieces a word before, {% endif %}{{ words.after.pieces_per_word | fixed(3) }} {{ "now" if words.before else "pieces a word" }}, words in two or more: {% if words.before %}{{ (100 * words.before.broken) | fixed(1) }} % before, {% endif %}{{ (100 * words.after.broken) | fixed(1) }} %{{ " now" if words.before }}{% endcall %}
{% endif %}
{% call ui.pair("Compared with") %}{% for one in corpus.exclude %}{{ ", " if not loop.first }}{{ one.name }} ({{ one.texts | whole }} texts){% else %}no texts{% endfor %}{% endcall %}
{% call ui.pair("Left out") %}{% for reason, count in corpus.left_out.items() %}{{ ", " if not loop.first }}{{ count | whole }} {{ reason }}{% else %}none{% endfor %}{% endcall %}
{% if corpus.kept %}
{% call ui.pair("Kept all the same") %}{% for reason, count in corpus.kept.items() %}{{ ", " if not loop.first }}{{ count | whole }} {{ reason }}{% endfor %} (transductive){% endcall %}
{% endif %}
{% if report.files.ledger %}
{% call ui.pair("Ledger, document by document") %}<code>{{ report.files.ledger }}</code>{% endcall %}
{% endif %}
{% endcall %}
"""


def values(report: PretrainingReport) -> dict[str, Any]:
    """How often the run saw the corpus."""
    evaluations = report["evaluations"]
    return {"passes": evaluations[-1].get("epoch") if evaluations else None}


SECTION = Section(
    name="corpus", place=30, title=lambda report: Markup("Corpus <bdi>{}</bdi>").format(value(report["facts"]["corpus"]["name"])),
    html=HTML, values=values,
)  # fmt: skip
