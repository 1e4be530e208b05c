"""YAML documents, read from parser events into nodes that know their positions.

Reading events (rather than PyYAML's own tree) is what lets depth, size and alias expansion be
bounded while the document is read, and duplicate keys be seen at all.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from pillion.config.nodes import NULLS, Items, Node, Plain, Table
from pillion.config.source import Mark, Source, SyntaxProblem

MAX_DEPTH = 64
"""Mappings and sequences inside one another."""

MAX_NODES = 100_000
"""Keys, scalars, mappings and sequences in one file; an alias counts as what it repeats."""

_CORE = "tag:yaml.org,2002:"
_READ_AS_PLAIN = frozenset(_CORE + name for name in ("int", "float", "bool", "null"))
_SCALARS = _READ_AS_PLAIN | {_CORE + "str", _CORE + "timestamp", "!"}
_MERGE = "<<"
_SURROGATE = re.compile("[\ud800-\udfff]")


def documents(source: Source) -> Iterator[Node]:
    """Yield the root of each document in ``source``; None for an empty one.

    Raises:
        SyntaxProblem: the rest of the file cannot be read. Documents before it were yielded.
    """
    import yaml  # 20 ms that a runtime without any YAML does not spend

    builder = _Builder(source)
    try:
        for event in yaml.parse(source.text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader)):
            if isinstance(event, yaml.NodeEvent):
                builder.add(event)
            elif isinstance(event, yaml.CollectionEndEvent):
                builder.close(event)
            elif isinstance(event, yaml.DocumentEndEvent):
                yield builder.finish()
    except yaml.MarkedYAMLError as error:
        place = error.problem_mark or error.context_mark
        problem = ", ".join(part for part in (error.context, error.problem) if part)
        mark = source.mark(min(place.index, len(source.text)) if place else 0)
        raise SyntaxProblem(f"is not YAML: {problem}", mark) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        # PyYAML's own scanner lets chr() fail on escapes beyond Unicode.
        raise SyntaxProblem(f"is not YAML: {type(error).__name__}", source.mark(0)) from None


class _Open:
    """A mapping or sequence that is being read."""

    __slots__ = ("anchor", "height", "key", "key_at", "merges", "merging", "nodes", "value")

    def __init__(self, value: Table | Items, anchor: str | None, nodes: int) -> None:
        self.value = value
        self.anchor = anchor
        self.nodes = nodes
        self.height = 1
        self.key: str | None = None
        self.key_at = value.mark
        self.merging = False
        self.merges: list[tuple[Node, Mark]] = []

    @property
    def expects_key(self) -> bool:
        return isinstance(self.value, Table) and self.key is None


class _Anchored(NamedTuple):
    """What an alias repeats: a node, how many it is in all, and how deep."""

    value: Node
    nodes: int
    height: int


class _Builder:
    """Makes nodes of events, one document after the other."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stack: list[_Open] = []
        self._anchors: dict[str, _Anchored | None] = {}
        self._nodes = 0
        self._root: Node = None

    def add(self, event: Any) -> None:
        """Take a scalar, an alias, or the start of a mapping or sequence."""
        name = type(event).__name__
        mark = self._source.mark(event.start_mark.index, event.end_mark.index)
        if name == "AliasEvent":
            self._alias(event.anchor, mark)
        elif name == "ScalarEvent":
            self._scalar(event, mark)
        else:
            self._check_tag(event.tag, frozenset({_CORE + "map", _CORE + "seq", "!"}), mark)
            self._check_depth(1, mark)
            if self._expects_key():
                raise SyntaxProblem("a key must be text, not a mapping or a list", mark)
            self._count(1, mark)
            if event.anchor:
                self._anchors[event.anchor] = None
            value = Table(mark) if name == "MappingStartEvent" else Items(mark)
            self._stack.append(_Open(value, event.anchor, self._nodes - 1))

    def close(self, event: Any) -> None:
        """Take the end of a mapping or sequence."""
        open_ = self._stack.pop()
        value = open_.value
        value.mark = value.mark._replace(end=event.end_mark.index)
        if isinstance(value, Table):
            self._merge(value, open_.merges)
        if open_.anchor:
            nodes = self._nodes - open_.nodes
            self._anchors[open_.anchor] = _Anchored(value, nodes, open_.height)
        self._place(value, value.mark, open_.height)

    def finish(self) -> Node:
        """Return the document's root and make ready for the next."""
        root, self._root = self._root, None
        self._anchors.clear()
        return root

    def _scalar(self, event: Any, mark: Mark) -> None:
        self._check_tag(event.tag, _SCALARS, mark)
        self._count(1, mark)
        if _SURROGATE.search(event.value):
            raise SyntaxProblem("half a character: \\ud800 to \\udfff are not allowed", mark)
        unquoted = event.tag in _READ_AS_PLAIN or (event.tag is None and event.implicit[0])
        if self._expects_key():
            if event.anchor:
                self._anchors[event.anchor] = _Anchored(str(event.value), 1, 0)
            self._key(str(event.value), mark, merge=unquoted and event.value == _MERGE)
            return
        value: Node = str(event.value)
        if unquoted:
            value = None if event.value in NULLS else Plain(event.value)
        if event.anchor:
            self._anchors[event.anchor] = _Anchored(value, 1, 0)
        self._place(value, mark, 0)

    def _alias(self, anchor: str, mark: Mark) -> None:
        if anchor not in self._anchors:
            shown = self._source.shown(mark, f"*{anchor}")
            raise SyntaxProblem(f"{shown} repeats nothing: there is no such anchor before it", mark)
        known = self._anchors[anchor]
        if known is None:
            shown = self._source.shown(mark, f"*{anchor}")
            raise SyntaxProblem(f"{shown} stands inside of what it repeats", mark)
        self._count(known.nodes, mark)
        self._check_depth(known.height, mark)
        if not self._expects_key():
            self._place(known.value, mark, known.height)
        elif isinstance(known.value, str):
            self._key(str(known.value), mark, merge=False)
        else:
            raise SyntaxProblem("a key must be text, not a mapping or a list", mark)

    def _expects_key(self) -> bool:
        return bool(self._stack) and self._stack[-1].expects_key

    def _key(self, key: str, mark: Mark, *, merge: bool) -> None:
        open_ = self._stack[-1]
        seen = open_.value.keys_at if isinstance(open_.value, Table) else {}
        if not merge and key in seen:
            line, column = seen[key].order
            problem = f"is given twice, first at line {line}, column {column}"
            raise SyntaxProblem(f'"{self._source.shown(mark, key)}" {problem}', mark)
        open_.key, open_.key_at, open_.merging = key, mark, merge

    def _place(self, value: Node, mark: Mark, height: int) -> None:
        if not self._stack:
            self._root = value
            return
        open_ = self._stack[-1]
        open_.height = max(open_.height, height + 1)
        if isinstance(open_.value, Items):
            open_.value.put(value, mark)
            return
        key, open_.key = open_.key or "", None
        if open_.merging:
            open_.merges.append((value, mark))
        else:
            open_.value.put(key, value, open_.key_at, mark)

    def _merge(self, table: Table, merges: list[tuple[Node, Mark]]) -> None:
        """Put what ``<<`` names below what the mapping says itself; earlier ones win."""
        for value, mark in merges:
            for other in value if isinstance(value, Items) else [value]:
                if not isinstance(other, Table):
                    raise SyntaxProblem("<< takes a mapping or a list of mappings", mark)
                self._count(len(other), mark)
                for key in other:
                    if key not in table:
                        table.put(key, other[key], other.keys_at[key], other.values_at[key])

    def _count(self, nodes: int, mark: Mark) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise SyntaxProblem(f"is more than {MAX_NODES} values, aliases counted in full", mark)

    def _check_depth(self, height: int, mark: Mark) -> None:
        if len(self._stack) + height > MAX_DEPTH:
            raise SyntaxProblem(f"is nested more than {MAX_DEPTH} deep", mark)

    def _check_tag(self, tag: str | None, allowed: frozenset[str], mark: Mark) -> None:
        if tag is not None and tag not in allowed:
            shown = self._source.shown(mark, tag.replace(_CORE, "!!", 1))
            raise SyntaxProblem(f"the tag {shown} is not allowed; remove it", mark)
