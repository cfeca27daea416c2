"""What one seed of a fine-tuning says."""

from __future__ import annotations

from doctune.runs.fit import validation_documents


def test_one_document_is_singular() -> None:
    assert validation_documents(1, "choose") == "1 validation document chooses"
    assert validation_documents(12, "choose") == "12 validation documents choose"
    assert validation_documents(1, "tell") == "1 validation document tells"
