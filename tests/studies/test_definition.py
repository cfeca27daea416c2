"""The studies as they are written down: the paper's figures, complete and well-formed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from doctune.config import ConfigError, merge
from doctune.settings import FinetuneSettings
from doctune.studies.datasets import DOMAINS
from doctune.studies.definition import NAMES, SCALES, load_study
from doctune.studies.results import CellJson, reductions

TABLES = {
    "table2": "table2_long_text", "table3": "table3_layers_imdb", "table5": "table5_further_pretraining",
    "table6": "table6_comparison", "table7": "table7_multitask", "table8": "table8_large",
}  # fmt: skip


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NAMES)
def test_every_study_is_well_formed_at_every_scale(name: str, scale: str) -> None:
    found, study, size = load_study(name, scale)
    assert found == name
    assert size.about
    assert {"base", "large"} <= set(size.encoders)
    assert study.findings
    columns = {column.name for column in study.columns}
    assert all(set(row.paper) <= columns for row in study.rows)
    assert set(size.columns or ()) <= columns


def test_the_scales_differ_in_size() -> None:
    sizes = [load_study("table3", scale)[2].set for scale in SCALES]
    assert [one["truncation"]["max_seq_len"] for one in sizes] == [32, 128, 512]
    assert "train_examples" not in sizes[2].get("data", {})


@pytest.mark.parametrize("name", TABLES)
def test_the_papers_figures(name: str, shared: Path) -> None:
    table = json.loads((shared / "paper" / "tables.json").read_text())[TABLES[name]]
    theirs = {row[0]: dict(zip(table["columns"][1:], row[1:], strict=True)) for row in table["rows"]}
    ours = {row.name: row.paper for row in load_study(name, "full")[1].rows}
    assert list(ours) == list(theirs)
    for row, figures in ours.items():
        assert figures == {column: value for column, value in theirs[row].items() if value is not None}


def test_the_papers_figures_of_table_4(shared: Path) -> None:
    table = json.loads((shared / "paper" / "tables.json").read_text())["table4_layerwise_decay_imdb"]
    theirs = [(rate, decay, error) for rate, decay, error in table["rows"]]
    ours = []
    for row in load_study("table4", "full")[1].rows:
        layerwise = row.set["layerwise"]
        ours.append((row.rate, layerwise.get("layer_decay", 1.0), row.paper["imdb"]))
    assert ours == theirs


def test_the_papers_figures_of_its_figures(shared: Path) -> None:
    told = json.loads((shared / "paper" / "tables.json").read_text())
    assert [row.rate for row in load_study("figure2", "full")[1].rows] == told["figure2_catastrophic_forgetting"][
        "learning_rates"
    ]
    steps = {row.name: row.x for row in load_study("figure3", "full")[1].rows}
    assert steps["100,000"] == 100_000 / load_study("figure3", "full")[2].pretrain["training"]["steps"]
    few = {row.name: row.paper["0.4 %"] for row in load_study("figure4", "full")[1].rows}
    said = ", ".join(f"{name} {value}" for name, value in few.items())
    assert told["figure4_few_shot_imdb"]["finding"] == f"with 0.4% of the training data {said}"


def test_the_papers_setting(shared: Path) -> None:
    told = json.loads((shared / "paper" / "tables.json").read_text())["hyperparameters"]
    full = load_study("table6", "full")[2]
    pretraining, fine_tuning = told["further_pretraining"], told["fine_tuning"]
    assert full.pretrain["training"] == {name: pretraining[name] for name in ("steps", "batch_size")}
    assert full.pretrain["optimizer"]["learning_rate"] == pretraining["learning_rate"]
    built = FinetuneSettings.build(
        merge({"output": "x", "data": {"train": "x"}, "encoder": {"encoder": "x"}}, full.set)
    )
    assert built.training.batch_size == fine_tuning["batch_size"]
    assert built.training.epochs == fine_tuning["max_epochs"]
    assert built.truncation.max_seq_len == fine_tuning["max_seq_length"]
    assert built.optimizer.betas == (fine_tuning["adam_beta1"], fine_tuning["adam_beta2"])
    assert built.schedule.warmup == fine_tuning["warmup_proportion"]
    assert (built.layerwise.layerwise, built.layerwise.layer_decay) == ("decay", fine_tuning["layerwise_decay"])
    assert built.encoder.attention_dropout == fine_tuning["dropout"]
    domains: dict[str, list[str]] = {}
    for name, domain in DOMAINS.items():
        domains.setdefault(domain, []).append(name)
    assert domains == told["domains"]


def test_the_average_reductions_are_those_of_the_paper(shared: Path) -> None:
    told = json.loads((shared / "paper" / "tables.json").read_text())["table6_comparison"]
    study = load_study("table6", "full")[1]
    cells = [
        CellJson(
            row=row.name, column=column, error_percent=None if row.cited else error, interval_percent=None,
            paper=error, runs=[], absent="",
        )
        for row in study.rows for column, error in row.paper.items()
    ]  # fmt: skip
    found = {one["row"]: one["paper_percent"] for one in reductions(study, cells)}
    assert found == pytest.approx(told["average_error_reduction_vs_bert_feat_percent"], abs=0.01)


LEAST: dict[str, Any] = {
    "title": "a", "question": "b", "reference": "one", "columns": ["imdb"], "rows": [{"name": "one"}, {"name": "two"}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference": "on"}, "no row 'on'; did you mean 'one'"),
        ({"reduction_against": "tow"}, "no row 'tow'; did you mean 'two'"),
        ({"findings": [{"text": "x", "better": "one", "than": ["tow"]}]}, "no row 'tow'; did you mean 'two'"),
        ({"rows": [{"name": "one", "columns": ["imbd"]}]}, "no column 'imbd'; did you mean 'imdb'"),
        ({"rows": [{"name": "one"}, {"name": "one"}]}, "a name stands twice"),
        ({"rows": [{"name": "one", "sett": {}}]}, "no such setting"),
        ({"rows": [{"name": "one", "pretraining": {"on": "task", "share": 0}}]}, "share"),
    ],
)
def test_bad_definitions(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    import tomli_w

    path = tmp_path / "mine.toml"
    path.write_text(tomli_w.dumps(LEAST))
    assert load_study(str(path), "small")[0] == "mine"
    path.write_text(tomli_w.dumps({**LEAST, **change}))
    with pytest.raises(ConfigError, match=message):
        load_study(str(path), "small")


def test_unknown_studies_and_scales() -> None:
    with pytest.raises(ConfigError, match="no study 'table9'"):
        load_study("table9", "small")
    with pytest.raises(ConfigError, match="no scale 'large'"):
        load_study("table2", "large")


def test_the_studies_of_the_documentation_load() -> None:
    files = sorted((Path(__file__).parents[2] / "docs" / "studies").glob("*.toml"))
    assert files
    for path in files:
        name, study, scale = load_study(str(path), "small")
        assert name == path.stem
        assert {finding.better for finding in study.findings} <= {row.name for row in study.rows}
        FinetuneSettings.build({**merge(scale.set, study.rows[0].set), "output": "x", "encoder": {"encoder": "x"},
                                "data": {"train": "x.csv"}})  # fmt: skip
