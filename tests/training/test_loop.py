"""Properties of the loop: what a step divides by, what is kept, and when it stops."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from doctune.batches.collate import Collator
from doctune.batches.feed import DocumentFeed
from doctune.devices import choose_device
from doctune.distributed import World
from doctune.encoders.load import load_encoder
from doctune.errors import CheckpointError, TrainingError
from doctune.examples import Example
from doctune.heads.links import Softmax
from doctune.models.classifier import Classifier, build_classifier
from doctune.settings import EncoderSettings, LayerwiseSettings, OptimizerSettings, TrainingSettings
from doctune.store.build import build_shard
from doctune.store.splits import Dataset, make_dataset
from doctune.targets import SingleTarget
from doctune.text.tokenizer import TextTokenizer
from doctune.text.truncation import HeadOnly
from doctune.training import loop
from doctune.training.ahead import Ahead
from doctune.training.budget import Budget
from doctune.training.layerwise import parameter_groups
from doctune.training.log import MetricsLog
from doctune.training.loop import Outcome, TrainingSetup, train
from doctune.training.optim import make_optimizer
from doctune.training.state import Checkpoints, Evaluation

CPU = choose_device("cpu", "fp32")


def make_run(
    model: Classifier, dataset: Dataset, collator: Collator, training: TrainingSettings, seed: int = 1,
    rate: float = 1e-3, optimizer: str = "adamw",
) -> TrainingSetup:  # fmt: skip
    groups, _ = parameter_groups(model, rate, 0.01, LayerwiseSettings())
    feed = DocumentFeed(dataset, collator, training, seed)
    budget = Budget("step", len(feed.steps))
    made = make_optimizer(groups, OptimizerSettings(optimizer=optimizer), lambda step: 1.0)
    return TrainingSetup(
        model, feed, budget, feed.ends, ("examples", feed.num_documents()), made, lambda step: 1.0, 1.0, CPU, seed,
        training.patience, keep_last=training.select == "last",
    )  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tiny_encoder: Path) -> TextTokenizer:
    return TextTokenizer.load(tiny_encoder)


@pytest.fixture(scope="module")
def collator(tokenizer: TextTokenizer) -> Collator:
    return Collator(tokenizer.template, HeadOnly(), 32)


@pytest.fixture(scope="module")
def dataset(tokenizer: TextTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    words = (("awful", "neg"), ("great", "pos"))
    examples = [Example(f"doc-{i}", f"{words[i % 2][0]} film " + "good " * (i % 7), words[i % 2][1]) for i in range(20)]
    built = build_shard(examples, tokenizer, tmp_path_factory.mktemp("shards"), "train")
    return make_dataset("train", built.shard, SingleTarget(("neg", "pos")))


@pytest.fixture
def run(
    tiny_encoder: Path, dataset: Dataset, collator: Collator, tmp_path: Path
) -> Callable[..., tuple[Classifier, Outcome]]:
    def go(
        scores: Iterator[float] | None = None,
        seed: int = 1,
        dropout: float = 0.0,
        rate: float = 1e-3,
        optimizer: str = "adamw",
        checkpoints: Checkpoints | None = None,
        **settings: object,
    ) -> tuple[Classifier, Outcome]:
        training = TrainingSettings.model_validate({"epochs": 2, "batch_size": 4, **settings})
        torch.manual_seed(seed)
        loaded = load_encoder(tiny_encoder, EncoderSettings(encoder="x", dropout=dropout), (-1,))
        model = build_classifier(loaded, "mean", "concat", 2, dropout=dropout)
        evaluate = None if scores is None else lambda: Evaluation(next(scores), {})
        run = make_run(model, dataset, collator, training, seed, rate, optimizer)
        outcome = train(run, evaluate, MetricsLog(tmp_path / "metrics.jsonl"), checkpoints)
        return model, outcome

    return go


def weights(model: Classifier) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


Run = Callable[..., tuple[Classifier, Outcome]]


def test_it_learns(run: Run, dataset: Dataset, collator: Collator) -> None:
    _, outcome = run(epochs=8)
    losses = [record.train_loss for record in outcome.records]
    assert losses[-1] < 0.7 * losses[0]
    assert outcome.examples == 8 * len(dataset)
    assert outcome.tokens == 8 * collator.lengths(dataset).sum()


def test_accumulation_divides_by_the_count_of_the_whole_window(run: Run) -> None:
    """Batches of unequal size: the result is that of one batch of all of them, not a mean of means."""
    whole, _ = run(batch_size=20, accumulation=1)
    parts, _ = run(batch_size=3, accumulation=7)
    torch.testing.assert_close(weights(whole), weights(parts), rtol=1e-4, atol=1e-5)


def test_accumulation_with_class_weights(tiny_encoder: Path, dataset: Dataset, collator: Collator, run: Run) -> None:
    torch.manual_seed(0)
    loaded = load_encoder(tiny_encoder, EncoderSettings(encoder="x", dropout=0.0), (-1,))
    model = build_classifier(loaded, "mean", "concat", 2, dropout=0.0)
    model.task.link = Softmax(torch.tensor([0.2, 3.0]))
    places = np.arange(20)
    whole = model.losses(collator(dataset, places))[0]["label"]
    parts = [model.losses(collator(dataset, part))[0]["label"] for part in (places[:3], places[3:])]
    torch.testing.assert_close(whole.sum / whole.count, sum(p.sum for p in parts) / sum(p.count for p in parts))


def test_the_same_seed_gives_the_same_weights(run: Run) -> None:
    first, second = (weights(run(dropout=0.1)[0]) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, weights(run(dropout=0.1, seed=2)[0]))


def test_the_best_weights_are_kept_and_ties_go_to_the_later(run: Run) -> None:
    """More training that is not worse is kept."""
    model, outcome = run(iter([0.5, 0.9, 0.9, 0.7]), epochs=4)
    assert outcome.best == 2
    assert len(outcome.records) == 4
    three, _ = run(iter([0.1, 0.2, 0.3]), epochs=3)
    torch.testing.assert_close(weights(model), weights(three))


def test_an_equal_score_is_no_gain(run: Run) -> None:
    """Its weights are kept, but patience runs out."""
    _, outcome = run(iter([0.9, 0.9, 0.9, 0.9]), epochs=4, patience=2)
    assert (outcome.best, len(outcome.records)) == (2, 3)


def test_early_stopping(run: Run) -> None:
    _, outcome = run(iter([0.9, 0.8, 0.7, 0.6]), epochs=4, patience=2)
    assert (outcome.best, len(outcome.records)) == (0, 3)
    assert outcome.steps == 3 * 5


def test_evaluations_and_fractions_of_an_epoch(run: Run) -> None:
    _, outcome = run(iter(range(9)), epochs=1.5, evaluations_per_epoch=2)
    assert [record.step for record in outcome.records] == [3, 5, 7]
    assert outcome.records[-1].epoch == pytest.approx(1.5, abs=0.1)


def test_the_last_weights_are_kept_where_that_is_asked_for(run: Run) -> None:
    scores = [0.5, 0.9, 0.7, 0.8]
    best, _ = run(iter(scores), epochs=4)
    last, outcome = run(iter(scores), epochs=4, select="last")
    plain, _ = run(epochs=4)
    assert outcome.best == 3
    assert torch.equal(weights(last), weights(plain))
    assert not torch.equal(weights(last), weights(best))
    _, stopped = run(iter([0.9, 0.5, 0.7, 0.8, 0.1]), epochs=5, select="last", patience=2)
    assert (len(stopped.records), stopped.best) == (3, 2)


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_the_documents(
    tiny_encoder: Path, tokenizer: TextTokenizer, collator: Collator, tmp_path: Path
) -> None:
    texts = ["great film"] * 5 + ["the war film"] + ["awful film"] * 6
    examples = [Example(f"doc-{i}", text, "pos" if i < 6 else "neg") for i, text in enumerate(texts)]
    shard = build_shard(examples, tokenizer, tmp_path, "train").shard
    dataset = make_dataset("train", shard, SingleTarget(("neg", "pos")))
    loaded = load_encoder(tiny_encoder, EncoderSettings(encoder="x"), (-1,))
    model = build_classifier(loaded, "mean", "concat", 2)
    with torch.no_grad():
        loaded.encoder.model.embeddings.word_embeddings.weight[tokenizer.encode(["war"])[0][0]] = float("nan")
    run = make_run(model, dataset, collator, TrainingSettings(epochs=1, batch_size=12))
    before = weights(model)
    with pytest.raises(TrainingError, match=r"loss is not a finite number in step 1.*Documents: doc-5\."):
        train(run, None, MetricsLog(tmp_path / "metrics.jsonl"))
    torch.testing.assert_close(weights(model), before, equal_nan=True)


def test_metrics_are_on_disk_line_by_line(run: Run, tmp_path: Path) -> None:
    run(iter([0.1, 0.2]))
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [r["kind"] for r in records] == ["step", "evaluation", "evaluation"]
    assert all(np.isfinite(r.get("loss", 0.0)) for r in records)


@pytest.mark.parametrize("settings", [{"tokens_per_batch": 30}, {"tokens_per_batch": 30, "accumulation": 2}])
def test_token_budgets(run: Run, settings: dict[str, int], dataset: Dataset) -> None:
    _, outcome = run(**settings)
    assert outcome.examples == 2 * len(dataset)


class KilledError(Exception):
    """Stands for the process being killed."""


@pytest.mark.parametrize("optimizer", ["adamw", "bert-adam"])
@pytest.mark.parametrize("killed_at", [1, 3, 4])
def test_a_killed_run_goes_on_to_the_same_weights(run: Run, tmp_path: Path, killed_at: int, optimizer: str) -> None:
    """Killed in any epoch, before or after the best one: as if nothing had happened, records and log included."""
    scores = [0.5, 0.9, 0.7, 0.8, 0.6]
    settings = {"epochs": 5, "dropout": 0.1, "optimizer": optimizer}
    expected, outcome = run(iter(scores), **settings)
    log = (tmp_path / "metrics.jsonl").read_text()

    def until_killed() -> Iterator[float]:
        yield from scores[:killed_at]
        raise KilledError

    checkpoints = Checkpoints(tmp_path / "checkpoint", 0.0, "this run")
    with pytest.raises(KilledError):
        run(until_killed(), checkpoints=checkpoints, **settings)
    # The step in which it was killed is not in the checkpoint; it is done again.
    model, resumed = run(iter(scores[killed_at:]), checkpoints=checkpoints, **settings)
    assert torch.equal(weights(model), weights(expected))
    assert (resumed.best, resumed.steps, resumed.examples) == (outcome.best, outcome.steps, outcome.examples)
    assert [r.evaluation for r in resumed.records] == [r.evaluation for r in outcome.records]
    assert (tmp_path / "metrics.jsonl").read_text() == log


def test_a_checkpoint_of_another_run_is_refused(run: Run, tmp_path: Path) -> None:
    run(iter([0.1, 0.2]), checkpoints=Checkpoints(tmp_path / "checkpoint", 0.0, "one"))
    with pytest.raises(CheckpointError, match="another recipe"):
        run(iter([0.1, 0.2]), checkpoints=Checkpoints(tmp_path / "checkpoint", 0.0, "two"))


@pytest.mark.parametrize("number", [None, 1, 3])
def test_a_checkpoint_of_another_version_is_refused_in_one_line(run: Run, tmp_path: Path, number: int | None) -> None:
    checkpoints = Checkpoints(tmp_path / "checkpoint", 0.0, "one")
    run(iter([0.1, 0.2]), checkpoints=checkpoints)
    path = tmp_path / "checkpoint" / "state.json"
    content = json.loads(path.read_text())
    del content["format"]
    path.write_text(json.dumps(content if number is None else {**content, "format": number}))
    with pytest.raises(CheckpointError, match=r"another version of doctune.*start again with a new --output$") as error:
        run(iter([0.1, 0.2]), checkpoints=checkpoints)
    assert "\n" not in str(error.value)


def test_no_checkpoint_before_its_time(run: Run, tmp_path: Path) -> None:
    run(checkpoints=Checkpoints(tmp_path / "checkpoint", 60.0, "one"))
    assert not (tmp_path / "checkpoint").exists()


def test_batches_made_ahead_are_the_same(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a GPU has it: the same weights in the end, the same position in a checkpoint, and nothing beyond the end."""
    plain, outcome = run(epochs=2)
    monkeypatch.setattr(loop, "ASYNCHRONOUS", ("cpu",))
    made: list[int] = []
    monkeypatch.setattr(
        Ahead, "make", lambda self, step, share, make=Ahead.make: (made.append(step), make(self, step, share))
    )
    ahead, _ = run(epochs=2)
    assert torch.equal(weights(plain), weights(ahead))
    assert made == list(range(outcome.steps))


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_patience_is_over_after_so_many_validations_in_a_row(run: Run, patience: int) -> None:
    """Of any scores: one that is better begins the count anew."""
    random = np.random.default_rng(patience)
    lengths = set()
    for _ in range(4):
        scores = np.round(random.random(8) + np.arange(8) / 12, 1).tolist()
        expected, best, without = len(scores), -1.0, 0
        for number, score in enumerate(scores):
            best, without = (score, 0) if score > best else (best, without + 1)
            if without == patience:
                expected = number + 1
                break
        _, outcome = run(iter(scores), epochs=8, batch_size=20, patience=patience)
        assert len(outcome.records) == expected
        lengths.add(expected)
    assert len(lengths) > 1


def test_every_process_and_every_step_drops_places_of_its_own(
    tiny_encoder: Path, dataset: Dataset, collator: Collator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of the random numbers at the beginning of each step, by process; the same in a second run."""
    monkeypatch.setattr(World, "all_reduce", lambda self, tensor: tensor)
    monkeypatch.setattr(World, "sum_gradients", lambda *arguments: None)
    loaded = load_encoder(tiny_encoder, EncoderSettings(encoder="x"), (-1,))
    model = build_classifier(loaded, "mean", "concat", 2)

    def seeds(world: World, seed: int) -> list[int]:
        begun: list[int] = []
        losses = type(model).losses

        def spied(self: Classifier, batch: object) -> object:
            begun.append(torch.initial_seed())
            return losses(self, batch)

        run = make_run(model, dataset, collator, TrainingSettings(epochs=1, batch_size=4), seed)
        with monkeypatch.context() as patched:
            patched.setattr(type(model), "losses", spied)
            train(replace(run, world=world), None, MetricsLog(tmp_path / "metrics.jsonl"))
        return begun

    runs = [seeds(World(rank, size), seed) for rank, size in ((0, 1), (0, 2), (1, 2)) for seed in (1, 2)]
    assert all(len(begun) == 5 for begun in runs)
    assert len({seed for begun in runs for seed in begun}) == 5 * len(runs)
    assert seeds(World(1, 2), 2) == runs[-1]
