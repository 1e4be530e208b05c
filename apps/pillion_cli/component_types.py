"""What component types there are, read off their classes: abilities, keys and prose."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pillion import registry
from pillion.config.metadata import settings_model
from pillion.errors import Failure, Invalid
from pillion.kinds.component import Component
from pillion.kinds.index import KINDS, Kind
from pillion.kinds.settings import Setting, described
from pillion.nearest import did_you_mean

_BUILT_IN = "pillion_components."

_INTRODUCTION = """\
# Components

<!-- Written by `just docs` from the settings of the component classes. -->

Every component type that comes with Pillion, and every metadata key it takes. Keys match without
case. `pillion components` shows the same for what is installed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentType:
    """One type.

    Attributes:
        name: as YAML writes it.
        kind: what it is.
        abilities: names of the mix-ins of its kind, in the order of the kind.
        capabilities: the same as far as Dapr has names for it.
        settings: its own keys.
        text: its documentation.
        origin: the distribution it came with; empty for a built-in one.
        problem: why it cannot be used here; empty when it can.
    """

    name: str
    kind: Kind
    abilities: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()
    settings: tuple[Setting, ...] = ()
    text: str = ""
    origin: str = ""
    problem: str = ""


def all_types() -> list[ComponentType]:
    """Return all types of the kinds that YAML can declare; broken ones say why."""
    return [_described(name, kind) for kind in KINDS.values() for name in registry.types(kind.name)]


def one_type(name: str) -> ComponentType:
    """Return the type called ``name``.

    Raises:
        Invalid: there is none.
    """
    names = [each for kind in KINDS for each in registry.types(kind)]
    if name not in names:
        known = f"known are {', '.join(names)}"
        raise Invalid(f"there is no component type {name}{did_you_mean(name, names)}; {known}")
    return _described(name, KINDS[name.partition(".")[0]])


def _described(name: str, kind: Kind) -> ComponentType:
    try:
        component = registry.find(name)
    except Failure as failure:
        return ComponentType(name=name, kind=kind, problem=failure.message)
    if not issubclass(component, kind.promise):
        problem = f"it is not a {kind.promise.__name__}"
        return ComponentType(name=name, kind=kind, problem=problem)
    return ComponentType(
        name=name,
        kind=kind,
        abilities=abilities_of(kind, component),
        capabilities=tuple(kind.capabilities_of(component)),
        settings=described(settings_model(component)),
        text=_text(component),
        origin="" if component.__module__.startswith(_BUILT_IN) else component.__module__,
    )


def abilities_of(kind: Kind, component: type[Component]) -> tuple[str, ...]:
    """Return the names of the mix-ins of ``kind`` that ``component`` has."""
    promise = kind.promise
    return tuple(
        name
        for name, value in vars(sys.modules[promise.__module__]).items()
        if inspect.isclass(value)
        and issubclass(value, promise)
        and value is not promise
        and issubclass(component, value)
    )


def _text(component: type[Component]) -> str:
    """Return the documentation: that of the module of a built-in type, else that of the class."""
    built_in = component.__module__.startswith(_BUILT_IN)
    documented = sys.modules[component.__module__] if built_in else component
    text = inspect.getdoc(documented) or ""
    return text.replace("``", "`")


# For programs.


def as_json(one: ComponentType) -> dict[str, object]:
    """Return it as JSON values."""
    return {
        "type": one.name,
        "kind": one.kind.name,
        "abilities": list(one.abilities),
        "capabilities": list(one.capabilities),
        "metadata": [_setting_json(each) for each in one.settings],
        "runtimeMetadata": [_setting_json(each) for each in described(one.kind.metadata)],
        "description": one.text,
        "module": one.origin,
        "problem": one.problem,
    }


def _setting_json(one: Setting) -> dict[str, object]:
    return {
        "name": one.name,
        "description": one.text,
        "required": one.default is None,
        "default": one.default,
        "choices": list(one.choices),
        "secret": one.secret,
        "example": one.example,
    }


# For people.


def table(types: Iterable[ComponentType]) -> str:
    """Return a line for each type."""
    rows = [("TYPE", "ABILITIES", "KEYS", "MUST BE THERE")]
    for one in types:
        if one.problem:
            rows.append((one.name, "cannot be used here", "", one.problem))
            continue
        needed = ", ".join(each.name for each in one.settings if each.default is None)
        abilities = ", ".join(one.abilities) or "-"
        rows.append((one.name, abilities, str(len(one.settings)), needed or "-"))
    return f"{_columns(rows)}\n\n`pillion components TYPE` says what its keys are.\n"


def detail(one: ComponentType) -> str:
    """Return everything about one type."""
    parts = [one.text or one.name]
    if one.problem:
        parts.append(f"It cannot be used here: {one.problem}")
    if one.abilities:
        parts.append(f"abilities: {', '.join(one.abilities)}")
    for title, settings in (
        ("metadata", one.settings),
        (f"metadata that the runtime reads of every {one.kind.name} component", _shared(one)),
    ):
        if settings:
            parts.append("\n".join([f"{title}:", *map(_line, settings)]))
    parts.append(f"example:\n\n{_indented(example(one))}")
    return "\n\n".join(parts) + "\n"


def example(one: ComponentType) -> str:
    """Return a resource that declares the type."""
    needed = [each for each in one.settings if each.default is None or each.example]
    lines = [
        "apiVersion: dapr.io/v1alpha1",
        "kind: Component",
        "metadata:",
        f"  name: {one.kind.default_name}",
        "spec:",
        f"  type: {one.name}",
        "  version: v1",
    ]
    if needed:
        lines.append("  metadata:")
    for each in needed:
        value = each.example or (each.choices[0] if each.choices else "...")
        lines += [f"  - name: {each.name}", f'    value: "{value}"']
    return "\n".join(lines)


def _shared(one: ComponentType) -> tuple[Setting, ...]:
    own = {each.name for each in one.settings}
    return tuple(each for each in described(one.kind.metadata) if each.name not in own)


def _line(one: Setting) -> str:
    facts = _facts(one)
    return f"  {one.name}\n      {one.text}{f' ({facts})' if facts else ''}"


def _facts(one: Setting) -> str:
    facts = ["must be there"] if one.default is None else []
    if one.choices:
        facts.append(f"one of {', '.join(one.choices)}")
    if one.default:
        facts.append(f"default {one.default}")
    if one.secret:
        facts.append("secret")
    return "; ".join(facts)


def _indented(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())


def _columns(rows: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


# For the documentation.


def markdown(types: Sequence[ComponentType]) -> str:
    """Return the reference page of the built-in types."""
    lines = [_INTRODUCTION]
    for kind in KINDS.values():
        found = [one for one in types if one.kind is kind and not one.origin]
        embedded = f"`{kind.default_name}`, a `{kind.default_type}` with its defaults"
        lines += ["", f"## {kind.title}", "", f"Without a declared one the runtime has {embedded}."]
        shared = described(kind.metadata)
        if shared:
            lines += ["", "The runtime itself reads of each of them:", "", *_rows(shared)]
        for one in found:
            lines += ["", f"### `{one.name}`", "", one.text]
            if one.abilities:
                lines += ["", f"Abilities: {', '.join(one.abilities)}."]
            lines += ["", *(_rows(one.settings) if one.settings else ["It takes no metadata."])]
    return "\n".join(lines) + "\n"


def _rows(settings: Iterable[Setting]) -> list[str]:
    rows = ["| key | default | what it is |", "|---|---|---|"]
    for one in settings:
        default = "must be there" if one.default is None else f"`{one.default}`"
        text = one.text
        if one.choices:
            text += f": {', '.join(f'`{each}`' for each in one.choices)}"
        if one.secret:
            text += " (secret)"
        shown = "" if one.default == "" else default
        cells = (f"`{one.name}`", shown, text.replace("``", "`"))
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return rows
