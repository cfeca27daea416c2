"""The exception tree.

    DoctuneError
    └── UserError            the command line prints it as one line and exits with 2
        ├── ConfigError      a setting: unknown, out of range, contradicting another
        ├── DataError        a data file: missing, undecodable, ragged, wrong column or label
        ├── CheckpointError  an encoder or model folder: missing parts, unsafe, not fitting
        └── TrainingError    training had to stop: a loss that is not finite, no space left

A message says where (dotted setting or file:line), what was found, what is allowed and what to do.
"""

from __future__ import annotations


class DoctuneError(Exception):
    """Base of every error that doctune raises on purpose."""


class UserError(DoctuneError):
    """Something the user can mend; shown as one line, without a traceback."""


class ConfigError(UserError):
    """A setting is unknown, out of range or contradicts another one."""


class DataError(UserError):
    """A data file cannot be read or does not fit the task."""


class CheckpointError(UserError):
    """An encoder or model folder is incomplete, unsafe or does not fit."""


class TrainingError(UserError):
    """Training had to stop; nothing that was saved before is lost."""
