"""What every kind of answer can be asked, and the settings that choose a kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticKnownError, core_schema

from doctune.config import Settings, did_you_mean
from doctune.errors import ConfigError
from doctune.metrics.single import Metrics, Probabilities
from doctune.targets.single import SingleTarget

Labels = npt.NDArray[Any]
"""Encoded answers, [D, ...]: what a `Dataset` holds, a batch carries and a link's loss takes."""
Numbers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Unseen = Literal["error", "count"]


class Target(Protocol):
    """What an answer is: what labels mean, what a model's probabilities say, and how good that is.

    D is the number of documents, C of classes, S of strata. Whoever reads a label or a probability asks the target, and
    never looks into it; so a new kind of answer is one file here, and one link if its loss is new.
    """

    @property
    def kind(self) -> str:
        """Its name in settings and in files."""
        ...

    @property
    def link(self) -> str:
        """The name of its loss and of what makes probabilities of logits, in `doctune.heads.links`."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """The classes [C], in the order of the columns of the probabilities."""
        ...

    @property
    def num_outputs(self) -> int:
        """The logits that a head has to give."""
        ...

    def encode(self, texts: Sequence[str | None]) -> Labels:
        """Labels [D, ...] of their texts; None, and what is not known, become a label of which `known` is false."""
        ...

    def known(self, labels: Labels) -> Flags:
        """Whether a model can give each of these labels, [D]."""
        ...

    def strata(self, labels: Labels) -> tuple[Numbers, int]:
        """The stratum of each label, int64 [D] from 0 to S - 1, and S: splits and choices keep their shares."""
        ...

    def counts(self, labels: Labels) -> dict[str, int]:
        """How many of the labels are of each class, by name."""
        ...

    def decide(self, probabilities: Probabilities) -> Labels:
        """The answers [D, ...] that probabilities [D, C] make, written as labels are."""
        ...

    def confidence(self, probabilities: Probabilities) -> npt.NDArray[np.float64]:
        """How sure each answer is, 0..1, [D]."""
        ...

    def correct(self, probabilities: Probabilities, labels: Labels) -> Flags:
        """Whether each answer is the label, [D]; never for a label that is not known."""
        ...

    def measure(self, probabilities: Probabilities, labels: Labels) -> Metrics:
        """The figures of a labelled set."""
        ...

    def headline(self, metrics: Metrics) -> dict[str, float]:
        """The figures that stand in the log, and that a run can be chosen by."""
        ...

    def constant_error(self, train: Labels, labels: Labels) -> float:
        """The error, in percent of the labels, of always giving the answer that training has most of."""
        ...

    def text(self, answer: Any) -> str:
        """An answer as a label's text."""
        ...

    def row(self, probabilities: npt.NDArray[Any]) -> dict[str, Any]:
        """What the prediction of one document says, from its probabilities [C]."""
        ...

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for JSON, from which `doctune.targets.from_json` makes the target, with its `names`."""
        ...


class BoundTarget(Protocol):
    """The class of a kind of answer: how a target is made of the labels of training, and of what was stored."""

    def bind(self, texts: Iterable[str | None], order: Sequence[str] | None) -> Target:
        """As `TargetSettings.bind`."""
        ...

    def from_json(self, tree: Mapping[str, Any]) -> Target:
        """What `Target.to_json` was made from, with the classes as `labels`."""
        ...


KINDS: dict[str, BoundTarget] = {"single": SingleTarget}
"""The kinds of answers by name; to add one is a line here."""


class _Kind:
    """The name of a kind of answer, as a setting has it."""

    @property
    def options(self) -> tuple[str, ...]:
        """What may stand here."""
        return tuple(KINDS)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.check)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "enum": list(self.options)}

    def check(self, value: Any) -> str:
        """The value itself, if it may stand here."""
        if isinstance(value, str) and value in KINDS:
            return value
        raise PydanticKnownError("literal_error", {"expected": " or ".join(KINDS)})


class TargetSettings(Settings):
    """What a label is, and what becomes of one that training lacks."""

    target: Annotated[str, _Kind()] = Field("single", description="what a label is; single: one class of several")
    unseen_labels: Unseen = Field(
        "error",
        description="a label of validation or test that training lacks; count: the document counts as an error",
    )

    def bind(self, texts: Iterable[str | None], order: Sequence[str] | None = None) -> Target:
        """The target of training documents with these labels; None is no label.

        `order` is the data set's own order of the classes, used unless a document has a class that it lacks. Raises
        `DataError` for labels that nothing can be learnt from.
        """
        return KINDS[self.target].bind(texts, order)


def from_json(tree: Mapping[str, Any]) -> Target:
    """The target that `Target.to_json` describes, with its classes as `labels`.

    Raises `ConfigError` for a kind that is not known.
    """
    kind = tree.get("target", "single")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ConfigError(f"target: no such kind of label {kind!r}{did_you_mean(str(kind), KINDS)}")
    return KINDS[kind].from_json(tree)
