"""Running a study: cached by content, resumed, on processes or Ray with the same result, and what it writes."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doctune.config import ConfigError
from doctune.errors import TrainingError, UserError
from doctune.runs import finetuning
from doctune.studies import grid, jobs
from doctune.studies.command import Asked, prepare
from doctune.studies.definition import NAMES
from doctune.studies.report import summary
from doctune.studies.results import StudyJson

Run = Callable[..., StudyJson]


def made(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("job.json")}


def errors(result: StudyJson) -> list[Any]:
    return [(c["row"], c["column"], [run["error_percent"] for run in c["runs"]]) for c in result["cells"]]


def test_a_study_and_what_it_writes(run: Run, tmp_path: Path) -> None:
    result = run()
    cells = {cell["row"]: cell for cell in result["cells"]}
    assert [r["seed"] for r in cells["head"]["runs"]] == [42, 43]
    assert cells["one layer"]["absent"] == "no counterpart in 2 layers"
    assert cells["one layer"]["error_percent"] is None
    values = [r["error_percent"] for r in cells["tail"]["runs"]]
    assert cells["tail"]["error_percent"] == pytest.approx(sum(values) / 2)
    assert result["columns"][0]["documents"] == "20 labelled for training and validation, 10 tested of 20"
    assert result["notes"][0] == "films: made up."
    assert result["notes"][1].endswith("2 layers of 32.")
    finding = result["findings"][0]
    assert finding["verdict"] in ("holds", "cannot tell", "does not hold")
    assert finding["reasons"][0].startswith("tail minus head: ")
    out = tmp_path / "out"
    with (out / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], row["seed"], row["paper"]) for row in rows] == [
        ("head", "42", "5.5"), ("head", "43", "5.5"), ("tail", "42", "5.0"), ("tail", "43", "5.0"),
    ]  # fmt: skip
    for row in rows:
        report = json.loads((Path(row["run"]) / "report.json").read_text())
        assert float(row["error_percent"]) == report["test"]["error_percent"]
        assert Path(row["command"].split("--config ")[1].split(" ")[0]).is_file()
    text = (out / "study.md").read_text()
    assert "| head | " in text
    assert "| 5.50 |" in text
    assert all(row["run"] in text for row in rows)
    page = (out / "study.html").read_text()
    assert page.count('<circle class="ring"') == 1
    assert (out / "study-1.svg").read_text().count("<circle") == 2  # one difference here, one of the paper
    assert "no counterpart in 2 layers" in page
    assert "no counterpart in 2 layers" in summary(result)
    assert json.loads((out / "study.json").read_text())["cells"] == result["cells"]


def test_average_reductions_and_rows_that_are_only_cited(run: Run, tmp_path: Path) -> None:
    rows = [{"name": "others", "paper": {"films": 9.0}, "cited": True}, {"name": "head", "paper": {"films": 5.5}},
            {"name": "one layer", "paper": {"films": 6.6}, "layers": [5]}]  # fmt: skip
    result = run({"rows": rows, "findings": [], "reduction_against": "head"}, seeds=1)
    errors = {cell["row"]: cell["error_percent"] for cell in result["cells"]}
    assert errors["others"] is None
    (one,) = result["reductions"]
    assert (one["row"], one["against"], one["columns"]) == ("one layer", "head", 1)
    assert one["percent"] == pytest.approx(100 * (errors["head"] - errors["one layer"]) / errors["head"])
    assert one["paper_percent"] == pytest.approx(-20)
    for text in (summary(result), *((tmp_path / "out" / f"study.{kind}").read_text() for kind in ("md", "html"))):
        assert "in the paper 20.00 % more." in " ".join(text.split())
        assert "9.00" in text


def test_runs_that_learnt_nothing_are_named(run: Run, tmp_path: Path) -> None:
    row = {"name": "head", "rate": 1e-9}
    result = run({"rows": [row], "findings": [], "reference": "head"})
    assert len(result["warnings"]) == 1
    assert result["warnings"][0].endswith("are part of their means: head, films: seeds 42, 43.")
    out = tmp_path / "out"
    assert 'class="warning"' in (out / "study.html").read_text()
    assert "- Warning: Runs that collapsed" in (out / "study.md").read_text()
    assert "warning: Runs that collapsed" in summary(result)


def test_a_cells_command_repeats_its_run(run: Run, tmp_path: Path) -> None:
    cell = run(seeds=1)["cells"][0]["runs"][0]
    again = finetuning.finetune(Path(cell["run"]) / "config.toml", output=str(tmp_path / "again"))
    assert again["test"] is not None
    assert again["test"]["error_percent"] == cell["error_percent"]


def test_runs_are_not_repeated(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = run(seeds=1)
    before = made(tmp_path / "runs")
    assert len(before) == 2
    assert not list((tmp_path / "runs").rglob("model"))  # figures are kept, classifiers are not
    capsys.readouterr()
    assert errors(run(seeds=1)) == errors(first)
    assert "[1/" not in capsys.readouterr().err
    second = run(seeds=2, keep_models=True)
    after = made(tmp_path / "runs")
    assert {key: after[key] for key in before} == before
    assert len(after) == 4
    assert len(list((tmp_path / "runs").rglob("model"))) == 2
    assert [runs[0] for _, _, runs in errors(second)[:2]] == [runs[0] for _, _, runs in errors(first)[:2]]


def test_a_killed_study_goes_on(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = errors(run(cache=str(tmp_path / "whole")))
    calls: list[Path] = []

    def killed(one: Any, context: Any) -> Any:
        calls.append(one.folder)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return fit(one, context)

    fit = finetuning.fit
    monkeypatch.setattr(finetuning, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        run()
    monkeypatch.setattr(finetuning, "fit", fit)
    before = made(tmp_path / "runs")
    assert len(before) == 2
    assert (calls[2] / "config.toml").is_file()
    (tmp_path / "runs" / "finetune" / "half-made").mkdir()  # a folder of another study does not disturb
    assert errors(run()) == expected
    after = made(tmp_path / "runs")
    assert {key: after[key] for key in before} == before


def test_a_run_that_fails_does_not_stop_the_others(run: Run, tmp_path: Path) -> None:
    # The two good rows are the same settings, and so the same runs.
    rows = [{"name": "head"}, {"name": "bad", "set": {"truncation": {"max_seq_len": 4000}}}, {"name": "tail"}]
    with pytest.raises(TrainingError, match=r"2 of 4 runs failed, the first: truncation\.max_seq_len: 4000 is more"):
        run({"rows": rows})
    result = json.loads((tmp_path / "out" / "study.json").read_text())
    cells = {cell["row"]: cell for cell in result["cells"]}
    assert cells["bad"]["absent"].startswith("failed: truncation.max_seq_len")
    assert len(cells["tail"]["runs"]) == 2
    assert "failed: " in (tmp_path / "out" / "study.md").read_text()


def test_a_cache_that_cannot_be_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="file: there is a file where a folder is needed"):
        prepare(Asked("table3", "smoke", cache=str(tmp_path / "file")))
    with pytest.raises(UserError, match="file: there is a file where a folder is needed"):
        grid.run_jobs([jobs.make_job("corpus", {}, 1, "any")], tmp_path / "file", "here", None, False)


def test_what_needs_a_failed_run_fails_too(tmp_path: Path) -> None:
    bad = jobs.make_job("corpus", {"sources": ["nowhere.txt"], "encoder": "no/such"}, 1, "bad")
    next_one = jobs.make_job("pretrain", {"corpus": f"cache:{bad.place}"}, 2, "next", (bad.key,))
    failed = grid.run_jobs([bad, next_one], tmp_path, "here", None, False)
    assert failed.keys() == {bad.key, next_one.key}
    assert failed[bad.key] == failed[next_one.key]


def test_a_fault_of_ours_leaves_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(job: jobs.Job, folder: Path, cache: Path) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(jobs, "_run", broken)
    job = jobs.make_job("corpus", {}, 1, "broken")
    done = jobs.execute(job, tmp_path)
    assert done.error is not None
    assert done.error.startswith("ZeroDivisionError: by zero (see ")
    assert "Traceback" in Path(done.error.partition("(see ")[2][:-1]).read_text()
    assert not jobs.finished(job, tmp_path)


@pytest.mark.slow
def test_processes_give_the_same(run: Run, tmp_path: Path) -> None:
    here = run()
    there = run(cache=str(tmp_path / "other"), on="processes", workers=2)
    assert errors(there) == errors(here)


class Deadly:
    """Whoever unpickles it is gone."""

    def __reduce__(self) -> Any:
        return os._exit, (1,)


@pytest.mark.slow
def test_a_process_that_is_killed_is_told_in_one_line(tmp_path: Path) -> None:
    made = [jobs.make_job("corpus", {"sources": [Deadly()]}, number, f"job {number}") for number in range(3)]
    failed = grid.run_jobs(made, tmp_path, "processes", 2, False)
    assert failed == {job.key: grid.KILLED for job in made}


RAY = """
import sys, doctune, json
from pathlib import Path
from doctune.studies.command import Asked, run
asked = json.loads(sys.argv[1])
asked["encoders"] = tuple(tuple(pair) for pair in asked["encoders"])
run(Asked(**asked), "test")
"""


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'doctune[ray]'")
def test_ray_gives_the_same(run: Run, asked: Callable[..., Asked], tmp_path: Path) -> None:
    here = run(seeds=1)
    options = {field: getattr(asked(), field) for field in ("name", "datasets", "encoders")}
    options |= {"seeds": 1, "cache": str(tmp_path / "ray"), "output": str(tmp_path / "there"), "on": "ray"}
    # In a process of its own: Ray leaves threads and sockets behind that tests must not see.
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", RAY, json.dumps(options)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    there = json.loads((tmp_path / "there" / "study.json").read_text())
    assert errors(there) == errors(here)


def test_ray_that_is_not_there(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"Ray is not installed; pip install 'doctune\[ray\]'"):
        run(on="ray")


@pytest.fixture(scope="session")
def smoke_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of the smoke scale, shared by the studies as a user's are."""
    return tmp_path_factory.mktemp("studies")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_study_at_smoke(name: str, smoke_cache: Path, tmp_path: Path) -> None:
    from doctune.studies.command import run as run_study

    asked = Asked(name, "smoke", output=str(tmp_path), cache=str(smoke_cache))
    result = run_study(asked, f"doctune study {name} --scale smoke")
    rows = {row.name: row for row in prepare(asked).study.rows}
    for cell in result["cells"]:
        if cell["absent"]:
            assert cell["absent"].startswith(("no counterpart in 4 layers", "not in the paper", "cited"))
        else:
            assert len(cell["runs"]) == 1
            assert 0 <= float(cell["error_percent"] or 0) <= 100
            report = json.loads((Path(cell["runs"][0]["run"]) / "report.json").read_text())
            assert report["data"]["test"] == 24
            assert bool(report.get("further_pretraining")) == (rows[cell["row"]].pretraining is not None)
    assert any(cell["runs"] for cell in result["cells"])
    page = (tmp_path / "study.html").read_text()
    assert "these figures mean nothing" in page
    assert "<svg" in page


def test_another_data_sets_test_texts_are_no_pre_training_texts(run: Run, tmp_path: Path) -> None:
    """As in the paper's Yelp data: a part of one's test set is in the other's training set."""

    def write(name: str, texts: list[str]) -> None:
        lines = [f'"{1 + row % 2}","{text}"' for row, text in enumerate(texts)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")

    def texts(kind: str, count: int) -> list[str]:
        return [
            f"the {kind} {row} is {'awful' if row % 2 else 'great'} , and this is {row * row} {kind}s ."
            for row in range(count)
        ]

    write("p-train.csv", texts("film", 24))
    write("p-test.csv", texts("bank", 10))
    write("f-train.csv", texts("goal", 40) + texts("bank", 8))
    write("f-test.csv", texts("war", 10))
    (tmp_path / "yelp.toml").write_text(
        '[yelp_polarity]\ndata = { dataset = "yelp_polarity", train = "p-train.csv", test = "p-test.csv" }\n'
        '[yelp_full]\ndata = { dataset = "yelp_full", train = "f-train.csv", test = "f-test.csv" }\n'
    )
    rows = [{"name": "without"}, {"name": "with", "pretraining": {"on": ["yelp_full"]}}]
    settings = {
        "data": {"train_examples": 20}, "truncation": {"max_seq_len": 16},
        "training": {"epochs": 1, "precision": "fp32"},
    }  # fmt: skip
    pretrain = {"training": {"steps": 2, "held_out": 4, "precision": "fp32"}, "pairs": {"sequence_len": 32}}
    small = {"about": "small", "set": settings, "corpus": {"workers": 1}, "pretrain": pretrain}
    change = {"columns": ["yelp_polarity", "yelp_full"], "rows": rows, "reference": "without", "findings": [],
              "scales": {"small": small}}  # fmt: skip
    result = run(change, datasets=str(tmp_path / "yelp.toml"), seeds=1)
    places = [cell["runs"][0]["run"] for cell in result["cells"] if cell["row"] == "with"]
    for place in places:
        told = json.loads((Path(place) / "report.json").read_text())["further_pretraining"][0]
        assert told["left_out"]["exact"] == 8
        assert told["documents"] == 40
        assert not told["transductive"]
