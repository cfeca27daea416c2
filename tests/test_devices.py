from __future__ import annotations

import os
import subprocess
import sys

import pytest

from doctune.devices import KERNEL_CACHES, choose_device

# How many MiB a process grows by in matrix products of ever new shapes.
GROWTH = """
import torch
from doctune.devices import choose_device

device = choose_device("cpu", "bf16")
torch.set_num_threads(1)
layers = torch.nn.Sequential(torch.nn.Linear(256, 1024), torch.nn.Linear(1024, 256))


def pages():
    return int(open("/proc/self/statm").read().split()[1])


for rows in range(600, 800):
    with device.autocast():
        layers(torch.ones(rows, 256)).float().sum().backward()
    if rows == 604:
        before = pages()
print((pages() - before) / 256)
"""


def growth(**variables: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name not in KERNEL_CACHES} | variables
    done = subprocess.run([sys.executable, "-c", GROWTH], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="/proc is Linux's")
def test_batches_of_ever_new_shapes_do_not_fill_the_memory() -> None:
    if choose_device("cpu").precision != "bf16":
        pytest.skip("this processor has no bf16: PyTorch multiplies by another library, which keeps no kernels")
    assert growth() < growth(**dict.fromkeys(KERNEL_CACHES, "1024")) / 2


def test_a_setting_of_the_caller_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KERNEL_CACHES:
        monkeypatch.setenv(name, "200")
    choose_device("cpu")
    assert {os.environ[name] for name in KERNEL_CACHES} == {"200"}
