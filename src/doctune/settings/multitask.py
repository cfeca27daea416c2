"""The settings of `doctune multitask`: several tasks on one encoder (Sun et al. 2019, Table 7)."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from doctune.config import Settings, Tree
from doctune.settings.components import OPTIONS, Positive, foreign_fields, may_read_windows
from doctune.settings.finetuning import (
    DataSettings,
    EncoderSettings,
    FeatureSettings,
    FinetuneSettings,
    LayerwiseSettings,
    OptimizerSettings,
    ScheduleSettings,
    TrainingSettings,
    TruncationSettings,
)
from doctune.targets.base import TargetSettings

TEMPERATURE = 2.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class TaskSettings(Settings):
    """One task: a data set with labels of its own."""

    name: str = Field(description="name of the task in reports, and of its folders")
    data: DataSettings
    target: TargetSettings | None = Field(None, description="what a label of this task is, where the tasks differ")
    truncation: TruncationSettings | None = Field(
        None, description="how long texts of this task are cut; what it leaves out is as for all tasks"
    )

    @field_validator("name")
    @classmethod
    def _is_a_folder(cls, name: str) -> str:
        if not _NAME.fullmatch(name):
            raise ValueError(f"a task's name is made of letters, digits, '.', '_' and '-', found {name!r}")
        return name


class MixtureSettings(Settings):
    """How often a batch is of which task."""

    mixture: Literal["proportional", "temperature"] = Field(
        "proportional",
        description="proportional: every document once an epoch; temperature: task i in proportion to n_i^(1/T), so "
        "that small tasks are seen more often",
    )
    temperature: Annotated[float, Field(ge=1.0)] = Field(
        TEMPERATURE,
        description="T of the mixture temperature, as in T5: 1 is proportional, a large T makes all tasks equal",
    )
    examples_cap: Positive | None = Field(
        None, description="count no task for more than so many documents, as in T5; default: no limit"
    )

    @model_validator(mode="after")
    def _temperature_is_used(self) -> MixtureSettings:
        if self.mixture == "proportional" and self.temperature != TEMPERATURE:
            raise ValueError("--temperature is for --mixture temperature; leave it out, or choose that mixture")
        return self


class TaskLeakSettings(Settings):
    """Training documents that are test documents of this or of another task."""

    leak_guard: bool = Field(
        True, description="leave out training documents that are, or nearly are, a test document of any of the tasks"
    )
    similarity: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.5, description="leak guard: share of a text's runs of five words that makes a near-duplicate"
    )


class ContinuationSettings(Settings):
    """After the joint training: each task alone, from its best joint checkpoint, at a lower rate."""

    epochs: Annotated[float, Field(ge=0.0)] = Field(2, description="passes over each task's own documents; 0: none")
    learning_rate: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="peak learning rate of the continuation; default: half of the joint one"
    )


class MultitaskSettings(Settings):
    """Everything `doctune multitask` needs."""

    output: str = Field(description="run directory to make; must be empty or new")
    tasks: tuple[TaskSettings, ...] = Field((), description="the tasks: a name and the data of each")
    target: TargetSettings = TargetSettings()
    encoder: EncoderSettings
    truncation: TruncationSettings = TruncationSettings()
    features: FeatureSettings = FeatureSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    layerwise: LayerwiseSettings = LayerwiseSettings()
    training: TrainingSettings = TrainingSettings()
    sampling: MixtureSettings = MixtureSettings()
    leaks: TaskLeakSettings = TaskLeakSettings()
    continuation: ContinuationSettings = ContinuationSettings()

    @model_validator(mode="before")
    @classmethod
    def _name_what_is_missing(cls, tree: Any) -> Any:
        """A section without any setting is an empty one, so that the error names the setting that must be given."""
        return {"encoder": {}, **tree} if isinstance(tree, dict) else tree

    @model_validator(mode="after")
    def _tasks_fit(self) -> MultitaskSettings:
        names = [task.name for task in self.tasks]
        if len(names) < 2:
            raise ValueError(
                f"tasks: {len(names)} given, two or more are needed: [[tasks]] in a config file, or --task NAME=DATA "
                f"for each; for one task there is doctune finetune"
            )
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"tasks: two are called {twice[0]!r}; give each a name of its own")
        if self.training.seeds > 1:
            raise ValueError("training.seeds: doctune multitask runs one seed; run it again with another --seed")
        pooling = self.features.window_pooling
        if pooling != "mean" and not any(may_read_windows(self._name(task)) for task in self.tasks):
            raise ValueError(
                f"features.window_pooling: {pooling} is for truncation = windows, which no task has; give --truncation "
                f"windows or that of a task, or leave it out"
            )
        return self

    def task(self, task: TaskSettings, **changes: Tree) -> FinetuneSettings:
        """The settings of one task as those of a run of its own; `changes` are sections that win over them.

        Only what was given counts as given, so that defaults which depend on the encoder are still open.
        """
        shared = ("encoder", "features", "optimizer", "schedule", "layerwise", "training")
        tree: Tree = {name: getattr(self, name).model_dump(exclude_unset=True) for name in shared}
        truncation = self._truncation(task)
        if not may_read_windows(self._name(task)):  # what is there for the windows of other tasks
            tree["features"].pop("window_pooling", None)
            tree["features"].pop(f"window_pooling{OPTIONS}", None)
        own = {} if task.target is None else task.target.model_dump(exclude_unset=True)
        tree |= {
            "output": self.output, "data": task.data.model_dump(), "target": {**self.target.model_dump(), **own},
            "truncation": truncation,
        }  # fmt: skip
        for section, values in changes.items():
            tree[section] = tree[section] | values
        return FinetuneSettings.build(tree)

    def _truncation(self, task: TaskSettings) -> Tree:
        """What was given of a task's truncation: its own, then what it can use of the shared."""
        own = {} if task.truncation is None else task.truncation.model_dump(exclude_unset=True)
        shared = self.truncation.model_dump(exclude_unset=True)
        name = self._name(task)
        useless = set(foreign_fields("truncation", name))
        if name != self.truncation.truncation:
            useless.add(f"truncation{OPTIONS}")
        return {**{field: value for field, value in shared.items() if field not in useless}, **own}

    def _name(self, task: TaskSettings) -> str:
        """The truncation of a task: its own, or the shared one."""
        chosen = task.truncation is not None and "truncation" in task.truncation.model_fields_set
        return task.truncation.truncation if task.truncation is not None and chosen else self.truncation.truncation
