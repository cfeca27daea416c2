"""The sections of the report of a run of fine-tuning."""
