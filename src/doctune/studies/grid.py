"""Doing the jobs: one by one here, in several processes, or on a Ray cluster."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Literal

import torch

from doctune.errors import ConfigError
from doctune.progress import duration
from doctune.studies.jobs import Done, Job, execute, finished

Where = Literal["here", "processes", "ray"]
WORKERS_PER_GPU = 4
KILLED = "a process was killed from outside, perhaps for want of memory; try fewer at once"


def run_jobs(jobs: Sequence[Job], cache: Path, on: Where, workers: int | None, keep_models: bool) -> dict[str, str]:
    """Do all jobs, each as soon as those that it needs are done; gives what went wrong, by key.

    Done ones are not done again. Of those that can be done the ones that others need come first.
    """
    failed: dict[str, str] = {}
    left = {job.key: job for job in _needed_first(jobs) if not finished(job, cache)}
    telling = _Telling(list(left.values()))
    with _hands(on, cache, workers, keep_models, telling) as hands:
        while left:
            for job in list(left.values()):
                reason = next((failed[need] for need in job.needs if need in failed), None)
                if reason is not None:
                    failed[job.key] = reason
                    del left[job.key]
            for job in left.values():
                if hands.free and job.key not in hands.busy and not any(need in left for need in job.needs):
                    hands.begin(job)
            for job, done in hands.wait():
                del left[job.key]
                if done.error is not None:
                    failed[done.key] = done.error
                telling.done(job, done)
    return failed


def _needed_first(jobs: Sequence[Job]) -> list[Job]:
    """Jobs that others need before those that nobody waits for, else in the order given."""
    needed = {need for job in jobs for need in job.needs}
    return sorted(jobs, key=lambda job: job.key not in needed)


class _Hands:
    """Whoever does jobs: `begin` gives one away, `wait` gives those that are done, one or more unless none is begun."""

    def __init__(self, cache: Path, keep_models: bool) -> None:
        self.cache, self.keep_models = cache, keep_models
        self.busy: dict[str, Job] = {}
        self.room = 1

    @property
    def free(self) -> bool:
        """Whether another job could be begun now."""
        return len(self.busy) < self.room

    def begin(self, job: Job) -> None:
        self.busy[job.key] = job

    def wait(self) -> list[tuple[Job, Done]]:
        return [(self.busy.pop(done.key), done) for done in self._next()] if self.busy else []

    def _next(self) -> list[Done]:
        raise NotImplementedError


class _Here(_Hands):
    """This process, which does the job when it is waited for."""

    def __init__(self, cache: Path, keep_models: bool, telling: _Telling) -> None:
        super().__init__(cache, keep_models)
        self.telling = telling

    def _next(self) -> list[Done]:
        (job,) = self.busy.values()
        self.telling.begin(job)
        return [execute(job, self.cache, self.keep_models)]


class _Processes(_Hands):
    """Some processes, which share the cores."""

    def __init__(self, cache: Path, keep_models: bool, pool: concurrent.futures.Executor, workers: int) -> None:
        super().__init__(cache, keep_models)
        self.pool, self.room = pool, workers
        self.futures: dict[concurrent.futures.Future[Done], str] = {}
        self.killed: list[Done] = []

    def begin(self, job: Job) -> None:
        super().begin(job)
        try:
            self.futures[self.pool.submit(execute, job, self.cache, self.keep_models, True)] = job.key
        except BrokenProcessPool:  # one that was killed takes the pool with it
            self.killed.append(Done(job.key, error=KILLED))

    def _next(self) -> list[Done]:
        done, self.killed = self.killed, []
        if not done:
            ready, _ = concurrent.futures.wait(self.futures, return_when=concurrent.futures.FIRST_COMPLETED)
            done = [self._result(future, self.futures.pop(future)) for future in ready]
        return done

    @staticmethod
    def _result(future: concurrent.futures.Future[Done], key: str) -> Done:
        try:
            return future.result()
        except BrokenProcessPool:
            return Done(key, error=KILLED)


class _Ray(_Hands):
    """The cluster of RAY_ADDRESS, or one of this machine; the cache must be a folder that all its machines share."""

    def __init__(self, cache: Path, keep_models: bool) -> None:
        super().__init__(cache.resolve(), keep_models)
        self.ray = import_ray()
        if not self.ray.is_initialized():
            self.ray.init(log_to_driver=False, include_dashboard=False)
        gpus = 1 if self.ray.cluster_resources().get("GPU") else 0
        self.task = self.ray.remote(num_gpus=gpus, max_retries=2)(execute)
        self.room = sys.maxsize  # the cluster has a queue of its own
        self.references: dict[Any, str] = {}

    def begin(self, job: Job) -> None:
        super().begin(job)
        self.references[self.task.remote(job, self.cache, self.keep_models, True)] = job.key

    def _next(self) -> list[Done]:
        ready, _ = self.ray.wait(list(self.references))
        return [self._result(reference, self.references.pop(reference)) for reference in ready]

    def _result(self, reference: Any, key: str) -> Done:
        try:
            done: Done = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            return Done(key, error=f"{KILLED} ({type(error).__name__})")
        return done


@contextlib.contextmanager
def _hands(on: Where, cache: Path, workers: int | None, keep_models: bool, telling: _Telling) -> Iterator[_Hands]:
    if not telling.left:
        yield _Hands(cache, keep_models)
    elif on == "here":
        yield _Here(cache, keep_models, telling)
    elif on == "ray":
        yield _Ray(cache, keep_models)
    else:
        cores, context = os.cpu_count() or 1, multiprocessing.get_context("spawn")
        count = min(workers or default_workers(), len(telling.left))
        with concurrent.futures.ProcessPoolExecutor(
            count, context, begin_worker, (max(cores // count, 1), context.Value("i", 0))
        ) as pool:
            yield _Processes(cache, keep_models, pool, count)


def default_workers() -> int:
    """One process a core; where there are GPUs some a GPU, whose memory they share."""
    cores = os.cpu_count() or 1
    return min(cores, WORKERS_PER_GPU * torch.cuda.device_count()) if torch.cuda.is_available() else cores


def begin_worker(threads: int, begun: Any) -> None:
    """In a new process: so many threads, and one GPU after the other. `begun` counts the processes before this one."""
    torch.set_num_threads(threads)
    if torch.cuda.is_available():
        with begun.get_lock():
            number, begun.value = begun.value, begun.value + 1
        torch.cuda.set_device(number % torch.cuda.device_count())


def import_ray() -> Any:
    """Ray, or an error that names the extra."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a study tells nobody that it runs
    try:
        import ray
    except ImportError:
        raise ConfigError("--on ray: Ray is not installed; pip install 'doctune[ray]'") from None
    return ray


class _Telling:
    """Lines on stderr: which run of how many, how long it took, about how long the others will take."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.left = {job.key: job for job in jobs}
        self.total, self.started = len(jobs), time.monotonic()

    def begin(self, job: Job) -> None:
        number = self.total - len(self.left) + 1
        print(f"[{number}/{self.total}] {job.kind}: {job.about}", file=sys.stderr, flush=True)

    def done(self, job: Job, done: Done) -> None:
        self.left.pop(job.key, None)
        count = self.total - len(self.left)
        rest = (time.monotonic() - self.started) / max(count, 1) * len(self.left)
        said = f"done in {duration(done.seconds)}" if done.error is None else f"FAILED: {done.error}"
        left = f", about {duration(rest)} left" if self.left else ""
        print(f"[{count}/{self.total}] {job.about}: {said}{left}", file=sys.stderr, flush=True)
