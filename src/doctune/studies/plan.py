"""From a study to its cells and the jobs behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doctune.config import Tree, merge
from doctune.encoders.base import chosen_layers
from doctune.encoders.load import Shape, read_shape
from doctune.encoders.resolve import resolve_encoder
from doctune.errors import ConfigError
from doctune.runs.identity import encoder_content, path_content
from doctune.settings import CorpusSettings, FinetuneSettings, MultitaskSettings, PretrainSettings
from doctune.studies.datasets import StudyData
from doctune.studies.definition import Column, Row, Scale, Study
from doctune.studies.jobs import CACHED, Job, make_job
from doctune.studies.tiny import SIZES, tiny_encoder
from doctune.training.rates import default_learning_rate

PAPER_LAYERS, PAPER_RATE = 12, 2e-5
SHARES = 8
"""Encoders that a pre-training keeps on its way where a row wants one before its end."""
CITED = "cited"
"""Why a cell has no run: the paper only cites what others found."""
UNNAMED = "not-written"  # the output of settings that are only checked


@dataclass(frozen=True, slots=True)
class Run:
    """One seed of a cell: its job, and where in the job's folder its report is."""

    seed: int
    job: Job
    part: str = ""

    @property
    def place(self) -> str:
        """The folder of the report inside the cache."""
        return f"{self.job.place}/{self.part}" if self.part else self.job.place


@dataclass(frozen=True, slots=True)
class Cell:
    """A row in a column: its runs, or why there is none."""

    row: str
    column: str
    runs: tuple[Run, ...] = ()
    absent: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a study will do: cells in the order of the table, jobs in an order in which they can be done."""

    cells: tuple[Cell, ...]
    jobs: tuple[Job, ...]
    notes: tuple[str, ...] = ()


class Planner:
    """Makes the plan of one study at one scale."""

    def __init__(
        self, study: Study, scale: Scale, data: dict[str, StudyData], seeds: Sequence[int], cache: Path
    ) -> None:
        self.study, self.scale, self.data, self.seeds, self.cache = study, scale, data, seeds, cache
        self.columns = [c for c in study.columns if c.data in data]
        self.jobs: dict[str, Job] = {}
        self.notes: list[str] = []
        self.encoders: dict[str, tuple[Shape, str]] = {}
        rows = [row.pretraining for row in study.rows if row.pretraining is not None]
        self.snapshots = SHARES if any(one.share < 1 for one in rows) else 0

    def plan(self) -> Plan:
        """All cells and jobs; what is wrong with any of them is told now, before hours of the others."""
        cells = [self._cell(row, column) for row in self.study.rows for column in self.columns]
        return Plan(tuple(cells), tuple(self.jobs.values()), tuple(self.notes))

    def _cell(self, row: Row, column: Column) -> Cell:
        if row.cited:
            return Cell(row.name, column.name, absent=CITED)
        if row.columns is not None and column.name not in row.columns:
            return Cell(row.name, column.name, absent="not in the paper")
        base = self._encoder(row, column)
        if base is None:
            return Cell(row.name, column.name, absent="no such encoder at this scale")
        if base not in self.encoders:
            folder = resolve_encoder(base)
            self.encoders[base] = (read_shape(folder), encoder_content(folder))
        shape = self.encoders[base][0]
        layers = None if row.layers is None else in_proportion(row.layers, shape.num_layers)
        if row.layers is not None and layers is None:
            return Cell(row.name, column.name, absent=f"no counterpart in {shape.num_layers} layers")
        missing = self._missing(row)
        if missing:
            return Cell(row.name, column.name, absent=f"{', '.join(missing)} not among the columns")
        encoder, contents, needs = self._adapted(row, column, base)
        tree = merge(self.scale.set, column.set, row.set)
        if layers is not None:
            tree = merge(tree, {"features": {"layers": layers}})
        self._note(row, column, shape)
        fixed = row.set.get("features", {}).get("head") == "bilstm" and row.set["layerwise"]["freeze_encoder"]
        rate = default_learning_rate(shape.hidden_size, fixed) if row.rate is None else rate_for(row.rate, shape)
        tree = merge(tree, {"optimizer": {"learning_rate": rate}, "encoder": {"encoder": encoder}})
        if row.multitask:
            return Cell(row.name, column.name, tuple(self._multitask(row, column, tree, contents, needs)))
        runs = self._single(row, column, tree, contents, needs, shape.num_layers)
        return Cell(row.name, column.name, tuple(runs))

    def _note(self, row: Row, column: Column, shape: Shape) -> None:
        """What a reader must know of the encoder, above all if it is not BERT-base."""
        name = self.scale.encoders[column.encoder or row.encoder]
        notes = [f"Encoder: {name}, {shape.num_layers} layers of {shape.hidden_size}."]
        if row.layers is not None and shape.num_layers != PAPER_LAYERS:
            notes.append(
                f"The encoder has {shape.num_layers} layers: a row's layers of {PAPER_LAYERS} stand for those of "
                f"the same depth."
            )
        times = default_learning_rate(shape.hidden_size) / PAPER_RATE
        if times != 1:
            notes.append(
                f"Learning rates are {times:g} times the paper's, as the default is for an encoder of width "
                f"{shape.hidden_size}."
            )
        self.notes += [note for note in notes if note not in self.notes]

    def _single(
        self, row: Row, column: Column, tree: Tree, encoder: str, needs: tuple[str, ...], num_layers: int
    ) -> Iterator[Run]:
        data = self.data[column.data]
        for seed in self.seeds:
            own = merge({"data": data.settings}, tree, {"training": {"seed": seed, "seeds": 1}})
            about = f"{row.name} · {column.name} · seed {seed}"
            yield Run(seed, self._add(finetune_job(own, data.content, encoder, num_layers, about, needs)))

    def _multitask(self, row: Row, column: Column, tree: Tree, encoder: str, needs: tuple[str, ...]) -> Iterator[Run]:
        """One job has all columns of the row: each is a task of it."""
        columns = [c for c in self.columns if row.columns is None or c.name in row.columns]
        if len(columns) < 2:
            raise ConfigError(f"--columns: {row.name} trains on several data sets at once; give two columns or more")
        common = {key: value for key, value in tree.items() if key != "data"}
        tasks, found = [], {}
        for one in columns:
            data = self.data[one.data]
            own = merge(data.settings, self.scale.set.get("data", {}), one.set.get("data", {}), row.set.get("data", {}))
            tasks.append({"name": one.name, "data": own})
            found[one.name] = data.content
        for seed in self.seeds:
            settings = merge(common, self.scale.multitask, {"tasks": tasks, "training": {"seed": seed, "seeds": 1}})
            bare = {**settings, "tasks": [_without_paths(task) for task in tasks]}
            MultitaskSettings.build({**settings, "output": UNNAMED})
            about = f"{row.name} · {' + '.join(one.name for one in columns)} · seed {seed}"
            contents = [_without_paths(bare), found, encoder]
            job = self._add(make_job("multitask", settings, contents, about, needs, found))
            yield Run(seed, job, f"continued/{column.name}")

    def _encoder(self, row: Row, column: Column) -> str | None:
        """The cell's encoder before any further pre-training: a name or a whole path; None where the scale has none."""
        name = self.scale.encoders.get(column.encoder or row.encoder)
        if name in SIZES:
            return str(tiny_encoder(name, self.cache).resolve())
        folder = Path(name or "").expanduser()
        return str(folder.resolve()) if name and folder.is_dir() else name or None

    def _adapted(self, row: Row, column: Column, base: str) -> tuple[str, str, tuple[str, ...]]:
        """The encoder of a cell as its settings name it, what it is made of, and the jobs that it needs."""
        contents = self.encoders[base][1]
        if row.pretraining is None:
            return base, contents, ()
        names = self._names(row, column)
        sources = list(dict.fromkeys(one for name in names for one in self.data[name].corpus))
        if not sources:
            raise ConfigError(f"{', '.join(names)}: no texts for further pre-training; name them as corpus = [...]")
        tests = list(dict.fromkeys(one for data in self.data.values() for one in data.tests))
        what = f"pre-training on {' + '.join(names)}"
        tree = merge(self.scale.corpus, {"encoder": base, "sources": sources, "name": "+".join(names)},
                     {"leaks": {"exclude": tests}})  # fmt: skip
        CorpusSettings.build({**tree, "output": UNNAMED})
        read = [[self.data[name].content for name in names], [data.content for data in self.data.values()]]
        made = self._add(
            make_job("corpus", tree, [_without_paths(tree), _content_of(sources), read, contents], f"corpus for {what}")
        )
        tree = merge(self.scale.pretrain, {"start": {"encoder": base}, "corpus": f"{CACHED}{made.place}"})
        tree = merge(tree, {"training": {"snapshots": self.snapshots}})
        PretrainSettings.build({**tree, "output": UNNAMED})
        bare = {**tree, "start": {k: v for k, v in tree["start"].items() if k != "encoder"}}
        job = self._add(make_job("pretrain", tree, [bare, contents], what, (made.key,)))
        place = f"{job.place}/model"
        if row.pretraining.share < 1:
            place = f"{job.place}/snapshots#{max(round(row.pretraining.share * SHARES), 1)}"
        return f"{CACHED}{place}", place, (job.key,)

    def _names(self, row: Row, column: Column) -> list[str]:
        """The data sets that a row is pre-trained on, in the order of the columns."""
        assert row.pretraining is not None
        on, own = row.pretraining.on, self.data[column.data]
        if on == "task":
            return [own.name]
        if on == "all":
            return [name for name, data in self.data.items() if data.corpus and data.domain != data.name]
        if on == "domain":
            return [name for name, data in self.data.items() if data.domain == own.domain]
        return list(on)

    def _missing(self, row: Row) -> list[str]:
        """Data sets that a row is pre-trained on by name, and that are not there."""
        on = () if row.pretraining is None or isinstance(row.pretraining.on, str) else row.pretraining.on
        return [name for name in on if name not in self.data]

    def _add(self, job: Job) -> Job:
        return self.jobs.setdefault(job.key, job)


def finetune_job(
    settings: Tree, data: dict[str, str], encoder: str, num_layers: int, about: str, needs: tuple[str, ...] = ()
) -> Job:
    """A fine-tuning, known by its settings and by what its documents (by split) and its encoder hold.

    All settings count, defaults included: who says a default asks for the same run as who does not.
    """
    whole = FinetuneSettings.build({**settings, "output": UNNAMED}).model_dump(mode="json")
    whole["features"]["layers"] = chosen_layers(whole["features"]["layers"], num_layers)
    return make_job("finetune", settings, [_without_paths(whole), data, encoder], about, needs, {"": data})


def in_proportion(layers: tuple[int, ...], num_layers: int) -> tuple[int, ...] | None:
    """The counterpart, in an encoder of `num_layers`, of some layers of BERT-base's twelve; None if there is none.

    A single layer has one if its depth falls on a layer. The first or last few of the twelve are as large a share
    here, and two at least, so that there is something to combine.
    """
    if len(layers) == 1:
        depth = (layers[0] + 1) * num_layers
        return (depth // PAPER_LAYERS - 1,) if depth % PAPER_LAYERS == 0 else None
    if len(layers) == PAPER_LAYERS:
        return tuple(range(num_layers))
    count = min(max(round(len(layers) * num_layers / PAPER_LAYERS), 2), num_layers)
    first = 0 if layers[0] == 0 else num_layers - count
    return tuple(range(first, first + count))


def rate_for(rate: float, shape: Shape) -> float:
    """The paper's rate for BERT-base in the proportion of the default rates."""
    return float(f"{rate * default_learning_rate(shape.hidden_size) / PAPER_RATE:.6g}")


def _without_paths(tree: Tree) -> Tree:
    """The settings without what says where documents and encoders lie: their contents stand for them."""
    bare: Tree = {
        key: value for key, value in tree.items() if key not in ("encoder", "sources", "name", "leaks", "output")
    }
    if isinstance(tree.get("encoder"), dict):
        bare["encoder"] = {key: value for key, value in tree["encoder"].items() if key != "encoder"}
    if isinstance(tree.get("data"), dict):
        places = ("train", "validation", "test", "data", "cache")
        bare["data"] = {key: value for key, value in tree["data"].items() if key not in places}
    return bare


def _content_of(sources: Sequence[str]) -> list[Any]:
    """What the sources of a corpus hold: data sets by their split, whose content is known, others by their content."""
    found = []
    for source in sources:
        name, _, rest = source.partition(":")
        path, _, splits = rest.rpartition(":")
        found.append([name, path_content(path), splits] if path else path_content(source))
    return found
