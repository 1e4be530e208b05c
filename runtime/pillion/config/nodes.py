"""What a YAML document becomes: Python values that remember where they were written.

A mapping is a ``Table``, a sequence is ``Items``, a quoted or block scalar is a ``str``, an empty
scalar, ``~`` or ``null`` is None, and every other unquoted scalar is ``Plain``: its text, to be
read by whoever knows what belongs there.

Who asks for text gets the characters as written: ``version: 1.10`` is ``1.10`` and
``answer: no`` is ``no``. Who asks for a boolean may be given ``true``, ``yes``, ``on``, ``y`` and
their opposites, as Go's YAML readers take them. Where nothing is known (free-form settings) only
``true``, ``false``, ``null`` and numbers are more than text. Numbers may be decimal, ``0x``,
``0o`` or ``0b`` with ``_`` between digits; one with a leading zero is octal to one reader of YAML
and decimal to the next, so it is no number here. Dates stay text.

Dapr reads resources as YAML 1.1 and hands on values as JSON, so ``value: on`` reaches a component
as ``true`` there and as ``on`` here, and ``value: 1e3`` as ``1000`` there and ``1e3`` here.
"""

from __future__ import annotations

import math
import re
from typing import Any, TypeAlias

from pillion.config.source import Mark

_INTEGER = re.compile(
    r"[-+]?(?:0x[0-9a-fA-F]+(?:_[0-9a-fA-F]+)*|0o[0-7]+(?:_[0-7]+)*|0b[01]+(?:_[01]+)*"
    r"|0|[1-9][0-9]*(?:_[0-9]+)*)"
)
_FLOAT = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = {
    sign + word: (-value if sign == "-" else value)
    for sign in ("", "+", "-")
    for words, value in (((".inf", ".Inf", ".INF"), math.inf), ((".nan", ".NaN", ".NAN"), math.nan))
    for word in words
}
_LONGEST = 40
"""Characters in a number; a longer one stays text."""

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
TRUE = frozenset({"true", "True", "TRUE"})
FALSE = frozenset({"false", "False", "FALSE"})
YES = TRUE | {"y", "Y", "yes", "Yes", "YES", "on", "On", "ON"}
NO = FALSE | {"n", "N", "no", "No", "NO", "off", "Off", "OFF"}


class Plain(str):
    """An unquoted scalar that is not null."""

    __slots__ = ()

    @property
    def flag(self) -> bool | None:
        """The boolean it is where one is asked for, or None."""
        return True if self in YES else False if self in NO else None

    @property
    def integer(self) -> int | None:
        """The integer it is, or None."""
        known = len(self) <= _LONGEST and _INTEGER.fullmatch(self)
        return int(self, 0) if known else None

    @property
    def number(self) -> float | None:
        """The number it is, or None."""
        integer = self.integer
        if integer is not None:
            return integer
        if self in _SPECIAL:
            return _SPECIAL[self]
        known = len(self) <= _LONGEST and _FLOAT.fullmatch(self)
        return float(self) if known else None

    @property
    def free(self) -> bool | float | str:
        """What it is where nothing is known."""
        if self in TRUE or self in FALSE:
            return self in TRUE
        number = self.number
        return str(self) if number is None else number


class Table(dict[str, "Node"]):
    """A mapping.

    Attributes:
        mark: where it stands.
        keys_at: where each key stands.
        values_at: where each value stands.
    """

    __slots__ = ("keys_at", "mark", "values_at")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.keys_at: dict[str, Mark] = {}
        self.values_at: dict[str, Mark] = {}

    def put(self, key: str, value: Node, key_at: Mark, value_at: Mark) -> None:
        """Set ``key``, over whatever was there."""
        self[key] = value
        self.keys_at[key] = key_at
        self.values_at[key] = value_at

    def spelling(self, name: str, *, ignore_case: bool = True) -> str | None:
        """Return the key that ``name`` was written as, or None."""
        if name in self:
            return name
        if not ignore_case:
            return None
        folded = name.casefold()
        return next((key for key in self if key.casefold() == folded), None)


class Items(list["Node"]):
    """A sequence.

    Attributes:
        mark: where it stands.
        values_at: where each value stands.
    """

    __slots__ = ("mark", "values_at")

    def __init__(self, mark: Mark) -> None:
        super().__init__()
        self.mark = mark
        self.values_at: list[Mark] = []

    def put(self, value: Node, value_at: Mark) -> None:
        """Append ``value``."""
        self.append(value)
        self.values_at.append(value_at)


Node: TypeAlias = Table | Items | str | None
Path: TypeAlias = tuple[str | int, ...]


def plain(node: Node) -> Any:
    """Return ``node`` as dicts, lists and the ``free`` values of its scalars."""
    if isinstance(node, Table):
        return {key: plain(value) for key, value in node.items()}
    if isinstance(node, Items):
        return [plain(value) for value in node]
    return node.free if isinstance(node, Plain) else node


def locate(root: Table, path: Path) -> tuple[Mark, Mark, Node]:
    """Return the marks of the key and the value at ``path``, and the value.

    Names compare without case where they are not found as given; where the path leads out of the
    document, the last thing on it is meant.
    """
    key_at = value_at = root.mark
    node: Node = root
    for step in path:
        if isinstance(node, Table):
            key = node.spelling(str(step))
            if key is None:
                break
            key_at, value_at, node = node.keys_at[key], node.values_at[key], node[key]
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node):
            key_at = value_at = node.values_at[step]
            node = node[step]
        else:
            break
    return key_at, value_at, node


def paths(root: Table) -> dict[int, Path]:
    """Return the first path to each mapping in ``root``, by the mapping's ``id``."""
    found: dict[int, Path] = {}
    waiting: list[tuple[Node, Path]] = [(root, ())]
    while waiting:
        node, path = waiting.pop()
        steps: list[tuple[str | int, Node]] = []
        if isinstance(node, Table) and id(node) not in found:
            found[id(node)] = path
            steps += node.items()
        elif isinstance(node, Items):
            steps += enumerate(node)
        waiting += [(inner, (*path, step)) for step, inner in reversed(steps)]
    return found


def merged(base: Table, over: Table, opaque: frozenset[Path], path: Path = ()) -> Table:
    """Return ``base`` with the fields of ``over`` set over it, mapping by mapping.

    Lists, and the mappings at the paths in ``opaque``, are replaced whole; so is what ``over``
    leaves null not at all.
    """
    result = Table(over.mark)
    for table in (base, over):
        for key, value in table.items():
            here = (*path, key)
            old = result.get(key)
            if table is over and value is None and key in result:
                continue
            if isinstance(old, Table) and isinstance(value, Table) and here not in opaque:
                value = merged(old, value, opaque, here)
            result.put(key, value, table.keys_at[key], table.values_at[key])
    return result
