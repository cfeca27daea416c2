"""Several processes that train one model together, started by torchrun. Nothing else here imports torch.distributed.

Every process goes through the same steps with the same weights. Of each step it computes its share of the documents;
gradients and losses are summed, so that all of them make the same update. Only the first one, rank 0, writes files.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from doctune import errors
from doctune.errors import ConfigError, TrainingError, UserError

T = TypeVar("T")
# The others wait for rank 0 while it tokenises. A process that ends is noticed at once, whatever the limit.
TIMEOUT = timedelta(hours=2)
# Gradients are sent in buffers of about so many numbers: few calls, and no second copy of a whole large model.
BUFFER = 1 << 24


@dataclass(frozen=True, slots=True)
class World:
    """The processes of a run, and which of them this is; `local_rank` counts within its machine."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @classmethod
    def single(cls) -> World:
        """One process, for which nothing here costs anything."""
        return cls()

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def device(self, name: str) -> str:
        """The device of this process where the settings say `name`: each has a GPU of its own, or the processor."""
        if self.size == 1 or name not in ("auto", "cuda"):
            return name
        if not torch.cuda.is_available():
            return "cpu" if name == "auto" else name
        return f"cuda:{self.local_rank % torch.cuda.device_count()}"

    def all_reduce(self, tensor: Tensor) -> Tensor:
        """The sum over all processes, in place."""
        if self.size > 1:
            import torch.distributed as dist

            with _a_peer_may_have_stopped():
                dist.all_reduce(tensor)
        return tensor

    def broadcast(self, tensor: Tensor) -> Tensor:
        """What rank 0 has, in place."""
        if self.size > 1:
            import torch.distributed as dist

            with _a_peer_may_have_stopped():
                dist.broadcast(tensor, src=0)
        return tensor

    def barrier(self) -> None:
        """Wait until every process is here."""
        self.all_reduce(torch.zeros(1))

    def broadcast_from_rank0(self, make: Callable[[], T]) -> T:
        """What `make` gives on rank 0, which alone calls it; it goes to the others as JSON.

        A `UserError` of rank 0 is raised by all.
        """
        if self.size == 1:
            return make()
        if not self.main:
            return self._hear()  # type: ignore[no-any-return]
        try:
            made = make()
        except UserError as error:
            self._tell(_as_json(error))
            raise
        self._tell({"made": made})
        return made

    def rank0_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on every process; the others call it once rank 0 is done, and all raise an error of one."""
        made: list[T] = []
        if self.size > 1:
            self.broadcast_from_rank0(lambda: made.append(make()))
        return self.all_or_raise(lambda: made[0] if made else make())

    def all_or_raise(self, make: Callable[[], T]) -> T:
        """What `make` gives on every process; all raise an error of one."""
        made: list[T] = []
        error: UserError | None = None
        try:
            made.append(make())
        except UserError as found:
            error = found
        self.raise_together(error)
        return made[0]

    def raise_together(self, error: UserError | None) -> None:
        """Raise on every process if one of them has an error: all raise that of the lowest rank."""
        if self.size == 1:
            if error is not None:
                raise error
            return
        for said in self.gather(None if error is None else _as_json(error)):
            _raise_if_error(said)

    def gather(self, value: T) -> list[T]:
        """What each process has, in the order of their ranks, as JSON carries it."""
        if self.size == 1:
            return [value]
        text = _encode(value)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(text)
        self.all_reduce(lengths)
        said = torch.zeros(self.size, int(lengths.max()), dtype=torch.uint8)
        said[self.rank, : len(text)] = text
        self.all_reduce(said)
        return [_decode(row[:length]) for row, length in zip(said, lengths.tolist(), strict=True)]

    def sum_gradients(self, parameters: Sequence[nn.Parameter], present: Sequence[bool]) -> None:
        """Give parameters the sum of their gradients over all processes; `present` where any process has one.

        The sums are new tensors: a gradient may be a buffer of which its owner knows which rows it filled.
        """
        if self.size == 1:
            return
        waiting: list[nn.Parameter] = []
        for parameter in (p for p, there in zip(parameters, present, strict=True) if there):
            other = bool(waiting) and (waiting[0].dtype, waiting[0].device) != (parameter.dtype, parameter.device)
            if waiting and (other or sum(p.numel() for p in waiting) + parameter.numel() > BUFFER):
                self._sum_buffer(waiting)
                waiting = []
            waiting.append(parameter)
        if waiting:
            self._sum_buffer(waiting)

    def _sum_buffer(self, parameters: Sequence[nn.Parameter]) -> None:
        flat = torch.cat([torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in parameters])
        self.all_reduce(flat)
        start = 0
        for parameter in parameters:
            parameter.grad = flat[start : start + parameter.numel()].view_as(parameter)
            start += parameter.numel()

    def _tell(self, value: Any) -> None:
        text = _encode(value)
        self.broadcast(torch.tensor([len(text)]))
        self.broadcast(text)

    def _hear(self) -> Any:
        length = self.broadcast(torch.zeros(1, dtype=torch.int64))
        told = _decode(self.broadcast(torch.zeros(int(length), dtype=torch.uint8)))
        _raise_if_error(told)
        return told["made"]


def launched() -> World:
    """Which process of how many this is, as torchrun says in the environment; one process if it does not."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World.single()
    return World(int(os.environ.get("RANK", "0")), size, int(os.environ.get("LOCAL_RANK", "0")))


@contextlib.contextmanager
def open_world(device: str) -> Iterator[World]:
    """Join the processes that torchrun started, for as long as the block lasts; without torchrun there is one.

    `device` as in the settings: gradients go over NCCL between GPUs, over gloo between processors, everything else over
    gloo. Where a machine has more processes than GPUs, they share these, and all goes over gloo. What others than rank
    0 print inside the block is dropped. Raises `ConfigError` where they cannot be joined.
    """
    world = launched()
    if world.size == 1:
        yield world
        return
    import torch.distributed as dist

    gpus = torch.cuda.device_count() if device != "cpu" and torch.cuda.is_available() else 0
    if gpus:
        torch.cuda.set_device(world.local_rank % gpus)
    one_each = int(os.environ.get("LOCAL_WORLD_SIZE", str(world.size))) <= gpus  # NCCL knows no other way
    try:
        dist.init_process_group("cpu:gloo,cuda:nccl" if one_each else "gloo", timeout=TIMEOUT)
    except (RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise ConfigError(
            f"WORLD_SIZE is {world.size} in the environment, but the processes cannot be joined ({reason}); start them "
            f"with torchrun --nproc-per-node {world.size} -m doctune ..., or unset WORLD_SIZE"
        ) from None
    try:
        with contextlib.ExitStack() as stack:
            if not world.main:
                nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
                stack.enter_context(contextlib.redirect_stderr(nowhere))
            yield world
    finally:
        dist.destroy_process_group()


@contextlib.contextmanager
def _a_peer_may_have_stopped() -> Iterator[None]:
    """Say in one line that another process is gone, whose own message tells why."""
    try:
        yield
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(f"another process of this run has stopped; its own message tells why ({reason})") from error


def _encode(value: Any) -> Tensor:
    return torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)


def _decode(text: Tensor) -> Any:
    return json.loads(bytes(text.tolist()))


def _as_json(error: UserError) -> dict[str, str]:
    return {"error": type(error).__name__, "message": str(error)}


def _raise_if_error(told: Any) -> None:
    if isinstance(told, dict) and "error" in told:
        kind = getattr(errors, told["error"], UserError)
        raise kind(told["message"])
