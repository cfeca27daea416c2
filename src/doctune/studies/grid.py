"""Doing the jobs: one by one here, in several processes, or on a Ray cluster."""

from __future__ import annotations

import concurrent.futures
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
KILLED = "a process was killed from outside, perhaps for want of memory; try fewer at once"


def run_jobs(jobs: Sequence[Job], cache: Path, on: Where, workers: int | None, keep_models: bool) -> dict[str, str]:
    """Do all jobs, those that others need first; gives what went wrong, by key. Done ones are not done again."""
    failed: dict[str, str] = {}
    telling = _Telling([job for job in jobs if not finished(job, cache)])
    for level in _levels(jobs):
        ready = []
        for job in level:
            reason = next((failed[need] for need in job.needs if need in failed), None)
            if reason is not None:
                failed[job.key] = reason
            elif not finished(job, cache):
                ready.append(job)
        for job, done in _each(ready, cache, on, workers, keep_models, telling):
            if done.error is not None:
                failed[done.key] = done.error
            telling.done(job, done)
    return failed


def _levels(jobs: Sequence[Job]) -> list[list[Job]]:
    """The jobs in groups: each needs only jobs of the groups before."""
    depth: dict[str, int] = {}
    for job in jobs:  # in an order in which those that are needed come first
        depth[job.key] = 1 + max((depth[need] for need in job.needs), default=-1)
    return [[job for job in jobs if depth[job.key] == level] for level in range(max(depth.values(), default=-1) + 1)]


def _each(
    jobs: Sequence[Job], cache: Path, on: Where, workers: int | None, keep_models: bool, telling: _Telling
) -> Iterator[tuple[Job, Done]]:
    """The jobs of one level as they are done."""
    if not jobs:
        return
    if on == "here":
        for job in jobs:
            telling.begin(job)
            yield job, execute(job, cache, keep_models)
    elif on == "processes":
        yield from _in_processes(jobs, cache, workers or os.cpu_count() or 1, keep_models)
    else:
        yield from _on_ray(jobs, cache, keep_models)


def _in_processes(jobs: Sequence[Job], cache: Path, workers: int, keep_models: bool) -> Iterator[tuple[Job, Done]]:
    workers = min(workers, len(jobs))
    threads = max((os.cpu_count() or 1) // workers, 1)
    with concurrent.futures.ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (threads,)
    ) as pool:
        waiting = {pool.submit(execute, job, cache, keep_models, True): job for job in jobs}
        for future in concurrent.futures.as_completed(waiting):
            job = waiting[future]
            try:
                yield job, future.result()
            except BrokenProcessPool:  # all that were waiting are told so, too
                yield job, Done(job.key, error=KILLED)


def _on_ray(jobs: Sequence[Job], cache: Path, keep_models: bool) -> Iterator[tuple[Job, Done]]:
    """On the cluster of RAY_ADDRESS, or one of this machine; the cache must be a folder that all its machines share."""
    ray = import_ray()
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    task = ray.remote(num_gpus=1 if ray.cluster_resources().get("GPU") else 0, max_retries=2)(execute)
    waiting = {task.remote(job, cache.resolve(), keep_models, True): job for job in jobs}
    while waiting:
        ready, _ = ray.wait(list(waiting))
        for reference in ready:
            job = waiting.pop(reference)
            try:
                yield job, ray.get(reference)
            except ray.exceptions.RayError as error:
                yield job, Done(job.key, error=f"{KILLED} ({type(error).__name__})")


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
