"""Readers: from files on disk to `Example`s.

A data set of your own is one class with `labels` and `read(path, split)`, named as `dataset = "my_file.py:MyReader"`.
"""

from __future__ import annotations

from doctune.readers.base import Reader, Source
from doctune.readers.datasets import DATASETS, Dataset, dataset_reader
from doctune.readers.sources import open_source, sources

__all__ = ["DATASETS", "Dataset", "Reader", "Source", "dataset_reader", "open_source", "sources"]
