"""YAML read field by field, every value checked, every mistake with its place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NoReturn, cast

import yaml
from yaml.constructor import SafeConstructor

from pillion.config.source import Source
from pillion.errors import Invalid
from pillion.nearest import did_you_mean

_TAG = "tag:yaml.org,2002:"
_TEXT = ("str", "int", "float", "bool", "timestamp")
_KINDS = {
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "timestamp": "a date",
    "null": "nothing",
    "map": "a mapping",
    "seq": "a list",
}


def compose(source: Source) -> yaml.Node:
    """Return the only document of a file.

    Raises:
        Invalid: it is no YAML, or empty.
    """
    try:
        node = yaml.compose(source.text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        place = f"{source.name}:{mark.line + 1}" if mark else source.name
        raise Invalid(f"{place}: {error.problem or error.context}") from None
    if node is None:
        raise Invalid(f"{source.name}: is empty")
    return node


def fail(source: Source, node: yaml.Node, problem: str) -> NoReturn:
    """Raise Invalid with the place of ``node``."""
    raise Invalid(f"{source.name}:{node.start_mark.line + 1}: {problem}")


class Fields:
    """One mapping of the file.

    Args:
        source: the file.
        node: the mapping.
        known: the names of its fields.

    Raises:
        Invalid: it is no mapping, has a field twice or one that is not known.
    """

    def __init__(self, source: Source, node: yaml.Node, known: Iterable[str]) -> None:
        self.node = node
        self._source = source
        self._values: dict[str, yaml.Node] = {}
        known = list(known)
        for name, key, value in self._pairs("this", node):
            if name not in known:
                self.fail(key, f"there is no field {name!r} here{did_you_mean(name, known)}")
            if _kind(value) != "null":
                self._values[name] = value

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __getitem__(self, name: str) -> yaml.Node:
        return self._values[name]

    def names(self) -> list[str]:
        """Return the fields that have a value."""
        return list(self._values)

    def fail(self, node: yaml.Node, problem: str) -> NoReturn:
        """Raise Invalid with the place of ``node``."""
        fail(self._source, node, problem)

    def text(self, name: str) -> str:
        """Return a scalar as it is written; numbers and switches are text here, too."""
        return self._text(name, self[name])

    def number(self, name: str) -> int:
        """Return a whole number."""
        node = self._checked(name, self[name], "int")
        try:
            return int(yaml.safe_load(str(node.value)))
        except ValueError:
            self.fail(node, f"{name} must be a whole number, and is {_described(node)}")

    def switch(self, name: str) -> bool:
        """Return true or false."""
        node = self._checked(name, self[name], "bool")
        return bool(SafeConstructor.bool_values[str(node.value).lower()])

    def texts(self, name: str) -> list[str]:
        """Return a list of texts."""
        node = self._checked(name, self[name], "seq")
        return [self._text(f"{name}[{at}]", item) for at, item in enumerate(node.value)]

    def nodes(self, name: str) -> list[yaml.Node]:
        """Return a list of whatever it is."""
        return list(self._checked(name, self[name], "seq").value)

    def mapping(self, name: str) -> dict[str, str]:
        """Return names and texts; no value is an empty text."""
        return {
            word: "" if _kind(value) == "null" else self._text(f"{name}.{word}", value)
            for word, _, value in self._pairs(name, self[name])
        }

    def _text(self, name: str, node: yaml.Node) -> str:
        return str(self._checked(name, node, *_TEXT).value)

    def _checked(self, name: str, node: yaml.Node, *kinds: str) -> yaml.Node:
        if _kind(node) not in kinds:
            self.fail(node, f"{name} must be {_KINDS[kinds[0]]}, and is {_described(node)}")
        return node

    def _pairs(self, name: str, node: yaml.Node) -> list[tuple[str, yaml.Node, yaml.Node]]:
        """Return each name with its place and its value, ``<<`` merged in."""
        self._checked(name, node, "map")
        seen: set[str] = set()
        for key, _ in node.value:
            if _kind(key) != "merge" and str(key.value) in seen:
                self.fail(key, f"{key.value} is there twice")
            seen.add(str(key.value))
        try:
            SafeConstructor().flatten_mapping(cast("yaml.MappingNode", node))
        except yaml.MarkedYAMLError as error:
            self.fail(node, str(error.problem))
        pairs = {self._text("a name", key): (key, value) for key, value in node.value}
        return [(word, key, value) for word, (key, value) in pairs.items()]


def _kind(node: yaml.Node) -> str:
    return str(node.tag).removeprefix(_TAG)


def _described(node: yaml.Node) -> str:
    kind = _KINDS.get(_kind(node), _kind(node))
    return f"{kind} ({node.value})" if isinstance(node, yaml.ScalarNode) and node.value else kind
