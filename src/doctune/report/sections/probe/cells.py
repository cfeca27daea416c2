"""All probes, those of the fewest errors first."""

from __future__ import annotations

from typing import Any

from doctune.evaluation.probe import Probe
from doctune.report.page import Section
from doctune.report.sections.probe._rows import at, parts

HTML = """
{% set judged = [{"num": "Validation error %"}, {"num": "95 % interval"}] + ([{"num": "Test error %"}, {"num": "95 % interval"}] if test else []) %}
{% call ui.table([{"num": "Layer"}, "Pooling"] + judged + [{"num": "L2"}, {"num": "Validation loss"}, ""], "wide", "scroll tall") %}
{% for cell in cells %}
<tr><td class="num">{{ cell.layer | value }}</td><td>{{ cell.token_pooling }}</td><td class="num">{{ cell.validation.error_percent | fixed }}</td><td class="num">{{ cell.validation.low | fixed }} to {{ cell.validation.high | fixed }}</td>{% if test %}<td class="num">{{ cell.test.error_percent | fixed }}</td><td class="num">{{ cell.test.low | fixed }} to {{ cell.test.high | fixed }}</td>{% endif %}<td class="num">{{ cell.l2 | value }}</td><td class="num">{{ cell.validation_loss | fixed(3) }}</td><td>{{ "fewest errors" if cell is sameas best else "near tie" if cell.tied else "" }}{{ ", fine-tune" if cell is sameas advised else "" }}</td></tr>
{% endfor %}
{% endcall %}
"""


def values(probe: Probe) -> dict[str, Any]:
    """The cells in order."""
    cells = sorted(probe["cells"], key=lambda cell: cell["validation"]["error_percent"])
    best, advised = at(probe, "best"), at(probe, "advised")
    return {"cells": cells, "best": best, "advised": advised, "test": "test" in parts(probe)}


SECTION = Section(name="cells", place=30, title="All probes", html=HTML, values=values)
