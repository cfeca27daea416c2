"""What a study is: rows, columns and findings from a TOML file, at one of three scales."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from doctune.config import Settings, Tree, did_you_mean, merge, read_toml
from doctune.errors import ConfigError

SCALES = ("smoke", "small", "full")
NAMES = ("table2", "table3", "table4", "table5", "table6", "table7", "table8", "figure2", "figure3", "figure4")
BUDGETS = {"steps", "tokens", "minutes"}


class Pretraining(Settings):
    """Further pre-training of a row's encoder.

    `on`: the column's own data set (task), those of its domain, all of the study, or the named ones. `share`: the
    encoder after this share of the budget.
    """

    on: Literal["task", "domain", "all"] | tuple[str, ...]
    share: float = Field(1.0, gt=0.0, le=1.0)


class Row(Settings):
    """One method.

    `paper`: what the paper found, by column. `set`: settings of the runs. `layers`: layers of BERT-base's 12, which an
    encoder of another depth has in proportion. `rate`: the paper's learning rate for BERT-base, which a smaller
    encoder has in the proportion of the default rates. `x`: where the row stands in a plot over rows. `columns`: the
    ones it has; default: all. `cited`: a model of others that the paper only cites, and nobody runs here.
    """

    name: str
    paper: dict[str, float] = Field(default_factory=dict)
    set: Tree = Field(default_factory=dict)
    layers: tuple[int, ...] | None = None
    rate: float | None = None
    encoder: Literal["base", "large"] = "base"
    pretraining: Pretraining | None = None
    multitask: bool = False
    cited: bool = False
    x: float | None = None
    columns: tuple[str, ...] | None = None


class Column(Settings):
    """One data set, or one amount of its data; `encoder`: the one that its language needs."""

    name: str
    data: str
    set: Tree = Field(default_factory=dict)
    encoder: Literal["chinese"] | None = None
    x: float | None = None


class Finding(Settings):
    """A conclusion of the paper: one row has fewer errors than others; by default in every column."""

    text: str
    better: str
    than: tuple[str, ...]
    columns: tuple[str, ...] | None = None


class Scale(Settings):
    """How large the runs are.

    `embedded`: the documents are docstrings of installed libraries, whatever the column. `encoders` by role: base,
    large, chinese. `set`, `corpus`, `pretrain` and `multitask` are settings of these commands. `columns`: those of the
    study that are run at this scale.
    """

    about: str
    seeds: int = Field(1, ge=1)
    embedded: bool = False
    encoders: dict[str, str]
    set: Tree = Field(default_factory=dict)
    corpus: Tree = Field(default_factory=dict)
    pretrain: Tree = Field(default_factory=dict)
    multitask: Tree = Field(default_factory=dict)
    columns: tuple[str, ...] | None = None


class Study(Settings):
    """A table or a figure. `reference` is the row from which the plot shows the differences.

    `reduction_against`: the row from which each other row's average reduction of the error is told.
    """

    title: str
    question: str
    unit: str = "test error %"
    reference: str
    reduction_against: str | None = None
    plot: Literal["differences", "over rows", "over columns", "training"] = "differences"
    axis: str = ""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    findings: tuple[Finding, ...] = ()
    scales: dict[str, Tree] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_columns(cls, tree: Any) -> Any:
        """A column that is only a data set may be written as a string."""
        if isinstance(tree, dict) and isinstance(tree.get("columns"), (list, tuple)):
            columns = [{"name": one, "data": one} if isinstance(one, str) else one for one in tree["columns"]]
            return {**tree, "columns": columns}
        return tree

    @model_validator(mode="after")
    def _names_exist(self) -> Study:
        rows, columns = [row.name for row in self.rows], [column.name for column in self.columns]
        named_rows = [self.reference, *([self.reduction_against] if self.reduction_against else [])]
        for name in [*named_rows, *(name for f in self.findings for name in (f.better, *f.than))]:
            if name not in rows:
                raise ValueError(f"no row {name!r}{did_you_mean(name, rows)}")
        named = [one.columns for one in self.rows] + [one.columns for one in self.findings]
        for name in (name for some in named for name in some or ()):
            if name not in columns:
                raise ValueError(f"no column {name!r}{did_you_mean(name, columns)}")
        for names in (rows, columns):
            if len(set(names)) < len(names):
                raise ValueError(f"a name stands twice in {', '.join(names)}")
        return self


def load_study(name: str, scale: str) -> tuple[str, Study, Scale]:
    """A study by its name, or from a TOML file of one's own: its name, itself, and its scale."""
    folder = files("doctune.studies") / "definitions"
    path = Path(name)
    if name in NAMES:
        path = Path(str(folder / f"{name}.toml"))
    elif path.suffix != ".toml":
        raise ConfigError(f"study: no study {name!r}, and no TOML file{did_you_mean(name, NAMES)}")
    study = Study.build(read_toml(path))
    common = read_toml(Path(str(folder / "scales.toml")))
    if scale not in common:
        raise ConfigError(f"--scale: no scale {scale!r}{did_you_mean(scale, common)}")
    own = study.scales.get(scale, {})
    budget = BUDGETS & own.get("pretrain", {}).get("training", {}).keys()
    if budget:  # it takes the place of the common one, whatever that counts
        training = common[scale]["pretrain"]["training"]
        common[scale]["pretrain"]["training"] = {k: v for k, v in training.items() if k not in BUDGETS}
    return path.stem, study, Scale.build(merge(common[scale], own))


def described() -> list[tuple[str, str]]:
    """The names and titles of all studies."""
    return [(name, load_study(name, "smoke")[1].title) for name in NAMES]
