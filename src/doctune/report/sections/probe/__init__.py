"""The sections of the page of linear probes."""
