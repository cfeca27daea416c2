"""Several processes that are really started: what they make is what one process makes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import doctune
from doctune.batches.share import share
from doctune.cli import main
from doctune.distributed import World, launched
from doctune.files import open_text
from doctune.tensors import Batch

SOURCES = Path(doctune.__file__).parent
COMMON = ("--device", "cpu", "--precision", "fp32", "--dropout", "0")
SECONDS = 240


def launch(
    *arguments: object, processes: int = 2, module: str = "doctune", **extra: str
) -> subprocess.CompletedProcess[str]:
    """`torchrun -m doctune ...` on this machine."""
    environment = {
        **os.environ, "PYTHONPATH": str(SOURCES.parent), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", **extra,
    }  # fmt: skip
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes),
         "-m", module, *map(str, arguments)],
        capture_output=True, text=True, timeout=SECONDS, env=environment, check=False,
    )  # fmt: skip


def alone(*arguments: object) -> None:
    """The same in this process."""
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, arguments)])
    assert stopped.value.code == 0


def same_weights(one: Path, two: Path) -> None:
    ours, theirs = load_file(one), load_file(two)
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")


def figures(folder: Path) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((folder / "report.json").read_text())
    return {part: report[part] and report[part]["error_percent"] for part in ("validation", "test")}


def records(path: Path, kind: str) -> list[dict[str, Any]]:
    return [r for r in map(json.loads, path.read_text().splitlines()) if r["kind"] == kind]


@pytest.mark.slow
def test_fine_tuning_with_two_processes_is_that_of_one(
    tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    """Accumulation, class weights, batches of odd size, and a last one of fewer documents than processes."""
    arguments = [
        "finetune", "--train", tiny_csv(rows=46), "--test", tiny_csv("test.csv", 15), "--encoder", tiny_encoder,
        "--max-seq-len", 32, "--epochs", 3, "--batch-size", 5, "--accumulation", 2, "--learning-rate", 1e-3,
        "--class-weights", "balanced", "--evaluations-per-epoch", 2, "--checkpoint-minutes", 0, *COMMON,
    ]  # fmt: skip
    alone(*arguments, "--output", tmp_path / "1")
    two = launch(*arguments, "--output", tmp_path / "2")
    assert two.returncode == 0, two.stderr
    same_weights(*(tmp_path / n / "model" / "model.safetensors" for n in ("1", "2")))
    assert figures(tmp_path / "1") == figures(tmp_path / "2")
    assert json.loads((tmp_path / "2" / "environment.json").read_text())["processes"] == 2
    ours, theirs = (records(tmp_path / n / "metrics.jsonl", "step") for n in ("1", "2"))
    for one, other in zip(ours, theirs, strict=True):
        assert (other["step"], other["tokens"]) == (one["step"], one["tokens"])
        assert other["loss"] == pytest.approx(one["loss"], abs=1e-5)
        assert other["gradient_norm"] == pytest.approx(one["gradient_norm"], abs=1e-4)
    predictions = [(tmp_path / n / "predictions.jsonl").read_text().splitlines() for n in ("1", "2")]
    assert [json.loads(line)["id"] for line in predictions[0]] == [json.loads(line)["id"] for line in predictions[1]]
    assert two.stdout.count("pooling and head") == two.stdout.count("report  ") == 1


@pytest.mark.slow
def test_several_tasks_with_two_processes_are_those_of_one(
    tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    films = f"films={tiny_csv('films.csv', 30)}"
    news = f"news={tiny_csv('news.csv', 20, ('a', 'b', 'c'))},{tiny_csv('test.csv', 9, ('c', 'a', 'b'))}"
    arguments = [
        "multitask", "--task", films, "--task", news, "--encoder", tiny_encoder, "--max-seq-len", 32, "--epochs", 2,
        "--batch-size", 4, "--learning-rate", 1e-3, "--mixture", "temperature", "--select", "loss", *COMMON,
        "--no-leak-guard",
    ]  # fmt: skip
    alone(*arguments, "--output", tmp_path / "1")
    two = launch(*arguments, "--output", tmp_path / "2")
    assert two.returncode == 0, two.stderr
    folders = [path.parent for path in (tmp_path / "1").glob("*/*/report.json")]
    assert len(folders) == 4
    for folder in folders:
        other = tmp_path / "2" / folder.relative_to(tmp_path / "1")
        same_weights(folder / "model" / "model.safetensors", other / "model" / "model.safetensors")
        assert figures(folder) == figures(other)
    assert two.stdout.count("report  ") == 1


@pytest.mark.slow
def test_three_real_data_sets_with_two_processes_are_those_of_one(
    shared: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    """The first lines of TREC, AG's News and Yelp P. in their original files, with the leak guard."""
    files = {
        "trec": ("trec/train_5500.label", "trec/TREC_10.label", "latin-1"),
        "ag_news": ("ag_news/train_subset.csv.xz", "ag_news/test.csv", "utf-8"),
        "yelp_polarity": ("yelp_polarity/train_derived.csv.xz", "yelp_polarity/test_derived.csv.xz", "utf-8"),
    }
    config = ""
    for name, (train, test, encoding) in files.items():
        config += f'[[tasks]]\nname = "{name}"\n[tasks.data]\ndataset = "{name}"\n'
        for part, file, count in (("train", train, 90), ("test", test, 30)):
            path = tmp_path / f"{name}-{part}.csv"
            with open_text(shared / "data" / file, encoding) as lines:
                path.write_text("".join(islice(lines, count)), encoding=encoding)
            config += f'{part} = "{path}"\n'
    (tmp_path / "tasks.toml").write_text(config)
    arguments = [
        "multitask", "--config", tmp_path / "tasks.toml", "--encoder", tiny_encoder, "--max-seq-len", 48, "--epochs", 2,
        "--batch-size", 6, "--learning-rate", 1e-3, "--continuation-epochs", 1, *COMMON,
    ]  # fmt: skip
    alone(*arguments, "--output", tmp_path / "1")
    two = launch(*arguments, "--output", tmp_path / "2")
    assert two.returncode == 0, two.stderr
    folders = [path.parent for path in (tmp_path / "1").glob("*/*/report.json")]
    assert {(folder.parent.name, folder.name) for folder in folders} == {
        (stage, name) for stage in ("joint", "continued") for name in files
    }
    for folder in folders:
        other = tmp_path / "2" / folder.relative_to(tmp_path / "1")
        same_weights(folder / "model" / "model.safetensors", other / "model" / "model.safetensors")
        assert figures(folder) == figures(other)


@pytest.mark.slow
def test_further_pre_training_with_two_processes_is_that_of_one(
    tiny_corpus: Path, tiny_encoder: Path, tmp_path: Path
) -> None:
    arguments = [
        "pretrain", "--corpus", tiny_corpus, "--encoder", tiny_encoder, "--steps", 12, "--batch-size", 5,
        "--sequence-len", 32, "--accumulation", 2, "--learning-rate", 1e-3, "--evaluations", 3, *COMMON,
    ]  # fmt: skip
    alone(*arguments, "--output", tmp_path / "1")
    two = launch(*arguments, "--output", tmp_path / "2")
    assert two.returncode == 0, two.stderr
    same_weights(*(tmp_path / n / "model" / "model.safetensors" for n in ("1", "2")))


@pytest.mark.slow
def test_resumed_by_two_processes(tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path) -> None:
    """A checkpoint of one process is gone on with by two."""
    common = [
        "finetune", "--train", tiny_csv(rows=40), "--encoder", tiny_encoder, "--max-seq-len", 32, "--batch-size", 5,
        "--epochs", 4, "--learning-rate", 1e-3, "--checkpoint-minutes", 0, *COMMON,
    ]  # fmt: skip
    killed = (
        "import sys\nfrom doctune.training import state\nwrite = state.Checkpoints._save\n"
        "def save(self, folder, at, *rest):\n    write(self, folder, at, *rest)\n    assert at.step < 11\n"
        "state.Checkpoints._save = save\nfrom doctune.cli import main\nmain(sys.argv[1:])"
    )
    environment = {**os.environ, "PYTHONPATH": str(SOURCES.parent), "CUDA_VISIBLE_DEVICES": ""}
    first = subprocess.run(
        [sys.executable, "-c", killed, *map(str, common), "--output", str(tmp_path / "two")],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert "AssertionError" in first.stderr
    assert (tmp_path / "two" / "checkpoint" / "state.json").is_file()
    done = launch(*common, "--output", tmp_path / "two", "--resume")
    assert done.returncode == 0, done.stderr
    alone(*common, "--output", tmp_path / "one")
    same_weights(*(tmp_path / n / "model" / "model.safetensors" for n in ("one", "two")))


@pytest.mark.slow
def test_an_error_is_told_once_and_nobody_waits(
    tiny_csv: Callable[..., Path], tiny_encoder: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text("text,label\nfilm,\n")
    flags = ("--encoder", tiny_encoder, "--output", tmp_path / "run", "--epochs", 1, "--max-seq-len", 32)
    for arguments, message in (
        (("finetune", "--train", bad, *flags), r"bad\.csv:2: the label is empty"),
        (
            ("finetune", "--train", tiny_csv(), *flags, "--learning-rate", 1e30),
            "is not a finite number|no finite number",
        ),
    ):
        done = launch(*arguments)
        assert done.returncode != 0
        assert len(re.findall(rf"doctune: error: .*(?:{message})", done.stderr)) == 1, done.stderr
    assert not (tmp_path / "run").exists()


PROGRAM = """
import sys, torch
from doctune.distributed import open_world
from doctune.errors import ConfigError, DataError, TrainingError
with open_world("cpu") as world:
    found = world.broadcast_from_rank0(lambda: {"a": [1, "ž"], "b": None})
    assert found == {"a": [1, "ž"], "b": None}
    def fails():
        raise DataError("no such file")
    def fails_elsewhere():
        if world.rank == 1:
            raise ConfigError("cuda:1 is not there")
        return world.rank
    for call, kind in (
        (lambda: world.broadcast_from_rank0(fails), DataError),
        (lambda: world.rank0_first(fails), DataError),
        (lambda: world.all_or_raise(fails_elsewhere), ConfigError),
        (lambda: world.rank0_first(fails_elsewhere), ConfigError),
    ):
        try:
            call()
        except kind as error:
            assert str(error) in ("no such file", "cuda:1 is not there")
        else:
            raise SystemExit("no error")
    assert world.all_or_raise(lambda: world.rank) == world.rank
    assert world.all_reduce(torch.tensor([world.rank + 1.0])).item() == 3.0
    assert world.broadcast(torch.tensor([world.rank + 5])).item() == 5
    parameters = [torch.nn.Parameter(torch.zeros(3)) for _ in range(4)]
    kept = torch.ones(3)
    parameters[0].grad = kept
    if world.rank == 1:
        parameters[1].grad = torch.full((3,), 4.0)
    world.sum_gradients(parameters, [True, True, False, True])
    assert [None if p.grad is None else p.grad.tolist() for p in parameters] == [[2.0] * 3, [4.0] * 3, None, [0.0] * 3]
    assert kept.tolist() == [1.0] * 3
    print("rank", world.rank, flush=True)
    if world.rank == 1:
        raise SystemExit(3)
    try:
        world.barrier()
    except TrainingError as error:
        print(error, flush=True)
"""


def test_collectives_and_a_process_that_ends(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    done = launch(module="program", PYTHONPATH=f"{SOURCES.parent}:{tmp_path}")
    assert "no error" not in done.stderr
    assert "AssertionError" not in done.stderr, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("rank")] == ["rank 0"]
    assert "exitcode  : 3" in done.stderr, done.stderr


def test_one_process_has_no_part_in_this(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert launched() == World.single() == World(0, 1, 0)
    world = World.single()
    made = object()
    assert (
        world.broadcast_from_rank0(lambda: made)
        is world.rank0_first(lambda: made)
        is world.all_or_raise(lambda: made)
        is made
    )
    assert world.device("auto") == "auto"
    tensor = torch.ones(2)
    assert world.all_reduce(tensor) is world.broadcast(tensor) is tensor
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "model", "data.csv"])
    assert stopped.value.code == 2
    assert "doctune evaluate runs in one process; start it without torchrun" in capsys.readouterr().err
    monkeypatch.setenv("RANK", "2")
    assert launched() == World(2, 3, 0)
    assert not launched().main


def test_processes_share_the_gpus_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [World(rank, 4, rank).device("auto") for rank in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert World(3, 4, 3).device("cuda:0") == "cuda:0"
    assert World(3, 4, 3).device("cpu") == "cpu"


def test_only_one_module_knows_of_processes() -> None:
    pattern = re.compile(r"torch\.distributed|from torch import .*\bdistributed\b")
    found = [path.name for path in SOURCES.rglob("*.py") if pattern.search(path.read_text())]
    assert found == ["distributed.py"]


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_shares_are_the_batch(pack: Callable[..., Batch], size: int) -> None:
    sequences = [[2, *range(10, 10 + length), 3] for length in (5, 1, 9, 2, 2)]
    batch = pack(sequences, labels=[0, 1, 2, 3, 4])
    shares = [share(batch, rank, size) for rank in range(size)]
    there = [one for one in shares if one is not None]
    assert len(there) == min(size, 5)
    assert sorted(int(row) for one in there for row in one.rows) == [0, 1, 2, 3, 4]
    for one in there:
        assert one.labels is not None
        assert one.labels.tolist() == one.rows.tolist() == sorted(one.rows.tolist())
        bounds: Sequence[int] = one.cu_seqlens.tolist()
        for place, row in enumerate(one.rows.tolist()):
            assert one.input_ids[bounds[place] : bounds[place + 1]].tolist() == sequences[row]
            assert one.position_ids[bounds[place] : bounds[place + 1]].tolist() == list(range(len(sequences[row])))
        assert one.lengths == tuple(one.cu_seqlens.diff().tolist())
        assert one.max_seqlen == max(one.lengths)
    if size == 1:
        assert shares[0] is batch
    if size == 2:
        assert sorted(one.num_tokens for one in there) == [14, 15]
