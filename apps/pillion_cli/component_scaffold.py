"""A package with a working component, for somebody to go on from."""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path
from string import Template

from pillion import registry
from pillion.errors import Invalid, Unavailable
from pillion.kinds.index import KINDS
from pillion.nearest import did_you_mean

_NAME = re.compile(r"[a-z][a-z0-9]*([.-][a-z0-9]+)*")
_CONFTESTS = {"secretstores": "conftest_secretstores.py"}
"""Where the tests must set something up."""


def write(kind: str, name: str, folder: Path | None) -> Path:
    """Write the package and return its folder.

    Args:
        kind: first segment of the type, such as ``state``.
        name: the rest of the type.
        folder: where; None for ``pillion-<kind>-<name>`` in the working folder.

    Raises:
        Invalid: the kind is not known, the name is not one, or the type or folder is there.
        Unavailable: the folder cannot be written.
    """
    if kind not in KINDS:
        kinds = f"kinds are {', '.join(KINDS)}"
        raise Invalid(f"there is no kind {kind!r}{did_you_mean(kind, KINDS)}; {kinds}")
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is no name: lower-case letters, digits, and - or . between them")
    type_name = f"{kind}.{name}"
    if type_name in registry.types(kind):
        raise Invalid(f"the component type {type_name} is there already")
    words = re.split("[.-]", name)
    module = "_".join(["pillion", kind, *words])
    target = folder or Path("-".join(["pillion", kind, *words]))
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        raise Invalid(f"{target} is there already and not empty")
    values = {
        "type": type_name,
        "kind": kind,
        "kind_module": KINDS[kind].promise.__module__.rpartition(".")[2],
        "class_name": "".join(word.capitalize() for word in words) + KINDS[kind].promise.__name__,
        "distribution": "-".join(["pillion", kind, *words]),
        "module": module,
        "requirement": "_".join(words),
        "default_name": KINDS[kind].default_name,
    }
    try:
        for place, template in {
            "pyproject.toml": "pyproject.toml",
            "README.md": "README.md",
            f"{module}/__init__.py": f"{kind}.py",
            f"{module}/py.typed": "",
            "tests/conftest.py": _CONFTESTS.get(kind, "conftest.py"),
            f"tests/test_{kind}.py": "test.py",
        }.items():
            path = target / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_filled(template, values) if template else "", encoding="utf-8")
    except OSError as error:
        raise Unavailable(f"{target} cannot be written: {error.strerror or error}") from None
    return target


def _filled(template: str, values: dict[str, str]) -> str:
    text = (files("pillion_cli") / "scaffold" / f"{template}.txt").read_text(encoding="utf-8")
    return Template(text).substitute(values)
