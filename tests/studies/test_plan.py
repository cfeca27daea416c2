"""From a study to its jobs: what they are known by, and what is checked before any of them runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from doctune.errors import ConfigError, UserError
from doctune.studies.command import Asked, Prepared, prepare
from doctune.studies.datasets import entries
from doctune.studies.definition import NAMES, SCALES
from doctune.studies.plan import in_proportion

Planned = Callable[..., Prepared]


def keys(prepared: Prepared) -> list[str]:
    return [job.key for job in prepared.plan.jobs]


@pytest.mark.parametrize(
    ("layers", "depth", "found"),
    [
        ((11,), 12, (11,)), ((0,), 12, (0,)), ((11,), 6, (5,)), ((5,), 6, (2,)), ((4,), 6, None), ((2,), 4, (0,)),
        ((0, 1, 2, 3), 6, (0, 1)), ((8, 9, 10, 11), 6, (4, 5)), ((8, 9, 10, 11), 4, (2, 3)), ((0, 1, 2, 3), 1, (0,)),
        ((0,), 24, (1,)), ((8, 9, 10, 11), 24, tuple(range(16, 24))), (tuple(range(12)), 6, tuple(range(6))),
    ],
)  # fmt: skip
def test_layers_at_the_same_depth(layers: tuple[int, ...], depth: int, found: tuple[int, ...] | None) -> None:
    assert in_proportion(layers, depth) == found


def test_a_run_is_known_by_its_content(planned: Planned, tmp_path: Path) -> None:
    first = planned()
    assert len(set(keys(first))) == len(first.plan.jobs) == 2 * 2  # the single layer has no counterpart in two layers
    assert [cell.absent for cell in first.plan.cells if cell.row == "one layer"] == ["no counterpart in 2 layers"]
    other = tmp_path / "elsewhere"
    other.mkdir()
    for name in ("train.csv", "test.csv", "data.toml"):
        shutil.copy(tmp_path / name, other / name)
    assert keys(planned(datasets=str(other / "data.toml"), cache=str(other / "runs"))) == keys(first)
    (other / "train.csv").write_text((other / "train.csv").read_text() + "a great film,pos\n")
    assert not set(keys(planned(datasets=str(other / "data.toml")))) & set(keys(first))
    assert set(keys(planned(seeds=3))) > set(keys(first))


def test_what_a_row_says_that_is_the_default_anyway(planned: Planned) -> None:
    rows = [
        {"name": "nothing"},
        {"name": "truncation", "set": {"truncation": {"truncation": "head+tail"}}},
        {"name": "layer", "layers": [11]},
        {"name": "rate", "rate": 2e-5},
    ]
    assert len(planned({"rows": rows, "reference": "nothing", "findings": []}, seeds=1).plan.jobs) == 1


def test_an_encoder_is_known_by_its_content(planned: Planned, tiny_encoder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(tiny_encoder, copy)
    assert keys(planned(encoders=(("base", str(copy)),))) == keys(planned())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "hidden_dropout_prob": 0.3}))
    assert not set(keys(planned(encoders=(("base", str(copy)),)))) & set(keys(planned()))


def test_pretraining_needs_texts(asked: Callable[..., Asked]) -> None:
    rows: list[dict[str, Any]] = [{"name": "head"}]
    rows += [
        {"name": name, "pretraining": {"on": "task", "share": share}} for name, share in (("half", 0.5), ("all", 1.0))
    ]
    with pytest.raises(ConfigError, match="no texts for further pre-training"):
        prepare(asked({"rows": rows, "findings": []}))


@pytest.mark.parametrize("name", NAMES)
def test_every_study_can_be_planned(name: str, tmp_path: Path) -> None:
    prepared = prepare(Asked(name, "smoke", cache=str(tmp_path)))
    jobs = {job.key: job for job in prepared.plan.jobs}
    place = {key: number for number, key in enumerate(jobs)}
    assert all(place[need] < place[job.key] for job in jobs.values() for need in job.needs)
    for cell in prepared.plan.cells:
        assert bool(cell.runs) != bool(cell.absent)
        assert all(run.job.key in jobs for run in cell.runs)
    for row in prepared.study.rows:
        if row.pretraining is not None:
            runs = [run for cell in prepared.plan.cells if cell.row == row.name for run in cell.runs]
            assert runs
            assert all(any(jobs[need].kind == "pretrain" for need in run.job.needs) for run in runs)


def test_corpora_are_searched_for_every_test_text(tmp_path: Path) -> None:
    prepared = prepare(Asked("table5", "smoke", cache=str(tmp_path)))
    corpora = [job for job in prepared.plan.jobs if job.kind == "corpus"]
    assert corpora
    assert all(job.settings["leaks"]["exclude"] == ["pydocs:installed:test"] for job in corpora)


def test_snapshots_of_one_pretraining(tmp_path: Path) -> None:
    prepared = prepare(Asked("figure3", "smoke", cache=str(tmp_path)))
    assert [job.kind for job in prepared.plan.jobs].count("pretrain") == 1
    named = [job.settings["encoder"]["encoder"] for job in prepared.plan.jobs if job.kind == "finetune"]
    assert [name.rpartition("/")[2] for name in named[1:]] == [
        "snapshots#1",
        "snapshots#2",
        "snapshots#4",
        "snapshots#6",
        "model",
    ]


@pytest.mark.parametrize("scale", [scale for scale in SCALES if scale != "smoke"])
def test_rates_follow_the_width(scale: str, tmp_path: Path, tiny_encoder: Path, shared: Path) -> None:
    asked = Asked(
        "figure2", scale, data=str(shared / "data"), cache=str(tmp_path), encoders=(("base", str(tiny_encoder)),)
    )
    prepared = prepare(asked)
    rates = {job.about.partition(" ")[0]: job.settings["optimizer"]["learning_rate"] for job in prepared.plan.jobs}
    assert rates == {"2e-5": 5e-4, "5e-5": 1.25e-3, "1e-4": 2.5e-3, "4e-4": 0.01}  # 25 times, as the defaults
    assert any("25 times the paper's" in note for note in prepared.plan.notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": None}, "--data: must be given"),
        ({"datasets": None, "data": "nowhere"}, "--data nowhere: no such folder"),
        ({"data": "."}, "--data and --datasets: both say where the data are; give one of them"),
        ({"scale": "smoke"}, "--datasets: this scale reads docstrings of installed libraries only; leave it out"),
        ({"columns": ("film",)}, "no column 'film'; did you mean 'films'"),
        ({"encoders": (("base", "no/such/folder"),)}, "no such folder"),
    ],
)
def test_what_cannot_run(planned: Planned, options: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=message):
        planned(**options)


def test_missing_data_are_named(planned: Planned, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text('[news]\ndata = { train = "train.csv", test = "test.csv" }\n')
    with pytest.raises(ConfigError, match=r"no films; the study needs films\. Give their files, or leave"):
        planned(datasets=str(tmp_path / "other.toml"))
    (tmp_path / "other.toml").write_text('[films]\ndata = { train = "train.csv" }\n')
    with pytest.raises(ConfigError, match="films: no test documents"):
        planned(datasets=str(tmp_path / "other.toml"))
    with pytest.raises(ConfigError, match="bad_setting"):
        planned({"rows": [{"name": "head", "set": {"training": {"bad_setting": 1}}}], "findings": []})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("films = 3", r"other\.toml: films: write \[films\], and below it data = { \.\.\. }, found 3"),
        ("[films]\ndatas = {}", r"other\.toml: films: .*datas: no such setting; did you mean 'data'"),
        ('[films]\ndata = { train = "gone.csv", test = "test.csv" }', r"films: .*gone\.csv: no such file"),
        ('[films]\ndata = { train = "train.csv", test = "test.csv" }\ncorpus = ["imdb:gone:train"]',
         r"films: corpus: imdb:.*gone:train: no such file or folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_data_set_names_it(planned: Planned, entry: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text(entry + "\n")
    with pytest.raises(UserError, match=message):
        planned(datasets=str(tmp_path / "other.toml"))


def test_data_of_the_hub_have_no_folder(tmp_path: Path) -> None:
    (tmp_path / "data.toml").write_text(
        '[films]\ndata = { train = "hf:someone/films", test = "test.csv" }\ncorpus = ["hf:someone/films", "a.txt"]\n'
    )
    entry = entries(tmp_path / "data.toml")["films"]
    assert entry.data == {"train": "hf:someone/films", "test": str(tmp_path.resolve() / "test.csv")}
    assert entry.corpus == ("hf:someone/films", str(tmp_path.resolve() / "a.txt"))


def test_a_folder_without_the_original_files_says_where_to_name_others(planned: Planned, tmp_path: Path) -> None:
    (tmp_path / "data" / "trec").mkdir(parents=True)
    (tmp_path / "data" / "trec" / "part.label").touch()
    with pytest.raises(ConfigError, match=r"^trec: .* name its files in a TOML file, with --datasets$"):
        planned({"columns": ["trec"]}, datasets=None, data=str(tmp_path / "data"))


def test_a_bilstm_on_a_fixed_encoder_has_a_rate_of_its_own(tmp_path: Path) -> None:
    prepared = prepare(Asked("table6", "smoke", cache=str(tmp_path), columns=("imdb", "trec")))
    rates = {job.about.partition(" ")[0]: job.settings["optimizer"]["learning_rate"]
             for job in prepared.plan.jobs if job.kind == "finetune"}  # fmt: skip
    assert (rates["BERT-Feat"], rates["BERT-FiT"]) == (1e-3, 5e-4)


def test_a_column_without_an_encoder_is_left_out_aloud(
    tmp_path: Path, tiny_encoder: Path, tiny_csv: Callable[..., Path]
) -> None:
    files = {"train": tiny_csv("train.csv").name, "test": tiny_csv("test.csv").name}
    data = tmp_path / "data.toml"
    data.write_text(tomli_w.dumps({name: {"data": files} for name in ("imdb", "sogou")}))
    asked = Asked(
        "table2", "small", datasets=str(data), cache=str(tmp_path / "runs"), encoders=(("base", str(tiny_encoder)),)
    )
    assert [column.name for column in prepare(asked).study.columns] == ["imdb"]
    assert prepare(asked).notes == ("sogou is left out: no encoder for its language (--chinese-encoder).",)
    both = replace(asked, encoders=(*asked.encoders, ("chinese", str(tiny_encoder))))
    assert {cell.column for cell in prepare(both).plan.cells} == {"imdb", "sogou"}
    assert prepare(both).notes == ()
