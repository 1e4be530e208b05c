"""A state query as one SQL statement; names and values travel as parameters only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing

from pillion.kinds.state import Answer, Item
from pillion_components.state._query import (
    PAGE_BYTES,
    Among,
    Compare,
    Every,
    Filter,
    Order,
    Position,
    Query,
    Scalar,
    token_of,
)
from pillion_components.state._table import item_of

_DOCUMENT = "CAST(value AS TEXT)"
_EXTRACT = f"json_extract({_DOCUMENT}, ?)"
_TYPE = f"json_type({_DOCUMENT}, ?)"
_SORT = f"CASE WHEN {_TYPE} IN ('object', 'array') THEN NULL ELSE {_EXTRACT} END"
_NUMBERS = "('integer', 'real')"
_SIGNS = {"EQ": "=", "NEQ": "<>", "GT": ">", "GTE": ">=", "LT": "<", "LTE": "<="}
_CONSTANTS = {None: "null", True: "true", False: "false"}


class _Statement:
    """SQL text and its parameters, grown side by side."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.parameters: list[object] = []

    def add(self, text: str, *parameters: object) -> None:
        self.text.append(text)
        self.parameters += parameters


def compiled(query: Query, space: str, now: float) -> tuple[str, list[object]]:
    """Return the statement and its parameters.

    It selects ``key, value, etag, expires`` and one column for each field to sort by, one row
    more than the limit. Without a sort it walks the keys from the token on.
    """
    made = _Statement()
    made.add("SELECT key, value, etag, expires")
    for one in query.order:
        made.add(f", {_SORT}", _json_path(one.path), _json_path(one.path))
    made.add(" FROM item WHERE space = ? AND (expires IS NULL OR expires > ?)", space, now)
    if query.after is not None and not query.order:
        made.add(" AND key > ?", query.after.key)
    # CASE is the one construct of SQL that promises not to look into what is not JSON.
    made.add(f" AND CASE WHEN instr(value, x'00') = 0 AND json_valid({_DOCUMENT}) THEN ")
    if query.filter is None:
        made.add("1")
    else:
        _filter(made, query.filter)
    if query.after is not None and query.order:
        made.add(" AND ")
        _behind(made, query.order, query.after)
    made.add(" AND is_text(value) ELSE 0 END ORDER BY ")
    for number, one in enumerate(query.order):
        made.add(f"{5 + number}{' DESC' if one.descending else ''}, ")
    made.add("key LIMIT ?", query.limit + 1)
    return "".join(made.text), made.parameters


def work(query: Query, space: str, now: float) -> Callable[[sqlite3.Connection], Answer]:
    """Return what answers ``query`` on a connection, in a thread."""
    statement, parameters = compiled(query, space, now)

    def answer(connection: sqlite3.Connection) -> Answer:
        connection.create_function("is_text", 1, _is_text, deterministic=True)
        connection.text_factory = lambda raw: raw.decode("utf-8", "replace")
        items: list[Item] = []
        size = 0
        last = Position((), "")
        with closing(connection.execute(statement, parameters)) as rows:
            for key, value, etag, expires, *values in rows:
                if items and (len(items) == query.limit or size + len(value) > PAGE_BYTES):
                    return Answer(tuple(items), token_of(query, last))
                items.append(item_of((key, value, etag, expires)))
                size += len(value)
                last = Position(tuple(values), key)
        return Answer(tuple(items), None)

    return answer


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _json_path(path: tuple[str, ...]) -> str:
    return "$" + "".join(f'."{name}"' for name in path)


def _filter(made: _Statement, what: Filter) -> None:
    if isinstance(what, Compare):
        _compare(made, what.op, _json_path(what.path), what.value)
    elif isinstance(what, Among):
        _among(made, _json_path(what.path), what.values)
    else:
        joint = " AND " if isinstance(what, Every) else " OR "
        for number, part in enumerate(what.parts):
            made.add(joint if number else "(")
            _filter(made, part)
        made.add(")")


def _compare(made: _Statement, op: str, path: str, value: Scalar) -> None:
    if value is None or isinstance(value, bool):
        made.add(f"coalesce({_TYPE} {_SIGNS[op]} ?, 0)", path, _CONSTANTS[value])
        return
    sign = _SIGNS[op]
    if isinstance(value, str):
        kind, other, operand = "= 'text'", "<> 'text'", "?"
        parameter: object = value
    else:
        # The engine reads the number, so that both sides are rounded alike.
        kind, other, operand = f"IN {_NUMBERS}", f"NOT IN {_NUMBERS}", "json_extract(?, '$')"
        parameter = json.dumps(value)
    both = f"{other} OR" if op == "NEQ" else f"{kind} AND"
    made.add(f"coalesce({_TYPE} {both} {_EXTRACT} {sign} {operand}, 0)", path, path, parameter)


def _among(made: _Statement, path: str, values: tuple[Scalar, ...]) -> None:
    texts = [one for one in values if isinstance(one, str)]
    constants = [_CONSTANTS[one] for one in values if one is None or isinstance(one, bool)]
    numbers = [one for one in values if isinstance(one, int | float) and not isinstance(one, bool)]
    listed = "IN (SELECT value FROM json_each(?))"
    made.add(f"(coalesce({_TYPE} {listed}, 0)", path, json.dumps(constants))
    for kind, chosen in (("= 'text'", texts), (f"IN {_NUMBERS}", numbers)):
        made.add(
            f" OR coalesce({_TYPE} {kind} AND {_EXTRACT} {listed}, 0)",
            path,
            path,
            json.dumps(chosen, ensure_ascii=False),
        )
    made.add(")")


def _behind(made: _Statement, order: tuple[Order, ...], after: Position) -> None:
    """Add the condition that a row comes after a position, nulls being the smallest."""
    made.add("(")
    for one, value in zip(order, after.values, strict=True):
        path = _json_path(one.path)
        column = f"({_SORT})"
        if value is None:
            if not one.descending:
                made.add(f"{column} IS NOT NULL OR ", path, path)
        elif one.descending:
            made.add(f"coalesce({column} < ?, 1) OR ", path, path, value)
        else:
            made.add(f"coalesce({column} > ?, 0) OR ", path, path, value)
        made.add(f"({column} IS ? AND (", path, path, value)
    made.add("key > ?", after.key)
    made.add("))" * len(order) + ")")
