"""How a page is made: a list of sections on one base template, the same list for the terminal and for Markdown.

A section is a file in the folder of its page, below `sections`: it says what it shows and how, in HTML, on the
terminal and in Markdown, and it takes values only, never models. A new file is on the page without another word.
"""

from __future__ import annotations

import importlib
import math
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from doctune.evaluation.schema import Windows
from doctune.evaluation.stored import complete
from doctune.metrics.single import Probabilities
from doctune.report.lines import escaped, wrapped
from doctune.report.numbers import FILTERS
from doctune.store.splits import Dataset
from doctune.text.tokenizer import TextTokenizer

IMPORTS = '{% import "parts.html" as ui %}\n'
"""What the HTML of every section begins with: the macros for tables and pairs."""
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Judged:
    """What a model answered to the documents that it is judged on: the data, and probabilities [D, C].

    `windows` are those of each document that has several.
    """

    dataset: Dataset
    probabilities: Probabilities
    windows: Windows
    tokenizer: TextTokenizer


def _no_lines(_: Any) -> list[str]:
    return []


def _no_values(_: Any) -> Values:
    return {}


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section of a page; `name` is its id there, `place` its order, `html` a template of what is below its title.

    `values` gives what the template shows beside `report`; None leaves the section out. Without a `title` the template
    writes its own. `text` and `markdown` give its lines, those included that set it apart. `make` computes what
    report.json holds under the section's name, or None for nothing.
    """

    name: str
    place: int
    html: str
    title: str | Callable[[Any], str] = ""
    style: str | Callable[[Any], str] = ""
    values: Callable[[Any], Values | None] = _no_values
    text: Callable[[Any], Sequence[str]] = _no_lines
    markdown: Callable[[Any], Sequence[str]] = _no_lines
    make: Callable[[Judged], Any] | None = None


def _warnings(report: Any) -> list[str]:
    return list(report["warnings"])


@dataclass(frozen=True, kw_only=True)
class Page:
    """A kind of page: the sections in `folder` (a package), the `template` around them, the `kind` of its report.

    `heading` is the title in Markdown; `ending` gives the last lines on the terminal. `values` are for the template.
    """

    folder: str
    template: str
    kind: Any
    heading: Callable[[Any], str] = lambda report: str(report["title"])
    values: Callable[[Any], Values] = _no_values
    warnings: Callable[[Any], list[str]] = _warnings
    ending: Callable[[Any], Sequence[str]] = _no_lines

    def html(self, stored: Any) -> str:
        """The page as text; everything that comes from the report is escaped."""
        report = complete(stored, self.kind)
        parts = [_part(section, report, values) for section in sections(self.folder)
                 if (values := section.values(report)) is not None]  # fmt: skip
        values = {**self.values(report), "report": report, "parts": parts, "warnings": self.warnings(report)}
        return environment().get_template(self.template).render(values)

    def text(self, stored: Any) -> str:
        """What the command line prints at the end; no line is wider than 100 columns."""
        report = complete(stored, self.kind)
        lines = [line for section in sections(self.folder) for line in section.text(report)]
        for warning in self.warnings(report):
            lines += wrapped(f"warning: {warning}")
        return "\n".join(line.rstrip() for line in [*lines, *self.ending(report)])

    def markdown(self, stored: Any, instead: Sequence[str] | None = None) -> str:
        """Sections, warnings and the command, to paste into notes; `instead` are lines in place of the warnings."""
        report = complete(stored, self.kind)
        lines = [f"# {self.heading(report)}", ""]
        lines += [line for section in sections(self.folder) for line in section.markdown(report)]
        lines += [f"- {escaped(warning)}" for warning in self.warnings(report)] if instead is None else instead
        return "\n".join([*lines, "", "```", report["command"], "```", ""])


def sections(folder: str) -> list[Section]:
    """The sections whose files are in this package, in their order; names that begin with _ are no sections."""
    package = importlib.import_module(folder)
    names = [module.name for module in pkgutil.iter_modules(package.__path__) if not module.name.startswith("_")]
    found: list[Section] = [importlib.import_module(f"{folder}.{name}").SECTION for name in names]
    return sorted(found, key=lambda section: (section.place, section.name))


def made(folder: str, judged: Judged) -> dict[str, Any]:
    """What the sections of a page compute for report.json, by their names."""
    values = {section.name: section.make(judged) for section in sections(folder) if section.make is not None}
    return {name: value for name, value in values.items() if value is not None}


@cache
def environment() -> Environment:
    """The templates of all pages, with the filters that write numbers; everything is escaped."""
    loaded = Environment(
        loader=PackageLoader("doctune.report"),
        autoescape=True,  # texts and labels are the user's
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loaded.filters |= FILTERS
    return loaded


@cache
def _template(html: str) -> Template:
    return environment().from_string(IMPORTS + html)


def chart_style() -> str:
    """The style sheet of a chart that is a file of its own."""
    return environment().get_template("charts.css").render()


def _part(section: Section, report: Any, values: Values) -> dict[str, str]:
    body = _template(section.html).render({**values, "report": report})
    title, style = (one(report) if callable(one) else one for one in (section.title, section.style))
    return {"name": section.name, "title": title, "style": style, "body": Markup(body.strip())}


def writable(value: Any) -> Any:
    """A copy without what JSON or UTF-8 cannot hold: no text of a user may cost the report of a long run."""
    if isinstance(value, dict):
        return {writable(key): writable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [writable(item) for item in value]
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return None if isinstance(value, float) and not math.isfinite(value) else value
