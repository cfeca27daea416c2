"""The sections of the report of a pre-training run."""
