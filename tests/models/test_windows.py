"""Documents of several windows: what is pooled, gradients that do not depend on the pieces, memory with a bound."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from doctune.classifier.folder import Description, is_standard, load_model, save_model
from doctune.encoders.load import load_encoder
from doctune.models.classifier import Classifier, build_classifier
from doctune.settings import EncoderSettings, TruncationSettings
from doctune.tensors import Batch

LENGTH = 40
WINDOWS = (1, 4, 2)  # of each document
LAST = 7  # tokens of a document's last window


class NoTokenizer:
    def save(self, folder: Path) -> None:
        """The folders here are loaded for their weights only."""


@pytest.fixture
def documents(pack: Callable[..., Batch]) -> Callable[..., Batch]:
    """A batch of documents of so many windows, of which the last one is short."""

    def make(windows: Sequence[int] = WINDOWS, length: int = LENGTH) -> Batch:
        random = torch.Generator().manual_seed(3)
        lengths = [n for number in windows for n in [length] * (number - 1) + [LAST]]
        batch = pack([torch.randint(5, 100, (n,), generator=random).tolist() for n in lengths])
        number = torch.arange(len(windows))
        return replace(
            batch, window_of=torch.repeat_interleave(number, torch.tensor(windows)), rows=number, labels=number % 2
        )

    return make


def make(
    folder: Path, window_pooling: Any, token_pooling: str = "pooler", layers: tuple[int, ...] = (-1,),
    packing: Any = "auto", dropout: float = 0.0,
) -> Classifier:  # fmt: skip
    torch.manual_seed(1)
    loaded = load_encoder(folder, EncoderSettings(encoder="x", packing=packing, dropout=dropout), layers)
    return build_classifier(loaded, token_pooling, "concat", 2, dropout=dropout, window_pooling=window_pooling)


def gradients(model: Classifier, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad(set_to_none=True)
    losses, logits = model.losses(batch)
    losses["label"].sum.backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return logits.detach(), found


def pieces(model: Classifier, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many windows were encoded at a time."""
    seen: list[int] = []
    encode = model._encode
    monkeypatch.setattr(model, "_encode", lambda piece: seen.append(piece.num_windows) or encode(piece))
    with torch.no_grad():
        model(batch)
    monkeypatch.undo()
    return seen


@pytest.mark.parametrize("window_pooling", ["mean", "max", "attention"])
@pytest.mark.parametrize(
    ("kind", "token_pooling", "layers", "packing"),
    [
        ("bert", "pooler", (-1,), "auto"),  # fast layers, first rows only
        ("bert", "mean", (0, -1), "auto"),
        ("bert", "attention", (1,), "padded"),
        ("roberta", "cls", (-1,), "auto"),
        ("modernbert", "max", (0, -1), "auto"),
        ("deberta-v2", "pooler", (-1,), "auto"),
    ],
)
def test_gradients_do_not_depend_on_the_pieces(
    kind: str, token_pooling: str, layers: tuple[int, ...], packing: str, window_pooling: str,
    family_folder: Callable[[str], Path], documents: Callable[..., Batch], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    model, batch = make(family_folder(kind), window_pooling, token_pooling, layers, packing).train(), documents()
    model.windows_per_pass = 100
    logits, whole = gradients(model, batch)
    assert set(whole) == {name for name, _ in model.named_parameters()}
    for number in (1, 2, 3):
        model.windows_per_pass = number
        seen = pieces(model, batch, monkeypatch)
        assert sum(seen) == sum(WINDOWS)
        assert len(seen) > 1
        found, parts = gradients(model, batch)
        torch.testing.assert_close(found, logits, rtol=1e-5, atol=1e-5)
        assert parts.keys() == whole.keys()
        for name, gradient in parts.items():
            torch.testing.assert_close(gradient, whole[name], rtol=1e-5, atol=1e-5, msg=name)


@pytest.mark.parametrize("window_pooling", ["mean", "max", "attention"])
def test_documents_are_pooled_windows_by_themselves(
    window_pooling: str,
    family_folder: Callable[[str], Path],
    documents: Callable[..., Batch],
    pack: Callable[..., Batch],
) -> None:
    """The same vectors as of each window alone, pooled by plain functions of torch."""
    model, batch = make(family_folder("bert"), window_pooling).eval(), documents()
    alone = [pack([ids.tolist()]) for ids in batch.input_ids.split(batch.lengths)]
    with torch.no_grad():
        vectors = torch.cat([model.features(one) for one in alone]).split(WINDOWS)
        expected = []
        for x in vectors:
            if window_pooling == "attention":
                assert model.task.window_pooling is not None
                pooling: Any = model.task.window_pooling.pooling
                weights = torch.softmax(pooling.linear_second(torch.tanh(pooling.linear_first(x))), 0)
                expected.append((weights * x).sum(0))
            else:
                expected.append(x.mean(0) if window_pooling == "mean" else x.amax(0))
        torch.testing.assert_close(model.features(batch), torch.stack(expected), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("window_pooling", ["mean", "max", "attention"])
def test_what_windows_add_is_the_logit(
    window_pooling: str, family_folder: Callable[[str], Path], documents: Callable[..., Batch]
) -> None:
    model, batch = make(family_folder("bert"), window_pooling).eval(), documents()
    with torch.no_grad():
        torch.nn.init.normal_(model.task.head.linear.bias)
        logits, added = model.explained(batch)
        assert torch.equal(logits, model(batch))
    sums = torch.zeros_like(logits).index_add(0, batch.window_of, added)
    torch.testing.assert_close(sums + model.task.head.linear.bias, logits, rtol=1e-5, atol=1e-5)


def test_of_equal_windows_max_takes_the_first(family_folder: Callable[[str], Path], pack: Callable[..., Batch]) -> None:
    model = make(family_folder("bert"), "max").eval()
    batch = replace(pack([[7, 8, 9], [7, 8, 9]]), window_of=torch.zeros(2, dtype=torch.int64), rows=torch.zeros(1))
    with torch.no_grad():
        _, added = model.explained(batch)
    assert added[0].abs().max() > 0
    assert not added[1].any()


@pytest.mark.parametrize("token_pooling", ["cls", "mean"])
def test_documents_of_one_window_are_as_without_windows(
    token_pooling: str, family_folder: Callable[[str], Path], documents: Callable[..., Batch]
) -> None:
    """To the last bit, in training, too, however many they are: nothing is cut in pieces, nothing is pooled."""
    batch, found = documents([1] * 9), []
    for window_pooling in (None, "mean", "max"):
        model = make(family_folder("bert"), window_pooling, token_pooling, dropout=0.1).train()
        model.windows_per_pass = 1
        torch.manual_seed(2)
        found.append(gradients(model, batch))
    for logits, parts in found[1:]:
        assert torch.equal(logits, found[0][0])
        assert all(torch.equal(gradient, found[0][1][name]) for name, gradient in parts.items())


def test_dropout_is_repeated_when_a_piece_is_computed_again(
    tiny_encoder: Path, documents: Callable[..., Batch]
) -> None:
    """The gradient is that of the loss that was seen: a small step along it changes the loss by as much."""
    model, batch = make(tiny_encoder, "mean", "mean", dropout=0.3).train(), documents()
    model.windows_per_pass = 1

    def loss() -> Tensor:
        torch.manual_seed(7)
        return model.losses(batch)[0]["label"].sum

    parameter = model.encoder.model.get_submodule("encoder.layer.0.intermediate.dense").weight
    loss().backward()
    gradient, step = parameter.grad.clone(), 1e-2
    direction, losses = gradient / gradient.norm(), []
    for distance in (step, -2 * step):
        with torch.no_grad():
            parameter.add_(direction * distance)
        losses.append(loss().item())
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(gradient.norm().item(), rel=1e-2)


@pytest.mark.parametrize(("kind", "packing"), [("bert", "auto"), ("bert", "padded"), ("modernbert", "auto")])
def test_bf16_gradients_of_pieces(
    kind: str, packing: str, family_folder: Callable[[str], Path], documents: Callable[..., Batch],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Autocast holds in the recomputation, too, and the last piece has gradients although the others left none."""
    model, batch = make(family_folder(kind), "mean", packing=packing).train(), documents()
    found, cast, encode = [], [], model._encode
    monkeypatch.setattr(model, "_encode", lambda piece: cast.append(torch.is_autocast_enabled("cpu")) or encode(piece))
    for number in (100, 1):
        model.windows_per_pass = number
        model.zero_grad(set_to_none=True)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses, _ = model.losses(batch)
        losses["label"].sum.backward()
        found.append({name: p.grad.clone() for name, p in model.named_parameters()})
    pieces = len(list(batch.pieces(batch.max_seqlen)))
    assert cast == [True] * (1 + pieces + pieces - 1)
    for name, gradient in found[0].items():
        assert (gradient - found[1][name]).norm() <= 0.05 * gradient.norm() + 1e-3, name


def test_a_frozen_encoder_with_windows(tiny_encoder: Path, documents: Callable[..., Batch]) -> None:
    model = make(tiny_encoder, "attention")
    model.freeze_encoder()
    model.train()
    model.windows_per_pass = 2
    _, parts = gradients(model, documents())
    assert {name.split(".")[1] for name in parts} == {"head", "window_pooling"}


def test_gradient_checkpointing_of_layers_with_pieces(tiny_encoder: Path, documents: Callable[..., Batch]) -> None:
    model, batch = make(tiny_encoder, "mean").train(), documents()
    model.windows_per_pass = 1
    _, plain = gradients(model, batch)
    assert model.encoder.recompute_activations()
    _, again = gradients(model, batch)
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=1e-5, atol=1e-7, msg=name)


class Living(TorchDispatchMode):
    """The most bytes of tensors made inside it that were alive at once."""

    def __init__(self) -> None:
        super().__init__()
        self.known: dict[int, Any] = {}
        self.now = self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(x.untyped_storage()) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        out = func(*args, **(kwargs or {}))
        for x in tree_leaves(out):
            if isinstance(x, Tensor) and id(x.untyped_storage()) not in given:
                self._count(x.untyped_storage())
        return out

    def _count(self, storage: Any) -> None:
        key, size = id(storage), storage.nbytes()
        if key in self.known:
            return

        def gone(_: Any) -> None:
            del self.known[key]
            self.now -= size

        self.known[key] = weakref.ref(storage, gone)
        self.now += size
        self.most = max(self.most, self.now)


@pytest.mark.parametrize(("kind", "token_pooling"), [("bert", "pooler"), ("bert", "mean"), ("modernbert", "mean")])
def test_memory_does_not_grow_with_the_document(
    kind: str, token_pooling: str, family_folder: Callable[[str], Path], documents: Callable[..., Batch]
) -> None:
    """A step's most bytes at a time: beside numbers of tokens and a vector a window, those of `windows_per_pass`."""
    model = make(family_folder(kind), "attention", token_pooling).train()
    most = {}
    for windows, per_pass in ((4, 4), (80, 4), (80, 80)):
        model.windows_per_pass = per_pass
        batch = documents([windows], 64)
        gradients(model, batch)
        with Living() as living:
            gradients(model, batch)
        most[windows, per_pass] = living.most
    # Of a token its places in attention, 8 bytes each; of a window its vector and the like, the gradient, and pooling.
    numbers = 80 * 64 * 8 * 12
    vectors = 80 * 32 * 4 * 16
    assert most[80, 4] <= most[4, 4] + numbers + vectors
    assert most[80, 80] > 5 * most[80, 4]


def test_50_000_tokens_need_the_memory_of_a_batch_of_short_texts(
    family_folder: Callable[[str], Path], documents: Callable[..., Batch]
) -> None:
    """One document of 500 windows of 100 tokens beside an ordinary batch of 24 texts as long as a window."""
    model = make(family_folder("bert"), "mean", "mean").train()
    number = torch.arange(24)
    short = replace(documents([24], 100), window_of=number, rows=number, labels=number % 2)
    long = documents([500], 100)
    most = []
    for batch in (short, long):
        gradients(model, batch)
        with Living() as living:
            gradients(model, batch)
        most.append(living.most)
    numbers = 500 * 100 * 8 * 12
    vectors = 500 * 32 * 4 * 16
    assert sum(long.lengths) > 49_900
    assert most[1] <= most[0] + numbers + vectors
    assert numbers + vectors < most[0] / 2  # so that the bound is one


@pytest.mark.parametrize("window_pooling", ["mean", "max", "attention"])
def test_what_is_saved_is_what_is_loaded(
    window_pooling: Any, family_folder: Callable[[str], Path], documents: Callable[..., Batch], tmp_path: Path
) -> None:
    folder, batch = family_folder("bert"), documents()
    model = make(folder, window_pooling).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("encoder."):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    description = Description(
        doctune="0", labels=("a", "b"), truncation=TruncationSettings(truncation="windows", overlap=3),
        layers=model.encoder.layers, num_layers=model.encoder.num_layers, layer_pooling="concat",
        token_pooling="pooler", window_pooling=window_pooling, packing="packed",
    )  # fmt: skip
    config = load_encoder(folder, EncoderSettings(encoder="x"), (-1,)).config
    save_model(model, config, description, NoTokenizer(), tmp_path / "model")
    again, read = load_model(tmp_path / "model")
    assert read == description
    assert not is_standard(again)
    with torch.no_grad():
        torch.testing.assert_close(again(batch), model(batch), rtol=1e-6, atol=1e-6)
