"""Queries mean the same in SQL and in memory, whatever the documents."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.errors import Invalid
from pillion.kinds.state import Answer, Item
from pillion_components.state import _query, _query_match, _query_sql
from pillion_components.state import _table as table

NAMES = st.sampled_from(["a", "b", "c"])
TEXTS = st.sampled_from(["", "a", "b", "ab", "é", "1", "true", "%", "\U0001f680", "'"])
NUMBERS = st.sampled_from([0, 1, -1, 2, 1.0, 1.5, -0.5, 2**53 + 1, 2**63 - 1, 2**70, 1e300])
SCALARS = st.one_of(TEXTS, NUMBERS, st.booleans(), st.none())
DOCUMENTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=6,
)
NOT_JSON = st.sampled_from(
    [b"", b"{", b"\xff", b'{"a": 1}\0', b'{"a": "\xe9"}', b"NaN", b'{"a": NaN}', b"'a'", b"{a: 1}"]
)
VALUES = st.one_of(
    DOCUMENTS.map(lambda one: json.dumps(one).encode()),
    DOCUMENTS.map(lambda one: json.dumps(one, ensure_ascii=False, indent=1).encode()),
    NOT_JSON,
)
FIELDS = st.lists(NAMES, min_size=1, max_size=2).map(".".join)
COMPARISONS = st.one_of(
    st.builds(
        lambda op, field, value: {op: {field: value}},
        st.sampled_from(["EQ", "NEQ"]),
        FIELDS,
        SCALARS,
    ),
    st.builds(
        lambda op, field, value: {op: {field: value}},
        st.sampled_from(["GT", "GTE", "LT", "LTE"]),
        FIELDS,
        st.one_of(TEXTS, NUMBERS),
    ),
    st.builds(lambda field, values: {"IN": {field: values}}, FIELDS, st.lists(SCALARS, max_size=4)),
)
FILTERS = st.recursive(
    COMPARISONS,
    lambda inner: st.builds(
        lambda op, parts: {op: parts},
        st.sampled_from(["AND", "OR"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=5,
)
ORDERS = st.lists(
    st.fixed_dictionaries({"key": FIELDS}, optional={"order": st.sampled_from(["ASC", "DESC"])}),
    max_size=3,
)


def in_sql(items: list[Item], query: _query.Query) -> Answer:
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in table.SCHEMA.steps[0]:
            connection.execute(statement)
        connection.executemany(
            "INSERT INTO item VALUES ('state', ?, ?, ?, NULL)",
            [(item.key, item.value, table.tag_number(item.etag)) for item in items],
        )
        return _query_sql.work(query, "state", 0.0)(connection)


def in_memory(items: list[Item], query: _query.Query) -> Answer:
    return asyncio.run(_query_match.answer(items, query))


@given(
    st.lists(VALUES, max_size=8),
    st.one_of(st.none(), FILTERS),
    ORDERS,
    st.integers(1, 3),
)
def test_both_engines_give_the_same_pages(
    values: list[bytes], selected: Any, order: Any, limit: int
) -> None:
    """Page by page, the same items in the same order and the same tokens."""
    items = [Item(f"k{n}", value, table.tag_text(n)) for n, value in enumerate(values)]
    page: dict[str, Any] = {"limit": limit}
    for _ in range(len(items) + 1):
        query = _query.parse({"filter": selected or {}, "sort": order, "page": page})
        stored = in_sql(items, query)
        assert stored.items == in_memory(items, query).items
        if stored.token is None:
            assert in_memory(items, query).token is None
            return
        page = {"limit": limit, "token": stored.token}
    pytest.fail("the pages do not end")


@given(st.text(max_size=40))
def test_no_text_breaks_the_reading_of_tokens(token: str) -> None:
    """A token is this query's or Invalid, never another error."""
    if token:
        with pytest.raises(Invalid):
            _query.parse({"sort": [{"key": "a"}], "page": {"token": token}})


@given(st.recursive(SCALARS, lambda one: st.lists(one) | st.dictionaries(st.text(), one)))
def test_no_json_breaks_the_reading_of_queries(raw: Any) -> None:
    """Whatever stands for a filter, a sort or a page is understood or Invalid."""
    for name in ("filter", "sort", "page"):
        try:
            _query.parse({name: raw})
        except Invalid:
            continue


def test_a_page_ends_at_its_bytes() -> None:
    """Large values make short pages, of one item at least."""
    value = b'"' + b"x" * (_query.PAGE_BYTES // 2) + b'"'
    items = [Item(f"k{n}", value, table.tag_text(n)) for n in range(3)]
    query = _query.parse({})
    for answer in (in_sql(items, query), in_memory(items, query)):
        assert len(answer.items) == 1
        assert answer.token is not None


def test_unsorted_pages_walk_the_keys() -> None:
    """The engine begins at the token by an index and sorts nothing."""
    first = _query.parse({"filter": {"EQ": {"a": 1}}})
    token = _query.token_of(first, _query.Position((), "k5"))
    query = _query.parse({"filter": {"EQ": {"a": 1}}, "page": {"token": token}})
    statement, parameters = _query_sql.compiled(query, "state", 0.0)
    with closing(sqlite3.connect(":memory:")) as connection:
        for one in table.SCHEMA.steps[0]:
            connection.execute(one)
        connection.create_function("is_text", 1, lambda _: True, deterministic=True)
        plan = " ".join(
            row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)
        )
    assert "space=? AND key>?" in plan
    assert "TEMP B-TREE" not in plan
