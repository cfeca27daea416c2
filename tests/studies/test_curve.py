"""`doctune curve`: sizes by encoders, nothing run twice, nested labels, what it writes and says, what is refused."""

from __future__ import annotations

import csv
import json
import shutil
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import doctune
from doctune.cli import main
from doctune.commands import finetune
from doctune.encoders.scratch import bert_config, new_bert
from doctune.errors import CheckpointError, ConfigError, DataError, TrainingError
from doctune.runs.data import split
from doctune.settings import FinetuneSettings
from doctune.studies.curve import build, prepare
from doctune.studies.curve_report import Point, labels_worth, sentences, summary
from doctune.studies.jobs import read_documents
from doctune.studies.report import markdown, render_html
from doctune.studies.results import StudyJson
from doctune.text.tokenizer import TextTokenizer

Curve = Callable[..., StudyJson]
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def adapted(tiny_encoder: Path, tmp_path: Path) -> Path:
    """An encoder of the shape of the tiny one with other weights."""
    folder = Path(shutil.copytree(tiny_encoder, tmp_path / "adapted"))
    size = len((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())
    new_bert(folder, bert_config(size, 2, 32, 128, 8), seed=7)
    return folder


@pytest.fixture
def given(tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path) -> dict[str, Any]:
    """Settings for runs of a second."""
    return {
        "train": str(tiny_csv(rows=40)), "test": str(tiny_csv("test.csv", rows=20)), "encoder": str(tiny_encoder),
        "output": str(tmp_path / "out"), "epochs": 1, "max_seq_len": 16, "batch_size": 8, "precision": "fp32",
        "seeds": 2,
    }  # fmt: skip


@pytest.fixture
def curve(given: dict[str, Any]) -> Curve:
    """Runs `doctune.curve` with these settings, changed where the test wants it."""
    return lambda sizes, **options: doctune.curve(sizes=sizes, **{**given, **options})


def made(output: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in output.rglob("job.json")}


def test_a_curve_and_what_it_writes(curve: Curve, adapted: Path, tmp_path: Path) -> None:
    result = curve([20, 10], adapted=[adapted])
    out = tmp_path / "out"
    names = {path.name for path in out.iterdir()}
    assert names == {"curve.json", "curve.csv", "curve.md", "curve.html", "curve-1.svg", "runs"}
    assert json.loads((out / "curve.json").read_text()) == result
    assert result["rows"] == ["base", "adapted"]
    assert [(c["name"], c["x"]) for c in result["columns"]] == [("10 labels", 10), ("20 labels", 20)]
    page, table = (out / "curve.html").read_text(), (out / "curve.md").read_text()
    with (out / "curve.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["row"], row["x"], row["seed"]) for row in rows] == [
        (name, size, seed) for name in ("base", "adapted") for size in ("10", "20") for seed in ("42", "43")
    ]
    for row in rows:
        report = json.loads((Path(row["run"]) / "report.json").read_text())
        assert float(row["error_percent"]) == report["test"]["error_percent"]
        assert report["data"]["train_examples"] == {"count": int(row["x"]), "of": 40}
        assert report["encoder"]["name"].endswith("adapted") == (row["row"] == "adapted")
        assert row["run"] in page
        assert row["run"] in table
    for cell in result["cells"]:
        low, high = cell["interval_percent"] or (0, 0)
        shown = f"{cell['error_percent']:.2f} ({low:.2f} to {high:.2f})"
        assert shown in page
        assert shown in table
    # There is no paper to compare a curve with.
    assert "paper" not in rows[0]
    assert "paper" not in page.lower()
    assert "paper" not in table.lower()
    plot = ElementTree.parse(out / "curve-1.svg").getroot()
    assert len(plot.findall(f"{SVG}circle")) == 4
    assert len(plot.findall(f"{SVG}polyline")) == 2
    assert not list((out / "runs").rglob("model"))


def test_runs_differ_in_nothing_but_encoder_labels_and_seed(curve: Curve, adapted: Path, tmp_path: Path) -> None:
    result = curve([10, "all"], adapted=[adapted], seeds=1)
    configs = []
    for cell in result["cells"]:
        config = finetune.read_toml(Path(cell["runs"][0]["run"]) / "config.toml")
        few = config["data"].pop("train_examples", None)
        assert few == (10 if cell["column"] == "10 labels" else None)
        assert Path(config["encoder"].pop("encoder")).is_absolute()
        assert Path(config["data"]["train"]).is_absolute()
        configs.append({key: value for key, value in config.items() if key != "output"})
    assert all(config == configs[0] for config in configs)
    assert len(list((tmp_path / "out" / "runs" / "tokenised").glob("*.arrow"))) == 2  # once for all of them


def test_what_is_added_repeats_no_run(curve: Curve, adapted: Path, tmp_path: Path) -> None:
    first = curve([10], adapted=[adapted])
    before = made(tmp_path / "out")
    assert len(before) == 4
    second = curve([10, 0.5], adapted=[adapted], seeds=3)
    after = made(tmp_path / "out")
    assert {path: after[path] for path in before} == before
    assert len(after) == 12
    assert [column["name"] for column in second["columns"]] == ["10 labels", "20 labels (0.5)"]
    old = {(c["row"], c["column"]): c["runs"] for c in first["cells"]}
    new = {(c["row"], c["column"]): c["runs"] for c in second["cells"]}
    assert all(new[place][:2] == runs for place, runs in old.items())
    again = curve([0.5, 10], adapted=[adapted], seeds=3)
    assert again["cells"] == second["cells"]
    assert made(tmp_path / "out") == after
    # The same number, given in another way, is the same run.
    curve([10, 20], adapted=[adapted], seeds=3)
    assert made(tmp_path / "out") == after


def test_a_killed_curve_goes_on(curve: Curve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*args: Any, **options: Any) -> Any:
        if len(made(tmp_path / "out")) == 1:
            raise KeyboardInterrupt
        return fit(*args, **options)

    fit = finetune.fit
    monkeypatch.setattr(finetune, "fit", killed)
    with pytest.raises(KeyboardInterrupt):
        curve([10, 20])
    monkeypatch.setattr(finetune, "fit", fit)
    before = made(tmp_path / "out")
    assert len(before) == 1
    curve([10, 20])
    assert len(made(tmp_path / "out")) == 4
    assert {path: made(tmp_path / "out")[path] for path in before} == before


def test_labels_of_a_seed_are_nested(given: dict[str, Any], adapted: Path) -> None:
    settings = build(doctune.settings.from_flat(given))
    ready = prepare(settings, [10, 0.5, "all"], [str(adapted)]).ready
    drawn: dict[tuple[str, int, str], set[str]] = {}
    for cell in ready.plan.cells:
        for run in cell.runs:
            own = FinetuneSettings.build({**run.job.settings, "output": "nowhere"})
            tokenizer = TextTokenizer.load(Path(own.encoder.encoder))
            parts = split(own, read_documents(own.data, own.target, tokenizer), own.training.seed)
            drawn[cell.row, run.seed, cell.column] = {*parts.train.ids(), *parts.validation.ids()}
    columns = [column.name for column in ready.study.columns]
    assert columns == ["10 labels", "20 labels (0.5)", "40 labels (all)"]
    for seed in (42, 43):
        ten, twenty, every = (drawn["base", seed, name] for name in columns)
        assert (len(ten), len(twenty), len(every)) == (10, 20, 40)
        assert ten < twenty < every
        assert all(drawn["adapted", seed, name] == drawn["base", seed, name] for name in columns)
    assert drawn["base", 42, columns[0]] != drawn["base", 43, columns[0]]


def test_one_encoder_alone(curve: Curve) -> None:
    result = curve([10, 20], seeds=1)
    assert result["rows"] == ["base"]
    assert result["sentences"] == []
    assert "does further pre-training" not in result["question"]
    assert "What the curve says" not in markdown(result)


def test_without_a_test_set(curve: Curve, adapted: Path) -> None:
    result = curve([20], test=None, adapted=[adapted])
    assert result["unit"] == "validation error %"
    assert result["columns"][0]["documents"] == "20 labelled for training and validation, none to test"
    assert any("There is no test set" in note for note in result["notes"])
    assert any("2 validation documents choose the epoch" in note for note in result["notes"])
    assert not any("choose the epoch" in note for note in curve([20], test=None, select="last")["notes"])


def test_what_an_adapted_encoder_has_seen_is_told(curve: Curve, adapted: Path) -> None:
    facts = {"steps": 10, "corpus": {"name": "films", "transductive": True}}
    (adapted / "doctune-pretraining.json").write_text(json.dumps(facts))
    result = curve([10], adapted=[adapted], seeds=1)
    assert any(note.startswith("adapted: further pre-trained on the texts of the test") for note in result["notes"])


def test_a_run_that_fails_is_told(curve: Curve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(one: Any, context: Any) -> Any:
        if one.settings.data.train_examples == 20:
            raise DataError("broken")
        return fit(one, context)

    fit = finetune.fit
    monkeypatch.setattr(finetune, "fit", broken)
    with pytest.raises(TrainingError, match="1 of 2 runs failed, the first: broken"):
        curve([10, 20], seeds=1)
    result = json.loads((tmp_path / "out" / "curve.json").read_text())
    assert [cell["absent"] for cell in result["cells"]] == ["", "failed: broken"]
    assert "failed: broken" in summary(result)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sizes": []}, "--sizes: must be given"),
        ({"sizes": [10, 41]}, "--sizes: 41, but train has 40 documents; give 40 or less, or all"),
        ({"sizes": ["many"]}, "--sizes: give a number of documents from 1, or a share between 0 and 1, found 'many'"),
        ({"sizes": [1]}, "--sizes: 1, but train has 2 classes"),
        ({"sizes": ["0.5", "20"]}, "--sizes: 20 and 20 labels (0.5) are the same; give each size once"),
        ({"sizes": [4]}, "are too few to hold out 10 % for validation"),
        ({"train_examples": 10}, "data.train_examples: a curve has its numbers of labels from --sizes"),
        ({"adapted": ["nowhere"]}, "--adapted nowhere: no such folder; give folders"),
        ({"test": "nowhere.csv"}, "nowhere.csv: no such file"),
        ({"text": ("words",)}, "no column 'words'"),
        ({"workers": 0, "on": "processes"}, "--workers: 0; give 1 or more"),
        ({"max_seq_len": 4000}, "truncation.max_seq_len: 4000 is more than"),
        ({"seed": "x"}, "training.seed"),
    ],
)
def test_what_is_refused_before_anything_runs(
    curve: Curve, options: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finetune, "fit", None)
    with pytest.raises((ConfigError, DataError, CheckpointError)) as found:
        curve(**{"sizes": [20], **options})
    assert message in str(found.value)
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_else_in_it(curve: Curve, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="is not empty, and holds no curve"):
        curve([10])
    (tmp_path / "out" / "precious.txt").unlink()
    with pytest.raises(DataError, match="too few"):
        curve([4])
    assert list((tmp_path / "out").iterdir()) == []  # an empty folder of the user's stays


def test_the_command(given: dict[str, Any], adapted: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def run(*flags: object) -> tuple[int, str, str]:
        arguments = [part for name, value in given.items() if name != "seeds"
                     for part in (f"--{name.replace('_', '-')}", value)]  # fmt: skip
        with pytest.raises(SystemExit) as stopped:
            main(["curve", *map(str, [*arguments, "--adapted", adapted, *flags])])
        out, err = capsys.readouterr()
        return int(stopped.value.code or 0), out, err

    code, out, _ = run("--sizes", 10, "all", "--dry-run")
    assert code == 0
    assert "# train: 40 documents" in out
    assert "12 of 12 runs to do" in out  # 2 sizes, 2 encoders, 3 seeds
    assert not (tmp_path / "out").exists()
    code, out, _ = run("--sizes", 10, "all", "--seeds", 2)
    assert code == 0
    table = [line.split() for line in out.splitlines()]
    assert ["labels", "base", "adapted"] in table
    assert {line[0] for line in table if len(line) == 9 and line[2] == "to"} <= {"10", "40"}
    assert "10 labels, adapted: " in out
    assert f"page   {tmp_path}/out/curve.html" in out
    assert all(len(line) <= 100 for line in out.splitlines() if str(tmp_path) not in line)
    code, _, err = run("--sizes", 10, "--train-examples", 5)
    assert code == 2
    assert err.splitlines()[-1].startswith("doctune: error: data.train_examples: a curve has")


def test_what_the_pretraining_is_worth() -> None:
    base = [Point(50, 40.0), Point(200, 30.0), Point(800, 20.0)]
    # Half way between 50 and 200 on a logarithmic axis, and a quarter of the way from 200 to 800.
    assert labels_worth(base, Point(50, 35.0)) == "about 100, by interpolation."
    assert labels_worth(base, Point(50, 27.5)) == "about 280, by interpolation."
    assert labels_worth(base, Point(200, 20.0)) == "about 800, by interpolation."
    assert labels_worth(base, Point(50, 19.0)) == "more than 800."
    assert labels_worth(base, Point(50, 41.0)) is None
    assert labels_worth(base, Point(800, 10.0)) is None  # nothing is known beyond
    assert labels_worth(base, Point(100, 10.0)) is None
    assert labels_worth([Point(50, 40.0), Point(200, 45.0), Point(800, 20.0)], Point(50, 40.0)) is None


def test_it_is_said_only_where_the_pretraining_helped(curve: Curve, adapted: Path) -> None:
    result = curve([10, 20], adapted=[adapted])
    cells = {(cell["row"], cell["column"]): cell for cell in result["cells"]}
    for place, error in {("base", "10 labels"): 40.0, ("base", "20 labels"): 20.0, ("adapted", "10 labels"): 30.0,
                         ("adapted", "20 labels"): 19.0}.items():  # fmt: skip
        cells[place]["error_percent"] = error
    cells["adapted", "10 labels"]["against_reference"] = [-10.0, -12.0, -8.0]
    cells["adapted", "20 labels"]["against_reference"] = [-1.0, -3.0, 1.0]
    assert sentences(result) == [
        "10 labels, adapted: helped: error 40.00 % -> 30.00 %, difference -10.00 points "
        "(95 % interval -12.00 to -8.00)",
        "20 labels, adapted: no difference that these runs can tell: error 20.00 % -> 19.00 %, difference -1.00 points "
        "(95 % interval -3.00 to +1.00)",
        "adapted with 10 labels errs as often as base with about 14, by interpolation.",
    ]
    cells["adapted", "10 labels"]["against_reference"] = [-10.0, -22.0, 2.0]
    assert len(sentences(result)) == 2
    result["sentences"] = ["<b>said</b>"]
    assert "&lt;b&gt;said" in render_html(result)
