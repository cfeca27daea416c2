"""In which order jobs are done, and that several studies are one grid."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import pytest

from doctune.studies import grid, jobs
from doctune.studies.command import Asked, run_together
from doctune.studies.jobs import Done, Job


def job(name: str, *needs: Job) -> Job:
    return jobs.make_job("finetune", {}, name, name, tuple(one.key for one in needs))


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The jobs by name in the order in which they are done; nothing else happens in them."""
    done: list[str] = []

    def execute(one: Job, cache: Path, keep_models: bool) -> Done:
        done.append(one.about)
        return Done(one.key, 0.1, "broken" if one.about.startswith("bad") else None)

    monkeypatch.setattr(grid, "execute", execute)
    return done


def test_what_others_need_comes_first(order: list[str], tmp_path: Path) -> None:
    """A pre-training is on the longest way: the runs that need nothing can wait for it, not the other way round."""
    corpus = job("corpus")
    pretraining = job("pre-training", corpus)
    alone, adapted = job("alone"), job("adapted", pretraining)
    assert grid.run_jobs([alone, corpus, pretraining, adapted], tmp_path, "here", None, False) == {}
    assert order == ["corpus", "pre-training", "alone", "adapted"]


def test_a_failure_reaches_all_that_need_it_and_nothing_else(order: list[str], tmp_path: Path) -> None:
    bad = job("bad corpus")
    pretraining = job("pre-training", bad)
    adapted, alone = job("adapted", pretraining), job("alone")
    failed = grid.run_jobs([bad, pretraining, adapted, alone], tmp_path, "here", None, False)
    assert failed == dict.fromkeys((bad.key, pretraining.key, adapted.key), "broken")
    assert order == ["bad corpus", "alone"]


def test_several_studies_are_one_grid(
    asked: Callable[..., Asked], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What both want is done once; each has its page and its own seeds."""
    several = [asked(seeds=1, output=str(tmp_path / "one")), asked(seeds=2, output=str(tmp_path / "two"))]
    results = run_together(several, "doctune study mine.toml mine.toml")
    assert "[4/4]" in capsys.readouterr().err
    first, second = (result["cells"][0]["runs"] for result in results)
    assert first[0] == second[0]
    assert len(second) == 2
    for name, result in zip(("one", "two"), results, strict=True):
        assert json.loads((tmp_path / name / "study.json").read_text())["cells"] == result["cells"]
        assert (tmp_path / name / "study.html").is_file()


def test_processes_take_one_gpu_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.set_device", taken.append)
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    begun = multiprocessing.get_context("spawn").Value("i", 0)
    for _ in range(3):
        grid.begin_worker(1, begun)
    assert taken == [0, 1, 0]
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    assert grid.default_workers() == 8
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert grid.default_workers() == 64
