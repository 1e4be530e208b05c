"""A state query answered from items in memory, with the meaning that the SQL form has."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn, TypeAlias

from pillion.kinds.state import Answer, Item
from pillion_components.state._query import (
    PAGE_BYTES,
    Among,
    Compare,
    Every,
    Filter,
    Position,
    Query,
    Scalar,
    Sorted,
    token_of,
)

_MISSING = object()
_BIG = 2**63
_PAUSE = 256
"""Items between two turns for others in the loop."""

_Found: TypeAlias = tuple[tuple[Sorted, ...], Item]


async def answer(items: Iterable[Item], query: Query) -> Answer:
    """Answer ``query`` from ``items``, each with its own key."""
    found: list[_Found] = []
    for number, item in enumerate(items):
        if number % _PAUSE == _PAUSE - 1:
            await asyncio.sleep(0)
        document = _document(item.value)
        if document is _MISSING or (
            query.filter is not None and not _matches(query.filter, document)
        ):
            continue
        found.append((tuple(_sorted(_at(document, one.path)) for one in query.order), item))
    found.sort(key=lambda one: one[1].key)
    for number in reversed(range(len(query.order))):
        descending = query.order[number].descending
        found.sort(key=lambda one: _rank(one[0][number]), reverse=descending)
    if query.after is not None:
        after = query.after
        found = [one for one in found if _behind(query, one, after)]
    return _page(found, query)


def _page(found: list[_Found], query: Query) -> Answer:
    items: list[Item] = []
    size = 0
    last = Position((), "")
    for values, item in found:
        if items and (len(items) == query.limit or size + len(item.value) > PAGE_BYTES):
            return Answer(tuple(items), token_of(query, last))
        items.append(item)
        size += len(item.value)
        last = Position(values, item.key)
    return Answer(tuple(items), None)


def _behind(query: Query, one: _Found, after: Position) -> bool:
    values, item = one
    for order, mine, its in zip(query.order, values, after.values, strict=True):
        if _rank(mine) != _rank(its):
            return (_rank(mine) > _rank(its)) is not order.descending
    return item.key > after.key


def _document(value: bytes) -> Any:
    try:
        return json.loads(value.decode(), object_pairs_hook=_first, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _MISSING


def _first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return dict(reversed(pairs))  # of equal names the first one counts, as in SQLite


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _at(document: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(document, Mapping) or name not in document:
            return _MISSING
        document = document[name]
    return document


def _matches(what: Filter, document: Any) -> bool:
    if isinstance(what, Compare):
        return _compares(what.op, _at(document, what.path), what.value)
    if isinstance(what, Among):
        found = _at(document, what.path)
        return any(_equal(found, one) for one in what.values)
    joint = all if isinstance(what, Every) else any
    return joint(_matches(part, document) for part in what.parts)


def _compares(op: str, found: Any, value: Scalar) -> bool:
    if op == "EQ":
        return _equal(found, value)
    if op == "NEQ":
        return found is not _MISSING and not _equal(found, value)
    if _type(found) is not _type(value):
        return False
    if op in ("GT", "GTE"):
        return bool(found > value or (op == "GTE" and found == value))
    return bool(found < value or (op == "LTE" and found == value))


def _equal(found: Any, value: Scalar) -> bool:
    return _type(found) is _type(value) and bool(found == value)


def _type(value: Any) -> object:
    if isinstance(value, bool) or value is None:
        return bool if value is not None else None
    if isinstance(value, int | float):
        return float
    return str if isinstance(value, str) else _MISSING


def _sorted(value: Any) -> Sorted:
    if isinstance(value, int):
        # As in SQL: false and true are 0 and 1, and what no integer column holds is a real.
        return int(value) if -_BIG <= value < _BIG else float(value)
    return value if isinstance(value, str | float) else None


def _rank(value: Sorted) -> tuple[int, Any]:
    if value is None:
        return 0, 0
    return (2, value) if isinstance(value, str) else (1, value)


__all__ = ["answer"]
