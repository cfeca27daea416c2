"""Random numbers as pure functions of where they are used, so that a resumed run draws what the first one did."""

from __future__ import annotations

import hashlib

import numpy as np


def derive(seed: int, *path: str | int) -> int:
    """A 63-bit seed for one place, for instance `derive(seed, "order", epoch)`."""
    digest = hashlib.sha256(repr((seed, *path)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(seed: int, *path: str | int) -> np.random.Generator:
    """A NumPy generator for one place."""
    return np.random.default_rng(derive(seed, *path))
