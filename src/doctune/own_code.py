"""Classes of one's own in a Python file, named as `my_file.py:MyClass`: a reader, a pooling, a schedule, ...

This runs the file. So a name of that form is taken from the user's own flags, keywords and config files, and from
nowhere else: whoever reads an artefact (a model's folder, a checkpoint) must refuse it there.
"""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType

from doctune.config import did_you_mean
from doctune.errors import ConfigError

MARK = ".py:"
_loaded: dict[tuple[Path, str], ModuleType] = {}


def is_place(name: str) -> bool:
    """Whether the name says a file and a class in it."""
    return MARK in name


def load_class(place: str, setting: str) -> type:
    """The class that `my_file.py:MyClass` names; errors inside the file come as they are.

    `setting` is what gave the name, for the message of the `ConfigError` if there is no such file or class. A file is
    run once, and again when its text has changed.
    """
    file, _, class_name = place.rpartition(":")
    path = Path(file).expanduser()
    if not path.is_file():
        raise ConfigError(f"{setting}: {file}: no such Python file")
    module = _module(path)
    own_class = getattr(module, class_name, None)
    if not inspect.isclass(own_class):
        classes = [
            key for key, value in vars(module).items() if inspect.isclass(value) and value.__module__ == module.__name__
        ]
        hint = did_you_mean(class_name, classes) if classes else "; there is no class in it"
        raise ConfigError(f"{setting}: {file} has no class {class_name!r}{hint}")
    return own_class


def file_hash(place: str) -> str:
    """SHA-256 of the file that `my_file.py:MyClass` names: what a run with it is known by, beside its settings."""
    return hashlib.sha256(Path(place.rpartition(":")[0]).expanduser().read_bytes()).hexdigest()


def _module(path: Path) -> ModuleType:
    key = (path.resolve(), hashlib.sha256(path.read_bytes()).hexdigest())
    if key not in _loaded:
        name = f"doctune_own_{path.stem}"
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec is not None  # since the name ends in .py
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up here
        spec.loader.exec_module(module)
        _loaded[key] = module
    return _loaded[key]
