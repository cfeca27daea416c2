"""What to do next."""

from __future__ import annotations

from doctune.report.page import Section

HTML = """
<p>A lower loss on masked words does not say that a classifier gets better. Fine-tune with and without this encoder:</p>
{% for command in report.next %}
<pre><code>{{ command }}</code></pre>
{% endfor %}
<p class="note">The encoder is <code>{{ report.files.encoder }}</code>{% if report.files.snapshots %}; those on the way are {% for folder in report.files.snapshots %}{{ ", " if not loop.first }}<code>{{ folder }}</code>{% endfor %}{% endif %}.</p>
"""

SECTION = Section(name="next", place=50, title="What to do next", html=HTML)
