"""Component types: from ``state.sqlite`` in YAML to the class that keeps the promise.

A built-in type is the path of its module in ``pillion_components``: the first segment is the
folder and the kind, the rest is the file, so ``secretstores.local.file`` is
``secretstores/local_file.py``. Other distributions add types with entry points in the group
``pillion.components``, named by the type: ``"state.acme" = "acme_pillion:AcmeState"``. They add to
the built-in types and never replace one.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING

from pillion.errors import Invalid
from pillion.kinds.component import Component
from pillion.nearest import did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "pillion.components"
_PACKAGE = "pillion_components"

_HYPHENATED = {"in_memory": "in-memory", "nats_kv": "nats-kv"}
"""Types join words with dots but for these."""


def find(type_name: str) -> type[Component]:
    """Return the class of a component type.

    Raises:
        Invalid: nothing has this type, or its module cannot be imported.
    """
    module = _built_in().get(type_name)
    if module is not None:
        return _class_in(type_name, _import(type_name, module))
    point = _third_party().get(type_name)
    if point is not None:
        return _load(type_name, point)
    raise Invalid(_unknown(type_name))


def types(kind: str | None = None) -> tuple[str, ...]:
    """Return the known types in order, of one kind or of all; imports no component."""
    names = sorted({*_built_in(), *_third_party()})
    return tuple(name for name in names if kind is None or name.split(".", 1)[0] == kind)


def known(kind: str) -> tuple[type[Component], ...]:
    """Return the classes of all types of ``kind``, such as ``state``, in the order of types.

    Raises:
        Invalid: a module cannot be imported.
    """
    return tuple(find(name) for name in types(kind))


@cache
def _built_in() -> dict[str, str]:
    package = importlib.import_module(_PACKAGE)
    found = {}
    for kind in pkgutil.iter_modules(package.__path__):
        if not kind.ispkg or kind.name.startswith("_"):
            continue
        folder = importlib.import_module(f"{_PACKAGE}.{kind.name}")
        for module in pkgutil.iter_modules(folder.__path__):
            if not module.name.startswith("_"):
                name = _HYPHENATED.get(module.name, module.name.replace("_", "."))
                found[f"{kind.name}.{name}"] = f"{_PACKAGE}.{kind.name}.{module.name}"
    return found


@cache
def _third_party() -> dict[str, EntryPoint]:
    # 70 ms of a start that may need nothing but built-in types.
    from importlib.metadata import entry_points

    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=GROUP):
        other = found.get(point.name)
        if other is not None and other.value != point.value:
            raise Invalid(
                f"component type {point.name} is offered by both {other.value} and {point.value}; "
                "uninstall one of them"
            )
        found[point.name] = point
    return found


def _import(type_name: str, module: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise Invalid(f"component type {type_name} cannot be used here: {error}") from error


def _class_in(type_name: str, module: ModuleType) -> type[Component]:
    classes = [
        value
        for name, value in vars(module).items()
        if _is_component(value) and value.__module__ == module.__name__ and name[0] != "_"
    ]
    if len(classes) != 1:
        raise Invalid(
            f"component type {type_name}: the module {module.__name__} defines {len(classes)} "
            "component classes and must define one"
        )
    component: type[Component] = classes[0]
    return component


def _load(type_name: str, point: EntryPoint) -> type[Component]:
    try:
        component = point.load()
    except (ImportError, AttributeError) as error:
        raise Invalid(
            f"component type {type_name} cannot be loaded from {point.value}: {error}"
        ) from error
    if not _is_component(component):
        raise Invalid(f"component type {type_name}: {point.value} is not a component class")
    loaded: type[Component] = component
    return loaded


def _is_component(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, Component) and not inspect.isabstract(value)


def _unknown(type_name: str) -> str:
    hint = did_you_mean(type_name, types())
    if hint:
        return f"unknown component type {type_name}{hint}"
    kind = type_name.split(".", 1)[0]
    choices = types(kind) or types()
    return f"unknown component type {type_name}; known are {', '.join(choices)}"


__all__ = ["GROUP", "find", "known", "types"]
