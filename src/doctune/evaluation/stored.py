"""Reading what runs have written: reports, comparisons, probes and predictions of this version or another one.

A figure that this version does not know is kept and otherwise ignored. One that is missing, or of another kind than
expected, is as good as unknown: NaN for a number, which pages show as a dash and files write as null, an empty list or
dictionary, a dash for a text. Only where an answer would rest on it (the error) is a missing figure an error.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)  # fmt: skip

from doctune.errors import DataError
from doctune.evaluation.schema import Report

UNKNOWN_TEXT = "–"
NUMBERS = (int, float)

Kind = TypeVar("Kind")


def read_report(path: Path) -> Report:
    """A report.json; `DataError` if it is none, or tells no error of the documents that the model was judged on."""
    report = read_json(path, Report)
    for part in ("validation", "test"):
        figures = report[part]
        if figures is not None and not math.isfinite(figures["error_percent"]):
            raise DataError(f"{path}: {part}.error_percent: missing or no number, and nothing can be said without it; "
                            f"remove {path.parent} and run again")  # fmt: skip
    return report


def read_json(path: Path, kind: type[Kind]) -> Kind:
    """A file that holds a dictionary of this kind, completed; `DataError` if it is not there or is no such file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file, though the run is finished; remove {path.parent} and run again"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise DataError(f"{path}: not JSON; remove {path.parent} and run again") from None
    if not isinstance(content, dict):
        raise DataError(f"{path}: not a JSON object but {type(content).__name__}; remove {path.parent} and run again")
    return complete(content, kind)


def read_rows(path: Path, *names: str) -> Iterator[dict[str, Any]]:
    """The rows of a predictions.jsonl; `DataError` names the line that lacks one of `names`, or is no row."""
    if not path.is_file():
        raise DataError(f"{path}: no such file, though the run has a report; remove {path.parent} and run again")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                row = None
            lacking = next((name for name in names if not isinstance(row, dict) or name not in row), None)
            if lacking is not None or not isinstance(row, dict):
                raise DataError(f"{path}, line {number}: no {lacking or 'row'}; remove {path.parent} and run again")
            yield row


def complete(content: Any, kind: type[Kind]) -> Kind:
    """A copy of stored JSON that has all that `kind`, a `TypedDict`, asks for; what else it holds is kept."""
    return cast(Kind, _filled(content, kind))


def _filled(value: Any, kind: Any) -> Any:
    origin, parts = get_origin(kind), get_args(kind)
    if origin is NotRequired:
        return _filled(value, parts[0])
    if origin is Annotated:  # with the least number of its elements
        made = _filled(value, parts[0])
        return made + [math.nan] * (parts[1] - len(made))
    if origin in (Union, types.UnionType):
        return _filled_union(value, parts)
    if is_typeddict(kind):
        return _filled_fields(value if isinstance(value, dict) else {}, kind)
    if origin is list:
        return [_filled(item, parts[0]) for item in value] if isinstance(value, (list, tuple)) else []
    if origin is dict:
        return {key: _filled(item, parts[1]) for key, item in value.items()} if isinstance(value, dict) else {}
    if kind in NUMBERS:
        return value if _is_number(value) else math.nan
    if kind is bool:
        return value is True
    if kind is str or origin is Literal:
        return value if isinstance(value, str) else UNKNOWN_TEXT
    return value


def _filled_fields(value: dict[str, Any], kind: Any) -> dict[str, Any]:
    """A dictionary of named fields; the order of what is there stays."""
    hints = _hints(kind)
    filled = {name: _filled(item, hints[name]) if name in hints else item for name, item in value.items()}
    missing = [name for name in hints if name not in value and get_origin(hints[name]) is not NotRequired]
    return filled | {name: _filled(None, hints[name]) for name in missing}


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _filled_union(value: Any, parts: tuple[Any, ...]) -> Any:
    """A value that may be of several kinds: it is completed where one kind is left beside None."""
    others = [part for part in parts if part is not type(None)]
    if len(others) > 1 or (value is None and len(others) < len(parts)):
        return value
    if others[0] in (*NUMBERS, str) and not isinstance(value, (*NUMBERS, str)):
        return None
    return _filled(value, others[0])


def _is_number(value: Any) -> bool:
    return isinstance(value, NUMBERS) and not isinstance(value, bool)
