"""Pieces of a corpus spread over processes, and what is made of them back in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from multiprocessing.connection import wait
from typing import TypeVar

from doctune.errors import UserError
from doctune.store.corpus_part import Piece

Job = TypeVar("Job")
Made = TypeVar("Made")


def in_order(make: Callable[[Job, Piece], Made], job: Job, pieces: Iterator[Piece], workers: int) -> Iterator[Made]:
    """What `make` makes of the pieces, in their order; at most two pieces more than there are workers are in memory.

    A single piece is made in this process: to start another costs more than it gives.
    Raises `UserError` if a worker is killed; what is finished stays.
    """
    first = list(_taken(pieces, 1 if workers == 1 else 2))
    if len(first) < 2:
        for piece in chain(_drained(first), pieces):
            yield make(job, piece)
        return
    waiting: deque[Future[Made]] = deque()
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_start)
    try:
        for piece in chain(_drained(first), pieces):
            waiting.append(pool.submit(make, job, piece))
            if len(waiting) > workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed (out of memory? then give fewer --workers); what is finished stays: "
            "run the same command again to go on"
        ) from None
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _taken(pieces: Iterator[Piece], count: int) -> Iterator[Piece]:
    for _, piece in zip(range(count), pieces, strict=False):
        yield piece


def _drained(pieces: list[Piece]) -> Iterator[Piece]:
    """The pieces, none of which stays in memory when it has been given."""
    while pieces:
        yield pieces.pop(0)


def _start() -> None:
    """Make a process a worker: Ctrl-C is for the main process, and a worker ends when that one is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # One process a core: threads of the tokenizer library would only be in each other's way.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
