"""Reports that are stored are read whatever their version: one figure more or fewer costs a dash, not the page.

`stored/` holds one report of each kind from every release, as the commands of that release wrote them.
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from doctune.errors import DataError
from doctune.evaluation.comparison import FinishedRun, PretrainingFacts, compare_runs
from doctune.evaluation.multitask import Seen, make_report
from doctune.evaluation.schema import FORMAT
from doctune.evaluation.stored import complete, read_report
from doctune.metrics.single import Metrics
from doctune.report import comparison, finetuning, multitask, pretraining, probe
from doctune.report.page import Page, writable
from doctune.studies.curve_report import summary as curve_summary
from doctune.studies.report import STUDY, to_csv

STORED = sorted((Path(__file__).parent / "stored").glob("*/*.json"))
PAGES: dict[str, Page] = {
    "seeds": finetuning.PAGE, "windows": finetuning.PAGE, "comparison": comparison.PAGE, "multitask": multitask.PAGE,
    "probe": probe.PAGE, "pretraining": pretraining.PAGE, "study": STUDY, "curve": STUDY,
}  # fmt: skip
ESSENTIAL = {("validation", "error_percent"), ("test", "error_percent"), ("validation",)}
FREE = {"recipe", "settings", "encoders", "left_out", "seconds", "mean_error_percent", "train_per_class",
        "left_out_empty", "truncated_percent", "mean_tokens", "kept", "decided"}  # fmt: skip
Path_ = tuple[str | int, ...]


def name(path: Path) -> str:
    return f"{path.parent.name}-{path.stem}"


def places(value: Any, above: Path_ = ()) -> Iterator[Path_]:
    """The places of all keys; of a list those of its last element."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*above, key)
            yield from places(item, (*above, key))
    elif isinstance(value, list) and value:
        yield from places(value[-1], (*above, len(value) - 1))


def parent(value: Any, place: Path_) -> Any:
    for key in place[:-1]:
        value = value[key]
    return value


def shown(page: Page, value: Any) -> list[str]:
    """Everything that there is to read of a report."""
    return [page.html(value), page.text(value), page.markdown(value)]


@pytest.mark.parametrize("path", STORED, ids=name)
def test_a_report_of_every_release_is_shown(path: Path, parse: Any) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    page, _, _ = shown(PAGES[path.stem], stored)
    assert stored["title"] in parse(page).text


@pytest.mark.parametrize("path", STORED, ids=name)
def test_a_missing_figure_is_a_dash(path: Path) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    for place in places(stored):
        fewer = copy.deepcopy(stored)
        del parent(fewer, place)[place[-1]]
        texts = shown(PAGES[path.stem], fewer)
        assert not re.search(r".{0,30}\b(nan|inf|None)\b", "".join(texts)), place


@pytest.mark.parametrize("path", STORED, ids=name)
def test_a_figure_that_is_null_or_of_another_kind_is_none(path: Path) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    others = itertools.cycle((None, "text", [1], {"a": 1}, None))
    for place in places(stored):
        for other in {id(one): one for one in (None, next(others))}.values():
            changed = copy.deepcopy(stored)
            parent(changed, place)[place[-1]] = other
            PAGES[path.stem].html(changed)


@pytest.mark.parametrize("path", STORED, ids=name)
def test_an_unknown_figure_is_ignored_and_kept(path: Path) -> None:
    stored = json.loads(path.read_text(encoding="utf-8"))
    page = PAGES[path.stem]
    before = shown(page, stored)
    for place in [*places(stored), ("",)]:
        if isinstance(parent(stored, place), dict) and not free(place):
            more = copy.deepcopy(stored)
            parent(more, place)["of a later version"] = {"x": 1.5}
            assert shown(page, more) == before, place
            kept = writable(complete(more, page.kind))
            assert {key: kept[key] for key in more} == more


def free(place: Path_) -> bool:
    """Whether the keys beside this one are names of the user's or of settings, which the page lists."""
    return bool(FREE & set(place[:-1]))


def written(folder: Path, report: Any) -> Path:
    """A finished run with this report, and answers of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(report), encoding="utf-8")
    rows = [{"id": str(i), "label": "a", "true_label": "ab"[i % 2], "a later figure": 1} for i in range(40)]
    (folder / "predictions.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return folder


def test_what_compares_reports_does_without_a_figure_or_says_so_in_one_line(tmp_path: Path) -> None:
    stored = json.loads((STORED[0].parent / "windows.json").read_text(encoding="utf-8"))
    for place in places(stored):
        fewer = copy.deepcopy(stored)
        del parent(fewer, place)[place[-1]]
        folder = written(tmp_path / "joint" / "task", fewer)
        written(tmp_path / "continued" / "task", fewer)
        if place in ESSENTIAL:
            key = re.escape(".".join(map(str, place)))
            with pytest.raises(DataError, match=rf"report\.json: {key}[^\n]*$"):
                read_report(folder / "report.json")
            continue
        report = read_report(folder / "report.json")
        run = FinishedRun("run", "encoder", folder, report, "t", PretrainingFacts())
        compared = compare_runs(run, [run], [42], "doctune compare")
        shown(comparison.PAGE, writable(compared))
        tasks = make_report(tmp_path, {"task": Seen(1, 1, {})}, {"task": report}, {"task": report}, {}, "c")
        shown(multitask.PAGE, writable(tasks))


def test_files_that_are_no_reports_are_named_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    for content in (b"", b"{", b"[1]", b"\xff", b"3", b"{}"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"report\.json: [^\n]*run again$"):
            read_report(path)
    path.unlink()
    with pytest.raises(DataError, match=r"report\.json: no such file"):
        read_report(path)


def test_a_row_of_predictions_without_its_answer_is_named(tmp_path: Path) -> None:
    stored = json.loads((STORED[0].parent / "windows.json").read_text(encoding="utf-8"))
    run = FinishedRun("run", "encoder", written(tmp_path / "run", stored), stored, "t")
    path = run.folder / "predictions.jsonl"
    lines = path.read_text().splitlines()
    for broken in ('{"id": "3", "label": "a"}', "{", "[]"):
        path.write_text("\n".join([*lines[:3], broken, *lines[4:]]))
        with pytest.raises(DataError, match=r"predictions\.jsonl, line 4: no "):
            compare_runs(run, [run], [42], "c")


def test_figures_of_another_version() -> None:
    stored = json.loads((STORED[0].parent / "seeds.json").read_text(encoding="utf-8"))["test"]
    whole = Metrics.from_json(stored)
    assert Metrics.from_json({**stored, "auc": 0.5}) == whole
    for key in stored:
        fewer: Any = {name: value for name, value in stored.items() if name != key}
        if key == "error_percent":
            with pytest.raises(DataError, match=r"^error_percent: missing"):
                Metrics.from_json(fewer)
        else:
            assert Metrics.from_json(fewer).error_percent == whole.error_percent
    assert math.isnan(Metrics.from_json({**stored, "loss": None}).loss)


def test_a_curve_and_a_table_of_runs_of_another_version() -> None:
    for path in (path for path in STORED if path.stem in ("curve", "study")):
        stored = json.loads(path.read_text(encoding="utf-8"))
        for place in places(stored):
            fewer = copy.deepcopy(stored)
            del parent(fewer, place)[place[-1]]
            curve_summary(complete(fewer, STUDY.kind))
            to_csv(complete(fewer, STUDY.kind))


def test_what_is_written_says_its_format(report: Any, tmp_path: Path) -> None:
    finetuning.write_report(tmp_path, report())
    assert json.loads((tmp_path / "report.json").read_text())["format"] == FORMAT
