"""State queries: from the JSON a caller sends to a checked form, and the tokens of their pages.

The format: ``filter`` (``EQ NEQ GT GTE LT LTE IN`` on one field, ``AND OR`` on filters), ``sort``
(``key`` and ``order``) and ``page`` (``limit`` and ``token``). A field is a path of names joined
by dots. What it means here, in every embedded store:

* a value that is not JSON, or does not have the field, matches no comparison, ``NEQ`` included;
* values of different types are different, and have no order: ``1`` is neither ``true`` nor
  ``"1"``; ``GT GTE LT LTE`` compare texts (by code points) or numbers;
* sorting puts missing fields, nulls, lists and objects first, then false, true and numbers by
  value (0 and 1 for the two), then texts; equal ones by key;
* a page has 1,000 items or 16 MiB at most, whatever its limit, and a token when there is more.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeGuard

from pillion.errors import Invalid
from pillion.nearest import did_you_mean

Scalar: TypeAlias = str | int | float | bool | None
Sorted: TypeAlias = str | int | float | None

PAGE_ITEMS = 1000
PAGE_BYTES = 16 * 1024 * 1024

_COMPARISONS = ("EQ", "NEQ", "GT", "GTE", "LT", "LTE", "IN")
_DEPTH = 32
_PARTS = 256
_CHOICES = 1000
_SORTS = 8
_FIELD = 256
_BIG = 2**63


@dataclass(frozen=True, slots=True)
class Compare:
    """``op`` is EQ, NEQ, GT, GTE, LT or LTE."""

    op: str
    path: tuple[str, ...]
    value: Scalar


@dataclass(frozen=True, slots=True)
class Among:
    """The field is one of ``values``."""

    path: tuple[str, ...]
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Every:
    """All parts hold."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """At least one part holds."""

    parts: tuple[Filter, ...]


Filter: TypeAlias = Compare | Among | Every | Some


@dataclass(frozen=True, slots=True)
class Order:
    """Sort by a field."""

    path: tuple[str, ...]
    descending: bool


@dataclass(frozen=True, slots=True)
class Position:
    """The last item of a page: what it was sorted by, and its key."""

    values: tuple[Sorted, ...]
    key: str


@dataclass(frozen=True, slots=True)
class Query:
    """A query that is understood.

    Attributes:
        filter: None for all JSON values.
        order: the fields to sort by, the most important first.
        limit: items in a page, 1 to 1000.
        after: where the page begins; None for the first.
        digest: tells tokens of this query from those of another.
    """

    filter: Filter | None
    order: tuple[Order, ...]
    limit: int
    after: Position | None
    digest: str


def parse(query: Mapping[str, Any]) -> Query:
    """Read a query.

    Raises:
        Invalid: it is not understood; the message says which part.
    """
    _known(query, ("filter", "sort", "page"), "the query")
    page = query.get("page") or {}
    _known(page, ("limit", "token"), "page")
    order = _order(query.get("sort") or ())
    raw = query.get("filter")
    selected = _Filters().read(raw, 0) if raw else None
    digest = hashlib.sha256(repr((selected, order)).encode("utf-8", "replace")).hexdigest()[:16]
    token = page.get("token")
    if token is not None and not isinstance(token, str):
        raise Invalid("page.token must be text")
    after = _position(token, digest, len(order)) if token else None
    return Query(selected, order, _limit(page.get("limit")), after, digest)


def token_of(query: Query, last: Position) -> str:
    """Return the token of the page that begins behind ``last``."""
    content = json.dumps([query.digest, list(last.values), last.key])
    return base64.urlsafe_b64encode(content.encode()).decode()


class _Filters:
    """Reads one filter and counts its parts."""

    def __init__(self) -> None:
        self._count = 0

    def read(self, raw: object, depth: int) -> Filter:
        self._count += 1
        if depth > _DEPTH or self._count > _PARTS:
            raise Invalid(f"the filter has more than {_PARTS} parts or {_DEPTH} levels")
        if not isinstance(raw, Mapping) or len(raw) != 1:
            raise Invalid('a filter is an object with one operator, such as {"EQ": {"a": 1}}')
        ((op, operand),) = raw.items()
        if op in ("AND", "OR"):
            if not _is_list(operand) or not operand:
                raise Invalid(f"{op} takes a list of filters")
            parts = tuple(self.read(part, depth + 1) for part in operand)
            return Every(parts) if op == "AND" else Some(parts)
        if op not in _COMPARISONS:
            hint = did_you_mean(str(op), ("AND", "OR", *_COMPARISONS))
            raise Invalid(f"the filter operator {str(op)[:40]!r} is unknown{hint}")
        if not isinstance(operand, Mapping) or len(operand) != 1:
            raise Invalid(f"{op} takes an object with one field and what to compare it with")
        ((field, value),) = operand.items()
        return _comparison(op, _path(field), value)


def _comparison(op: str, path: tuple[str, ...], value: object) -> Filter:
    if op == "IN":
        if not _is_list(value):
            raise Invalid(f"IN takes a list of values for {'.'.join(path)}")
        if len(value) > _CHOICES:
            raise Invalid(f"IN takes {_CHOICES} values, not {len(value)}")
        return Among(path, tuple(_scalar(op, one) for one in value))
    scalar = _scalar(op, value)
    if op not in ("EQ", "NEQ") and (scalar is None or isinstance(scalar, bool)):
        raise Invalid(f"{op} compares with a text or a number, not {json.dumps(scalar)}")
    return Compare(op, path, scalar)


def _scalar(op: str, value: object) -> Scalar:
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Invalid(f"{op} compares with a text that is not valid Unicode") from error
        return value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float) and math.isfinite(value):
        return value
    if isinstance(value, int):
        return _whole(op, value)
    raise Invalid(f"{op} compares with text, a number, true, false or null")


def _whole(op: str, value: int) -> int | float:
    if -_BIG <= value < _BIG:
        return value
    try:
        return float(value)  # as the engine reads a number of that size
    except OverflowError:
        raise Invalid(f"{op} compares with a number that is too large") from None


def _path(field: object) -> tuple[str, ...]:
    if not isinstance(field, str) or not field or len(field) > _FIELD:
        raise Invalid(f"a field is a path such as person.org, of 1 to {_FIELD} characters")
    names = tuple(field.split("."))
    for name in names:
        if not name or not name.isprintable() or '"' in name or "\\" in name:
            raise Invalid(
                f"the field {field!r} has an empty name, or one with a double quote, a backslash "
                "or a character that cannot be printed"
            )
    return names


def _order(raw: object) -> tuple[Order, ...]:
    if not _is_list(raw) or len(raw) > _SORTS:
        raise Invalid(f'sort is a list of at most {_SORTS} objects, such as [{{"key": "a"}}]')
    found = []
    for one in raw:
        _known(one, ("key", "order"), "sort")
        direction = str(one.get("order") or "ASC").upper()
        if direction not in ("ASC", "DESC"):
            raise Invalid(f"the sort order {direction[:40]!r} is neither ASC nor DESC")
        found.append(Order(_path(one.get("key")), direction == "DESC"))
    return tuple(found)


def _limit(raw: object) -> int:
    if raw is None:
        return PAGE_ITEMS
    if isinstance(raw, bool) or not isinstance(raw, int) or raw < 0:
        raise Invalid("page.limit must be a whole number of items")
    return min(raw, PAGE_ITEMS) or PAGE_ITEMS


def _position(token: str, digest: str, sorts: int) -> Position:
    try:
        content = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
        made_by, values, key = content
        fits = made_by == digest and isinstance(key, str) and len(values) == sorts
        fits = fits and all(one is None or type(one) in (str, int, float) for one in values)
        fits = fits and not any(isinstance(one, int) and abs(one) > _BIG for one in values)
        # What the engine could not have given, it does not take either.
        json.dumps([values, key], ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError):
        fits = False
    if not fits:
        raise Invalid("page.token is none that this query was answered with")
    return Position(tuple(values), key)


def _known(raw: object, names: Sequence[str], what: str) -> None:
    if not isinstance(raw, Mapping):
        raise Invalid(f"{what} must be an object")
    for name in raw:
        if name not in names:
            hint = did_you_mean(str(name), names)
            raise Invalid(f"{what} has no part {str(name)[:40]!r}{hint}")


def _is_list(raw: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(raw, Sequence) and not isinstance(raw, str | bytes)
