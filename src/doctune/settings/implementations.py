"""From the name of a component to the class that does the work, and to an object of it.

A class of the user's own is found by its place, `my_file.py:MyClass`, or among `own`, the classes that were given
where an artefact only has the name. What is half wired is refused here, before anything is read or trained.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from doctune.config import Settings
from doctune.errors import ConfigError
from doctune.own_code import file_hash, is_place, load_class
from doctune.settings.choices import Section
from doctune.settings.components import KINDS, NAME, OPTIONS, Component, Kind, LinearSettings, PoolerSettings

Own = Sequence[type]
SEVERAL = ("places", "numbers", "tokens", "cuts")
"""What a truncation has, beside `windows`, if it reads a document in several."""


def own_classes(components: str | type | Iterable[str | type] | None) -> tuple[type, ...]:
    """Classes of the user's own, given as such or as `my_file.py:MyClass`; a single one need not be in a list."""
    classes = []
    for one in (components,) if isinstance(components, (str, type)) else components or ():
        if not isinstance(one, (str, type)):
            raise ConfigError(f"components: give classes, or my_file.py:MyClass, found {one!r}")
        if isinstance(one, str) and not is_place(one):
            raise ConfigError(f"components: give my_file.py:MyClass, found {one!r}")
        classes.append(load_class(one, "components") if isinstance(one, str) else one)
    return tuple(classes)


def implementation(setting: str, name: str, own: Own = ()) -> type:
    """The class that does the work of a component; `ConfigError` if it is not there, or lacks what its kind needs."""
    kind = KINDS[setting]
    component = kind.component(name)
    if component is not None:
        module, _, class_name = component.made_by.partition(":")
        try:
            found: type = getattr(importlib.import_module(module), class_name)
        except (ImportError, AttributeError) as error:
            raise ConfigError(
                f"{kind.place}: {name} is to be {component.made_by}, which is not there: {error}"
            ) from None
        check_class(kind, found, f"{kind.place}: {name}", component)
        return found
    if is_place(name):
        found = load_class(name, kind.place)
        check_class(kind, found, f"{kind.place}: {name}")
        return found
    for one in own:
        if getattr(one, "name", None) == name:
            check_class(kind, one, f"{kind.place}: {name}")
            return one
    raise ConfigError(
        f"{kind.place}: {name!r} is no part of doctune; if it is a class of your own, give it: --components "
        f"my_file.py:MyClass, or doctune.load(folder, components=[MyClass])"
    )


def own_files(settings: Settings) -> list[str]:
    """The hashes of the user's own files that settings name: what a run is known by, beside the settings."""
    chosen: set[str] = set()
    for name, value in settings:
        if isinstance(value, Settings):
            chosen.update(own_files(value))
        elif name in KINDS and isinstance(value, str) and is_place(value):
            chosen.add(file_hash(value))
    return sorted(chosen)


def stored_name(setting: str, name: str) -> str:
    """The name that an artefact holds: never the place of a class, but the name that the class has."""
    if not is_place(name):
        return name
    own_name: str = getattr(implementation(setting, name), "name")  # noqa: B009
    return own_name


def reads_windows(truncation: str, own: Own = ()) -> bool:
    """Whether documents may be several windows with this truncation."""
    return all(hasattr(implementation("truncation", truncation, own), method) for method in SEVERAL)


def component_settings(setting: str, section: Section, own: Own = ()) -> Settings | None:
    """The settings of the chosen component, from its section; None for a class of one's own that has none.

    Raises `ConfigError` where what was given for a class of one's own is not what its `Settings` allow.
    """
    kind = KINDS[setting]
    name = getattr(section, setting)
    options = getattr(section, f"{setting}{OPTIONS}") or {}
    component = kind.component(name)
    if component is not None:
        return component(**section.values_for(component), **options)
    own_settings = getattr(implementation(setting, name, own), "Settings", None)
    if own_settings is None:
        if options:
            raise ConfigError(
                f"{kind.place}{OPTIONS}: {name} has no settings, since its class has no Settings; leave them out"
            )
        return None
    try:
        made: Settings = own_settings.build(options)
    except ConfigError as error:
        raise ConfigError(f"{kind.place}{OPTIONS}.{error}") from None
    return made


@dataclass(frozen=True, slots=True)
class Part:
    """A component that was chosen: the class that does the work, and its settings, if it has any.

    `chosen_by` is the setting and what it says, for messages; `is_own`: the class is the user's own.
    """

    made_of: type
    settings: Settings | None = None
    chosen_by: str = ""
    is_own: bool = False

    def make(self, **given: Any) -> Any:
        """An object of the class, from what its constructor asks for by name.

        That may be what the kind gives (`given`), a setting of its own, or all of these as `settings`.
        """
        offered = {**given, **dict(self.settings or ()), "settings": self.settings}
        return self.made_of(**{name: offered[name] for name in _arguments(self.made_of) if name in offered})


def choose(setting: str, section: Section | str, own: Own = ()) -> Part:
    """The component that a section of settings chooses, or the one of that name with its default settings."""
    if isinstance(section, str):
        component = KINDS[setting].component(section)
        return Part(implementation(setting, section, own), None if component is None else component())
    kind, name = KINDS[setting], getattr(section, setting)
    return Part(
        implementation(setting, name, own), component_settings(setting, section, own), f"{kind.place}: {name}",
        kind.component(name) is None,
    )  # fmt: skip


def chosen_parts(settings: Settings) -> dict[str, Part]:
    """The components that all sections of a run's settings choose, by setting; none where a mere word stands."""
    parts: dict[str, Part] = {}
    for setting, kind in KINDS.items():
        section = getattr(settings, kind.section, None)
        if isinstance(section, Section) and getattr(section, setting) not in kind.words:
            parts[setting] = choose(setting, section)
    return parts


def check_class(kind: Kind, made_of: type, where: str, component: type[Component] | None = None) -> None:
    """Whether a class has all that its kind needs; one line says what is missing.

    `component` is doctune's, None for a class of the user's own, which must bring a name.
    """
    if component is LinearSettings:  # it reads no tokens: the last layer is all there is
        return
    if component is None:
        _check_name(kind, made_of, where)
    missing = [method for method in kind.methods if not _has(made_of, method)]
    if missing:
        raise ConfigError(f"{where} has no method {', '.join(missing)}; docs/extending.md says what it must do")
    if kind.setting == "truncation":
        several = [method for method in SEVERAL if _has(made_of, method)]
        if several and len(several) < len(SEVERAL):
            lacking = ", ".join(method for method in SEVERAL if method not in several)
            raise ConfigError(f"{where} has {', '.join(several)}, so it reads several windows, but no {lacking}")
    own_settings = getattr(made_of, "Settings", None) if component is None else component
    if own_settings is not None and not (isinstance(own_settings, type) and issubclass(own_settings, Settings)):
        raise ConfigError(f"{where}: its Settings must be a class made from doctune.config.Settings")
    if component is PoolerSettings:  # it is the encoder's, or drawn like it
        return
    fields = () if own_settings is None else tuple(own_settings.model_fields)
    offered = {*kind.arguments, *fields, "settings"}
    asked = [name for name, needed in _arguments(made_of).items() if needed and name not in offered]
    if asked:
        raise ConfigError(
            f"{where} asks for {', '.join(asked)} when it is made; there is {', '.join((*kind.arguments, *fields))}"
            f"{', ' if kind.arguments or fields else ''}settings"
        )


def _check_name(kind: Kind, made_of: type, where: str) -> None:
    name = getattr(made_of, "name", None)
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ConfigError(
            f'{where} needs a name, by which a saved model knows it: name = "my-name" in the class, found {name!r}'
        )
    if kind.component(name) is not None or name in kind.words:
        raise ConfigError(f"{where} has the name {name!r}, which doctune has itself; give it another name")


def _has(made_of: type, method: str) -> bool:
    if method == "__call__":  # every class can be called itself
        return any(method in vars(one) for one in made_of.__mro__)
    its_own = getattr(made_of, method, None)
    # Every module of PyTorch has a `forward`, which only fails.
    return callable(its_own) and getattr(its_own, "__name__", "") != "_forward_unimplemented"


def _arguments(made_of: type) -> dict[str, bool]:
    """The names that a constructor asks for, and whether it must be given each."""
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = inspect.signature(made_of).parameters.values()
    return {one.name: one.default is inspect.Parameter.empty for one in parameters if one.kind in named}
