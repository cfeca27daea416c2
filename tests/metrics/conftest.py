"""Metrics of a random classifier."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from doctune.metrics.single import Metrics, compute


@pytest.fixture
def metrics() -> Callable[..., Metrics]:
    """Makes the metrics of so many classes and documents, of which about this share is answered rightly."""

    def make(size: int, count: int, accuracy: float) -> Metrics:
        rng = np.random.default_rng(0)
        labels = rng.integers(0, size, count)
        answers = np.where(rng.random(count) < accuracy, labels, (labels + 1) % size)
        probabilities = rng.dirichlet(np.full(size, 0.3), count)
        probabilities[np.arange(count), answers] += 1.2
        return compute(probabilities / probabilities.sum(axis=1, keepdims=True), labels, tuple(map(str, range(size))))

    return make
