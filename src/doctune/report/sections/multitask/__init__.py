"""The sections of the page of several tasks."""
