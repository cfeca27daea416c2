"""What still works in a process that was forked from one that has used a model.

A fork copies the memory of a process but only one of its threads. OpenMP and the tokenizers' library would wait for
their lost ones for ever, so both work on one thread in the child; and what another thread had begun is never ended.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Iterator

import torch

from doctune.devices import Device
from doctune.errors import UserError

HOW = "load the model in the child, and start that with multiprocessing's start method spawn"
_threads_in_a_call: set[int] = set()
_in_child = _in_the_middle = False


@contextlib.contextmanager
def answering(device: Device) -> Iterator[None]:
    """Around a call that uses a model: raises `UserError` in a forked process where the call could hang or fail."""
    _watch_forks()
    if _in_the_middle:
        raise UserError(f"this process was forked while a model was answering in another thread; {HOW}")
    if _in_child and device.torch.type != "cpu":
        raise UserError(f"this process was forked from one that uses a model on {device.torch}; {HOW}")
    thread = threading.get_ident()
    outermost = thread not in _threads_in_a_call
    _threads_in_a_call.add(thread)
    try:
        yield
    finally:
        if outermost:
            _threads_in_a_call.discard(thread)


@functools.cache
def _watch_forks() -> None:
    """Once a model is used in this process, its forked children are told."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forked)


def _forked() -> None:
    global _in_child, _in_the_middle
    others = _threads_in_a_call - {threading.get_ident()}
    _in_child, _in_the_middle = True, _in_the_middle or bool(others)
    _threads_in_a_call.difference_update(others)
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
