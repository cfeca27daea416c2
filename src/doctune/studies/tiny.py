"""Encoders for the smoke scale: untrained, tiny, and made here from the embedded documents."""

from __future__ import annotations

from pathlib import Path

import filelock

from doctune.encoders.scratch import bert_config, new_bert
from doctune.files import atomic_folder, no_space_is_one_line
from doctune.readers.pydocs import INSTALLED, PyDocsReader
from doctune.text.vocabulary import train_vocabulary

SIZES = {"tiny": 4, "tiny-large": 6}
"""Names and their numbers of layers."""
VOCABULARY, WIDTH, POSITIONS, TEXTS_PER_LIBRARY, SEED = 1500, 32, 128, 60, 1


def tiny_encoder(name: str, cache: Path) -> Path:
    """The folder of one of `SIZES`, made where it is missing."""
    folder = cache / "encoders" / name
    with no_space_is_one_line(cache):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with filelock.FileLock(f"{folder}.lock"):
        if not folder.is_dir():
            reader = PyDocsReader(train_per_library=TEXTS_PER_LIBRARY)
            with atomic_folder(folder) as made:
                texts = (example.text for example in reader.read(Path(INSTALLED), "train"))
                tokenizer = train_vocabulary(texts, VOCABULARY, made)
                new_bert(made, bert_config(tokenizer.size, SIZES[name], WIDTH, POSITIONS, head_size=16), SEED)
    return folder
