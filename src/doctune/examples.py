"""One labelled document, the unit that every reader yields."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Example:
    """A document as a reader found it.

    `id` names it in predictions and errors (file name and row when the data has no ids of its own);
    `text_pair` is the second segment of a text pair; `label` is the class name as text;
    `group` is whatever must stay on one side of a split (an author, a film, a module).
    """

    id: str
    text: str
    label: str | None = None
    text_pair: str | None = None
    group: str | None = None


def label_order(labels: set[str]) -> tuple[str, ...]:
    """The order that gives labels their ids: integers by value, everything else alphabetically."""
    try:
        return tuple(sorted(labels, key=lambda label: (int(label), label)))
    except ValueError:
        return tuple(sorted(labels))
