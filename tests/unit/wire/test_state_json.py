"""The bodies of the state API: any legal body is read as Go would, and nothing else is."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.errors import Invalid
from pillion.kinds.state import Item
from pillion.wire.state_json import (
    Found,
    bulk_body,
    event,
    expiry_of,
    found,
    page_body,
    query_body,
    read_bulk_get,
    read_items,
    read_query,
    read_transaction,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ITEM = st.fixed_dictionaries(
    {"key": TEXT.filter(bool)},
    optional={
        "value": VALUE,
        "etag": st.none() | TEXT,
        "metadata": st.none() | st.dictionaries(TEXT, st.none() | TEXT, max_size=2),
        "options": st.none()
        | st.fixed_dictionaries({}, optional={"concurrency": TEXT, "consistency": TEXT}),
        "unknown": VALUE,
    },
)
KNOWN = {"key", "value", "etag", "metadata", "options", "concurrency", "consistency", "keys",
         "operations", "operation", "request", "parallelism"}  # fmt: skip


def recased(value: object, draw: st.DataObject) -> object:
    """Write the field names of a body in other cases; what users name stays."""
    if isinstance(value, list):
        return [recased(one, draw) for one in value]
    if not isinstance(value, dict):
        return value
    written = {}
    for name, inner in value.items():
        cased = draw.draw(st.sampled_from([name, name.upper(), name.title()]))
        plain = name in ("value", "metadata") or name not in KNOWN
        written[cased if name in KNOWN else name] = inner if plain else recased(inner, draw)
    return written


@given(st.lists(ITEM, max_size=3), st.data())
def test_items_whatever_the_case_of_their_fields(items: list, data: st.DataObject) -> None:
    """Fields are found in any case; unknown ones change nothing; values keep their text."""
    body = json.dumps(recased(items, data), ensure_ascii=data.draw(st.booleans())).encode()
    read = read_items(body)
    assert [item.key for item in read] == [item["key"] for item in items]
    for item, given_ in zip(read, items, strict=True):
        assert json.loads(bytes(item.value)) == given_.get("value")
        assert item.etag == given_.get("etag")
        metadata = given_.get("metadata") or {}
        assert item.merged({}) == {name: text or "" for name, text in metadata.items()}
        options = given_.get("options") or {}
        if options:
            assert item.options is not None
            assert item.options.concurrency == options.get("concurrency")


@given(st.lists(st.tuples(st.sampled_from(["upsert", "delete"]), ITEM), max_size=3), st.data())
def test_transactions_whatever_the_case_of_their_fields(pairs: list, data: st.DataObject) -> None:
    """Operations and the items in them are found in any case."""
    operations = [{"operation": name, "request": item} for name, item in pairs]
    body = json.dumps(recased({"operations": operations}, data)).encode()
    read = read_transaction(body)
    assert [(one.operation, one.request.key) for one in read if one.request] == [
        (name, item["key"]) for name, item in pairs
    ]


@given(st.lists(TEXT, max_size=4), st.data())
def test_keys_of_a_bulk_get(keys: list[str], data: st.DataObject) -> None:
    """The keys come in their order."""
    body = recased({"keys": keys, "parallelism": 3, "unknown": {}}, data)
    assert list(read_bulk_get(json.dumps(body).encode())) == keys


@given(st.binary(max_size=40) | st.sampled_from([b"[[", b'[{"key":"k",}]', b"\xef\xbb\xbf[]"]))
def test_no_body_breaks_the_readers(body: bytes) -> None:
    """Whatever is sent is read or refused as malformed."""
    for read in (read_items, read_transaction, read_bulk_get):
        try:
            read(body)
        except Invalid as failure:
            assert failure.code == "ERR_MALFORMED_REQUEST"  # noqa: PT017 - it may be read as well


@pytest.mark.parametrize(
    ("body", "item"),
    [
        (b'[{"key":"a","KEY":"b"}]', "b"),
        (b'[{"KEY":"b","key":"a"}]', "a"),
    ],
)
def test_a_field_that_is_there_twice(body: bytes, item: str) -> None:
    """The last one counts, as in Go."""
    assert read_items(body)[0].key == item


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[1]", "Expected `object`, got `int` - at `$[0]`"),
        (b'[{"key":"k"},{"etag":"1"}]', 'item 1: "key" is a required field'),
        (b'{"operations":[{"operation":"upsert","request":5}]}', "Expected `array`, got `object`"),
        (b'[{"KEY":"k","options":[]}]', "Expected `object | null`, got `array`"),
        (b'[{"KEY":"k","metadata":{"a":{}}}]', "Expected `str | null`, got `object`"),
    ],
)
def test_messages_say_where(body: bytes, message: str) -> None:
    """A mistake is named with its place in the body, in any case of the names."""
    with pytest.raises(Invalid) as caught:
        read_items(body)
    assert message in caught.value.message


def test_wrong_operations_say_where() -> None:
    """So is one in a transaction."""
    with pytest.raises(Invalid, match=r"operations\[0\]"):
        read_transaction(b'{"Operations":[{"operation":"upsert","request":5}]}')
    with pytest.raises(Invalid, match="Expected `array"):
        read_transaction(b'{"Operations":5}')


def test_query_body_is_an_object() -> None:
    """A query keeps its numbers and texts; anything else is refused."""
    assert read_query(b'{"page":{"limit":2},"filter":{}}') == {"page": {"limit": 2}, "filter": {}}
    for body in (b"", b"[]", b"{", b"\xff", b'{"a":' * 100_000):
        with pytest.raises(Invalid, match="failed to parse JSON query body"):
            read_query(body)


def test_expiry_is_in_utc() -> None:
    """The time is written as RFC 3339 has it."""
    assert expiry_of(Item("k", b"1", "1", 1_700_000_000.9)) == "2023-11-14T22:13:20Z"
    assert expiry_of(Item("k", b"1", "1")) is None


@given(VALUE, st.sampled_from([None, 0, 2]), st.sampled_from(["\n", "\r\n", "\r"]))
def test_events_hold_any_value(value: object, indent: int | None, newline: str) -> None:
    """An event is read back as the JSON it holds, however that was laid out."""
    text = json.dumps(value, indent=indent).replace("\n", newline).encode()
    sent = event(found("k", Item("k", text, "7"), text))
    assert sent.endswith(b"\n\n")
    lines = re.split(rb"\r\n|\r|\n", sent[:-2])
    assert all(line.startswith(b"data: ") for line in lines)
    joined = json.loads(b"\n".join(line.removeprefix(b"data: ") for line in lines))
    assert joined == {"key": "k", "data": value, "etag": "7"}


def test_what_is_told_of_a_key() -> None:
    """A missing key has its name only; a value that is not JSON is an error."""
    assert bulk_body([found("k", None, b"")]) == b'[{"key":"k"}]'
    for value in (b"", b"{", b"1 2", b'"\xff"', b"[" * 100_000):
        item = found("k", Item("k", value, "1"), value)
        assert set(json.loads(bulk_body([item]))[0]) == {"key", "error"}


def test_pages() -> None:
    """A token is there when there is more."""
    assert page_body(["a"], "t") == b'{"keys":["a"],"token":"t"}'
    assert page_body([], None) == b'{"keys":[]}'
    assert query_body([Found("k")], "t") == b'{"results":[{"key":"k"}],"token":"t"}'
    assert query_body([], None) == b'{"results":[]}'
