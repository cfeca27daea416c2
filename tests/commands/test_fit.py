"""What one seed of a fine-tuning says."""

from __future__ import annotations

from doctune.commands.fit import choosers


def test_one_document_is_singular() -> None:
    assert choosers(1) == "1 validation document chooses"
    assert choosers(12) == "12 validation documents choose"
