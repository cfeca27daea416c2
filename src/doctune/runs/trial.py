"""Classes of the user's own, tried on a few numbers before anything is read or trained.

What is half wired fails here in one line, and not after hours. Doctune's own components are looked up, no more.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from doctune.errors import ConfigError
from doctune.metrics.choosing import Judged
from doctune.pooling.windows import WindowPooling
from doctune.settings.implementations import Part
from doctune.tensors import HiddenStates
from doctune.text.truncation import SeveralWindows

LENGTHS = (1, 4, 2)
BUDGET, STEPS = 10, 20


def try_parts(parts: Mapping[str, Part], hidden_size: int, num_layers: int) -> None:
    """Try all components that a fine-tuning chooses; `ConfigError` says in one line what one of them lacks.

    `hidden_size` and `num_layers` are what the encoder will give.
    """
    try_truncation(parts["truncation"])
    try_schedule(parts["schedule"])
    try_optimizer(parts["optimizer"])
    if "select" in parts:
        _try_metric(parts["select"])
    with torch.random.fork_rng():
        size = _try_layer_pooling(parts["layer_pooling"], hidden_size, num_layers)
        size = _try_head(parts["head"], size)
        if "token_pooling" in parts:
            try_token_pooling(parts["token_pooling"], hidden_size)
        _try_window_pooling(parts["window_pooling"], size)


P = ParamSpec("P")
T = TypeVar("T")


def _in_one_line(tries: Callable[Concatenate[Part, P], T]) -> Callable[Concatenate[Part, P], T]:
    """A class of another kind is called in a way that it does not know: that is one line, and no traceback."""

    @functools.wraps(tries)
    def tried(part: Part, /, *args: P.args, **named: P.kwargs) -> T:
        try:
            return tries(part, *args, **named)
        except TypeError as error:
            if not part.is_own:
                raise
            raise ConfigError(
                f"{part.chosen_by} cannot be called as what it is given for: {error}; docs/extending.md says how it is"
            ) from error

    return tried


@_in_one_line
def try_truncation(part: Part) -> None:
    """Whether the windows of a few texts are what their truncation must give."""
    if not part.is_own:
        return
    truncation = part.make()
    for length in (1, BUDGET, 3 * BUDGET + 1):
        windows = truncation.windows(np.arange(length, dtype=np.int32), BUDGET)
        sizes = [len(one) for one in windows]
        _expect(
            part, bool(sizes) and all(0 < size <= BUDGET for size in sizes),
            f"windows of 1 to {BUDGET} tokens for a text of {length} and a budget of {BUDGET}", sizes,
        )  # fmt: skip
        if not isinstance(truncation, SeveralWindows):
            _expect(part, len(sizes) == 1, "one window, since it has no `places`", sizes)
            continue
        lengths = np.array([length])
        _expect(
            part, [size for _, size in truncation.places(length, BUDGET)] == sizes,
            f"`places` as long as its windows, {sizes}", truncation.places(length, BUDGET),
        )  # fmt: skip
        counted = (int(truncation.numbers(lengths, BUDGET)[0]), int(truncation.tokens(lengths, BUDGET)[0]))
        _expect(
            part, counted == (len(sizes), sum(sizes)),
            f"{len(sizes)} from `numbers` and {sum(sizes)} from `tokens`", counted,
        )  # fmt: skip


@_in_one_line
def try_schedule(part: Part) -> None:
    """Whether each step has a factor."""
    if part.is_own:
        factor = part.make(warmup=0.1, total_steps=STEPS)
        for step in range(STEPS):
            value = factor(step)
            _expect(part, _is_number(value), f"a number for step {step} of {STEPS}", value)


@_in_one_line
def try_optimizer(part: Part) -> None:
    """Whether the optimiser is one of PyTorch's kind that moves a weight."""
    if not part.is_own:
        return
    weight = nn.Parameter(torch.ones(2, 2))
    groups = [{"params": [weight], "lr": 0.1, "base_lr": 0.1, "weight_decay": 0.0}]
    optimizer = part.make(
        groups=groups, betas=(0.9, 0.999), epsilon=1e-6, max_grad_norm=1.0,
    )  # fmt: skip
    _expect(part, isinstance(optimizer, torch.optim.Optimizer), "a torch.optim.Optimizer", type(optimizer))
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    optimizer.load_state_dict(optimizer.state_dict())
    _expect(part, bool((weight != 1).all()), "a step that moves the weights", weight.tolist())


@_in_one_line
def _try_metric(part: Part) -> None:
    """Whether the metric gives a number."""
    if part.is_own:
        probabilities, labels = np.array([[0.8, 0.2], [0.4, 0.6], [0.7, 0.3]]), np.array([0, 1, 1])
        figures = {"error_percent": 100 / 3, "accuracy": 2 / 3, "macro_f1": 2 / 3, "loss": 0.6}
        value = part.make()(Judged(probabilities, labels, ("a", "b"), figures))
        _expect(part, _is_number(value), "a number", value)


@_in_one_line
def try_token_pooling(part: Part, hidden_size: int) -> None:
    """Whether a token pooling makes one vector of each sequence."""
    if part.is_own:
        pooled = _module(part, hidden_size=hidden_size)(*_states(hidden_size))
        _expect_shape(part, pooled, (len(LENGTHS), hidden_size))


@_in_one_line
def _try_layer_pooling(part: Part, hidden_size: int, num_layers: int) -> int:
    """The size of the vectors that it makes."""
    module = _module(part, hidden_size=hidden_size, num_layers=num_layers)
    size = _output_size(part, module)
    if part.is_own:
        pooled = module([torch.ones(len(LENGTHS), hidden_size)] * num_layers)
        _expect_shape(part, pooled, (len(LENGTHS), size))
    return size


@_in_one_line
def _try_head(part: Part, size: int) -> int:
    if not part.is_own:
        return size
    module = _module(part, hidden_size=size)
    output_size = _output_size(part, module)
    _expect_shape(part, module(*_states(size)), (len(LENGTHS), output_size))
    return output_size


@_in_one_line
def _try_window_pooling(part: Part, size: int) -> None:
    if not part.is_own:
        return
    pooling = WindowPooling(_module(part, hidden_size=size)).eval()
    x, states = _states(size)
    pooled, shares = (f(x, states.sequence_of, len(LENGTHS)) for f in (pooling, pooling.shares))
    _expect_shape(part, pooled, (len(LENGTHS), size))
    _expect_shape(part, shares, tuple(x.shape))
    sums = torch.zeros(len(LENGTHS), size).index_add(0, states.sequence_of, shares.float())
    _expect(
            part, torch.allclose(sums, pooled.float(), atol=1e-4),
        "shares that add up to the vector of a document", "others",
    )  # fmt: skip


def _states(size: int) -> tuple[Tensor, HiddenStates]:
    x = torch.linspace(-1, 1, sum(LENGTHS) * size).reshape(-1, size)
    bounds = torch.tensor([0, *np.cumsum(LENGTHS).tolist()])
    return x, HiddenStates((x,), bounds, torch.arange(len(LENGTHS)), len(LENGTHS))


def _module(part: Part, **given: int) -> nn.Module:
    module = part.make(**given)
    _expect(part, isinstance(module, nn.Module), "a torch.nn.Module", type(module))
    made: nn.Module = module
    return made


def _output_size(part: Part, module: nn.Module) -> int:
    size = getattr(module, "output_size", None)
    _expect(part, isinstance(size, int), "output_size, the numbers of each of its vectors", size)
    assert isinstance(size, int)
    return size


def _expect_shape(part: Part, value: object, shape: Sequence[int]) -> None:
    found = tuple(value.shape) if isinstance(value, Tensor) else type(value)
    _expect(part, found == tuple(shape), f"a tensor of shape {tuple(shape)}", found)


def _expect(part: Part, fulfilled: bool, what: str, found: Any) -> None:
    if not fulfilled:
        raise ConfigError(f"{part.chosen_by} must give {what}, found {found}; docs/extending.md says what it must do")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.number)) and math.isfinite(value)
