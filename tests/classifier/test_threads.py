"""One predictor in several threads and processes answers as it does alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import torch

from doctune.classifier.predictor import Predictor
from doctune.classifier.texts import as_examples, tokenise
from doctune.encoders.base import FAMILIES
from doctune.errors import TrainingError
from doctune.runs.evaluation import evaluation_mode
from doctune.settings import TruncationSettings

THREADS, CALLS = 8, 32
WAYS = [
    (kind, packing)
    for kind in FAMILIES
    for packing in ("packed", "padded")
    if packing == "padded" or FAMILIES[kind].packed
]
WINDOWS = TruncationSettings(truncation="windows", max_seq_len=12, overlap=2)


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads that take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def texts_of(number: int) -> list[str]:
    random = Random(number)
    return [" ".join(random.choices("abcdefghij", k=random.randint(1, 40))) for _ in range(1 + number % 3)]


def answers_of_threads(predictor: Predictor) -> tuple[list[Any], list[Any]]:
    """What calls give one after another, and from several threads at once."""
    calls = [texts_of(number) for number in range(CALLS)]
    alone = [predictor.predict_proba(texts) for texts in calls]
    with ThreadPoolExecutor(THREADS) as threads:
        together = list(threads.map(predictor.predict_proba, calls))
    return alone, together


@pytest.mark.usefixtures("often_switched")
@pytest.mark.parametrize("layers", [(-1,), "all"])
@pytest.mark.parametrize(("kind", "packing"), WAYS)
def test_threads_give_each_text_its_own_answer(
    kind: str, packing: str, layers: Any, make_predictor: Callable[..., Predictor]
) -> None:
    alone, together = answers_of_threads(make_predictor(kind, layers=layers, packing=packing))
    for expected, answer in zip(alone, together, strict=True):
        np.testing.assert_array_equal(answer, expected)
    assert len({row.tobytes() for answer in alone for row in answer}) > CALLS // 2


@pytest.mark.usefixtures("often_switched")
@pytest.mark.parametrize("layers", [(-1,), "all"])
def test_threads_with_windows(layers: Any, make_predictor: Callable[..., Predictor]) -> None:
    alone, together = answers_of_threads(make_predictor(layers=layers, truncation=WINDOWS))
    for expected, answer in zip(alone, together, strict=True):
        np.testing.assert_array_equal(answer, expected)


def test_a_call_leaves_the_mode_of_the_model_alone(make_predictor: Callable[..., Predictor]) -> None:
    predictor = make_predictor()
    seen: set[bool] = set()
    predictor.model.task.head.register_forward_hook(lambda module, args, output: seen.add(module.training))
    predictor.model.train()
    with pytest.raises(TrainingError, match="training mode"):
        predictor.predict(["a b c"])
    with evaluation_mode(predictor.model):
        predictor.predict(["a b c"])
    assert predictor.model.training
    assert predictor.model.task.head.training
    with pytest.raises(KeyError), evaluation_mode(predictor.model):
        raise KeyError
    assert predictor.model.training
    assert seen == {False}


def test_activations_that_are_computed_again_are_no_answer(make_predictor: Callable[..., Predictor]) -> None:
    """A call between the forward and the backward pass of a training step, with recomputation in that."""
    predictor = make_predictor("deberta", layers="all")
    expected = predictor.predict_proba(texts_of(2))
    model = predictor.model
    assert model.encoder.recompute_activations()
    batch = predictor.collator(tokenise(as_examples(texts_of(5)), predictor.tokenizer, predictor.labels), np.arange(3))
    model.train()
    loss = model(batch).sum()
    with evaluation_mode(model):
        np.testing.assert_array_equal(predictor.predict_proba(texts_of(2)), expected)
    loss.backward()
    assert all(p.grad is None or bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    with evaluation_mode(model):
        np.testing.assert_array_equal(predictor.predict_proba(texts_of(2)), expected)


FORK = """
import os, sys, threading
import numpy as np
import torch

torch.set_num_threads(2)
import doctune

model = doctune.load(sys.argv[1], "cpu", "fp32")
texts = [" ".join("abcdefghij"[i % 7 :] * 3) for i in range(400)]
# Enough work for OpenMP to start its threads, whatever the size of the model.
torch.ones(2000, 2000).exp().sum()
expected = model.predict_proba(texts)
if sys.argv[2] == "while another thread answers":
    inside, over = threading.Event(), threading.Event()

    def wait(module, args, output):
        inside.set()
        over.wait()

    hook = model.model.task.head.register_forward_hook(wait)
    threading.Thread(target=model.predict, args=(texts,), daemon=True).start()
    inside.wait()
child = os.fork()
if child == 0:
    try:
        torch.ones(2000, 2000).exp().sum()
        os._exit(0 if np.allclose(model.predict_proba(texts), expected, atol=1e-5) else 3)
    except doctune.UserError as error:
        print(error, flush=True)
        os._exit(4)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
os._exit(0)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="forks are for Linux")
@pytest.mark.parametrize(
    ("when", "expected"),
    [
        ("after an answer", "0\n"),
        ("while another thread answers", "this process was forked while a model was answering in another thread; "),
    ],
)
def test_a_forked_child_answers_or_says_why_not(
    when: str, expected: str, make_predictor: Callable[..., Predictor], tmp_path: Path
) -> None:
    make_predictor(folder=tmp_path / "model")
    command = [sys.executable, "-W", "ignore", "-c", FORK, str(tmp_path / "model"), when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(expected)
    assert done.stdout.count("\n") == 1 + (when != "after an answer")
