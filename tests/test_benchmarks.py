"""The benchmarks need data, peers and a quiet machine; here they must at least still fit the code they measure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "benchmarks"


def test_all_of_them_import_without_their_peers() -> None:
    """And say what they do; names of the package that they use are there."""
    names = sorted(path.stem for path in FOLDER.glob("*.py"))
    assert {"finetuning", "prediction", "pretraining_step", "roofline", "step_profile"} <= set(names)
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
