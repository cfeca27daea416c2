"""From logits to losses and probabilities."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from doctune.heads.links import LINKS, Softmax


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, [0.5, 2.0, 1.0]])
def test_loss_is_pytorchs_mean(smoothing: float, weights: list[float] | None) -> None:
    link = Softmax(None if weights is None else torch.tensor(weights), smoothing)
    logits, labels = torch.randn(10, 3), torch.randint(0, 3, (10,))
    loss = link.loss(logits, labels)
    expected = cross_entropy(logits, labels, link.class_weights, label_smoothing=smoothing)
    torch.testing.assert_close(loss.sum / loss.count, expected)
    assert float(loss.count) == pytest.approx(link.count(labels))


@pytest.mark.parametrize("name", LINKS)
def test_sums_of_parts_are_the_sum_of_the_whole(name: str) -> None:
    link = LINKS[name](torch.tensor([0.5, 2.0, 1.0]), 0.1)
    logits, labels = torch.randn(10, 3), torch.randint(0, 3, (10,))
    parts = [link.loss(logits[rows], labels[rows]) for rows in (slice(4), slice(4, 10))]
    whole = link.loss(logits, labels)
    torch.testing.assert_close(parts[0].sum + parts[1].sum, whole.sum)
    torch.testing.assert_close(parts[0].count + parts[1].count, whole.count)


def test_probabilities_add_up_and_keep_the_order() -> None:
    logits = torch.randn(20, 5, dtype=torch.bfloat16) * 30
    probabilities = Softmax().probabilities(logits)
    assert probabilities.dtype == torch.float64
    torch.testing.assert_close(probabilities.sum(1), torch.ones(20, dtype=torch.float64))
    assert torch.equal(probabilities.gather(1, logits.argmax(1, keepdim=True)).squeeze(1), probabilities.amax(1))
    torch.testing.assert_close(probabilities.log(), logits.double().log_softmax(1))
