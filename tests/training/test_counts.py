"""What a step does, in counts that no clock disturbs: products, conversions, and what is allocated."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from transformers import BertConfig, BertModel

from doctune.encoders.load import load_encoder
from doctune.models.classifier import Classifier, build_classifier
from doctune.settings import EncoderSettings, LayerwiseSettings, OptimizerSettings
from doctune.tensors import Batch
from doctune.training.layerwise import parameter_groups
from doctune.training.optim import clip_gradients, make_optimizer

VOCABULARY, HIDDEN, LAYERS = 6000, 32, 3
SEQUENCES = ((7, 50, 1, 33), (16, 17, 50, 3, 20, 40, 31))
PRODUCTS = ("aten::mm", "aten::addmm", "aten::linear")


class Counting(TorchDispatchMode):
    """Counts the operations by name, and keeps the size of the largest tensor that one of them made."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()
        self.largest = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        self.calls[func.name().split(".")[0]] += 1
        given = {x.untyped_storage().data_ptr() for x in tree_flatten((args, kwargs))[0] if isinstance(x, Tensor)}
        for x in tree_flatten(out)[0]:
            if isinstance(x, Tensor) and x.untyped_storage().data_ptr() not in given:
                self.largest = max(self.largest, x.numel())
        return out

    @property
    def products(self) -> int:
        """Products of matrices, but for the batched ones of attention."""
        return sum(self.calls[name] for name in PRODUCTS)


@pytest.fixture(scope="module")
def wide_vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT whose word embeddings are far larger than anything else."""
    folder = tmp_path_factory.mktemp("wide")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=HIDDEN, num_hidden_layers=LAYERS, num_attention_heads=4,
        intermediate_size=64, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def step(wide_vocabulary: Path, pack: Callable[..., Batch]) -> Callable[[int], Counting]:
    """Two steps to warm up, then the operations of one more, on one of the batches."""

    def make(number: int = 0) -> Counting:
        model = classifier(wide_vocabulary).train()
        groups, _ = parameter_groups(model, 1e-3, 0.01, LayerwiseSettings())
        optimizer = make_optimizer(groups, OptimizerSettings(), lambda step: 1.0)
        counting = Counting()
        for last in (False, False, True):
            batch = documents(pack, number)
            with counting if last else nothing():
                with torch.autocast("cpu", dtype=torch.bfloat16):
                    losses, _ = model.losses(batch)
                losses["label"].sum.backward()
                clip_gradients(optimizer, 1.0)
                optimizer.step()
                optimizer.zero_grad()
        return counting

    return make


@contextmanager
def nothing() -> Iterator[None]:
    yield


def classifier(folder: Path) -> Classifier:
    loaded = load_encoder(folder, EncoderSettings(encoder="x", dropout=0.1), (-1,))
    return build_classifier(loaded, "cls", "concat", 3)


def documents(pack: Callable[..., Batch], number: int) -> Batch:
    sequences = [[5 + (i * 37 + j) % (VOCABULARY - 5) for j in range(n)] for i, n in enumerate(SEQUENCES[number])]
    return pack(sequences, labels=[i % 3 for i in range(len(sequences))])


def test_products_of_a_step(step: Callable[[int], Counting]) -> None:
    """Each layer has 4 forward and 8 backward; the highest has a query of its own, 3 more; the head's are 1 and 2."""
    assert step(0).products == 12 * LAYERS + 3 + 3


def test_nothing_as_large_as_the_vocabulary_is_made(step: Callable[[int], Counting]) -> None:
    """Neither a dense gradient of the word embeddings nor clipped copies of the gradients."""
    assert step(0).largest < VOCABULARY * HIDDEN / 2


def test_conversions_of_a_step(step: Callable[[int], Counting]) -> None:
    """A layer's parameters once to bf16, and its gradients once back."""
    counting = step(0)
    parameters_there, gradients_back = 6 + 6, 4 * 2 + 2 + 4  # the last are those of the norms
    around = 12  # embeddings, head and loss
    assert counting.calls["aten::_to_copy"] <= LAYERS * (parameters_there + gradients_back) + around


def test_operations_do_not_grow_with_the_number_of_sequences(step: Callable[[int], Counting]) -> None:
    """Both batches have buckets for 32 and for 64 tokens, or one for both."""
    first, second = step(0), step(1)
    assert sum(second.calls.values()) <= 1.05 * sum(first.calls.values())
    assert sum(first.calls.values()) <= 1400


def test_prediction_converts_parameters_once(wide_vocabulary: Path, pack: Callable[..., Batch]) -> None:
    model = classifier(wide_vocabulary).eval()
    counts = []
    for _ in range(2):
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16), Counting() as counting:
            model(documents(pack, 0))
        counts.append(counting.calls["aten::_to_copy"] + counting.calls["aten::copy_"])
        assert counting.products == 4 * LAYERS + 1 + 1
    assert counts[1] <= counts[0] - 6 * LAYERS
    assert counts[1] < LAYERS + 3
