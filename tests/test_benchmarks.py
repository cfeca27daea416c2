"""The benchmarks need data, peers and a quiet machine; here they must at least still fit the code they measure."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_all_of_them_import_without_their_peers() -> None:
    """And say what they do; names of the package that they use are there."""
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert {"finetuning", "gpu", "prediction", "pretraining_step", "roofline", "step_profile"} <= set(names)
    code = (
        "import importlib, sys\n"
        "sys.modules.update(dict.fromkeys(['accelerate', 'onnx', 'onnxruntime']))\n"
        f"for name in {names!r}:\n    assert importlib.import_module(name).__doc__, name\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_picture_has_every_way_and_part() -> None:
    code = (
        "from step_picture import PARTS, draw, part_of\n"
        "assert part_of('aten::addmm') == 'products' and part_of('aten::tanh').startswith('the rest')\n"
        "shares = dict.fromkeys(PARTS, 1 / len(PARTS))\n"
        "print(draw({'one <way>': 20.0, 'another': 10.0}, {'one <way>': shares, 'another': shares}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "one &lt;way&gt;" in done.stdout
    assert "20 ms, 2.00 times" in done.stdout
    assert done.stdout.count("<rect") == 1 + 7 + 2 * 7


def measured_on_the_processor(folder: Path, *sections: str) -> dict[str, Any]:
    """What `gpu.py` writes of these sections, in tiny sizes; the Trainer's part is skipped where it is missing."""
    output = folder / "gpu.json"
    done = subprocess.run(
        [sys.executable, FOLDER / "gpu.py", "--device", "cpu", "--tiny", "--output", output, "--only", *sections],
        capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))["sections"]
    assert {name: section["result"] for name, section in found.items()} == dict.fromkeys(sections, "ok"), done.stdout
    return {name: section["measurements"] for name, section in found.items()}


def test_what_is_for_a_gpu_runs_on_a_processor(tmp_path: Path) -> None:
    found = measured_on_the_processor(tmp_path, "rate", "mlm", "small")
    assert found["rate"]["bf16 product"]["flops_per_second"] > 0
    assert found["mlm"]["256 tokens, doctune"]["tokens_per_second"] > 0
    assert found["small"]["profile of masked words"]["operators_per_step"] > 0
    assert "Self CPU" in (tmp_path / "gpu-profile.txt").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_gate_and_the_rest_run_on_a_processor(tmp_path: Path) -> None:
    found = measured_on_the_processor(tmp_path, "equal", "ag_epoch", "long")
    assert len(found["equal"]) == 8
    assert found["ag_epoch"]["batches of 4, doctune"]["seconds_per_epoch"] > 0
    assert found["long"]["BERT, 600 tokens in windows of 32"]["windows"] == 20
