"""Trace context is passed on as W3C asks, and what is malformed starts a new trace."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.wire.tracecontext import MAX_BAGGAGE, child_of, is_baggage, root

TRACE = b"0af7651916cd43dd8448eb211c80319c"
PARENT = b"00-" + TRACE + b"-b7ad6b7169203331-01"
BITS64 = st.integers(1, 2**64 - 1)


@given(st.integers(1, 2**128 - 1), BITS64, BITS64, st.booleans())
def test_a_child_keeps_the_trace_and_its_flags(
    trace: int, parent: int, span: int, sampled: bool
) -> None:
    """Only the span changes."""
    child = child_of(root(trace, parent, sampled=sampled), span)
    assert child == b"00-%032x-%016x-%02x" % (trace, span, sampled)


def test_ids_are_never_zero() -> None:
    """Random bits that are all zero are no valid id."""
    assert root(0, 0, sampled=False) == b"00-%032x-%016x-00" % (1, 1)


@pytest.mark.parametrize(
    "parent",
    [
        PARENT.replace(b"00-", b"cc-", 1),
        PARENT.replace(b"00-", b"01-", 1) + b"-what-the-future-will-be-like",
        PARENT.replace(b"00-", b"01-", 1) + b"-",
    ],
)
def test_later_versions_are_answered_with_ours(parent: bytes) -> None:
    """Section 3.2.4: what is known of a later version is taken."""
    assert child_of(parent, 1) == b"00-" + TRACE + b"-0000000000000001-01"


@pytest.mark.parametrize(
    "parent",
    [
        b"",
        b"x",
        PARENT.upper(),
        PARENT[:-1],
        PARENT + b"0",
        PARENT + b"-extra",
        PARENT + b" ",
        PARENT + b", " + PARENT,
        PARENT.replace(b"-", b"_"),
        PARENT.replace(TRACE, b"0" * 32),
        PARENT.replace(b"b7ad6b7169203331", b"0" * 16),
        PARENT.replace(b"00-", b"ff-", 1),
        PARENT.replace(b"00-", b"0-", 1),
        PARENT.replace(b"00-", b"01-", 1) + b".extra",
        PARENT.replace(b"00-", b"01-", 1) + b"0",
        PARENT.replace(b"0af", b"0xf"),
        PARENT.replace(b"0af", b"0Af"),
    ],
)
def test_malformed_parents_are_none(parent: bytes) -> None:
    """They start a new trace instead of spoiling one."""
    assert child_of(parent, 1) is None


@given(st.binary(max_size=80) | st.from_regex(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-.{0,4}"))
def test_a_child_is_always_well_formed(parent: bytes) -> None:
    """Whatever came in, what goes out is valid or nothing."""
    child = child_of(parent, 7)
    if child is not None:
        assert re.fullmatch(rb"00-[0-9a-f]{32}-0{15}7-[0-9a-f]{2}", child)


@pytest.mark.parametrize(
    "value",
    [
        b"key=value",
        b"k1=v1,k2=v2",
        b"k = v , k2=v2;property;other = x",
        b"key=",
        b"userId=Am%C3%A9lie",
        b"a=!#$%&'()*+-./:<=>?@[]^_`{|}~",
        b",".join(b"k%d=v" % number for number in range(180)),
        b"k=" + b"v" * (MAX_BAGGAGE - 2),
    ],
)
def test_baggage(value: bytes) -> None:
    """What the grammar allows is baggage."""
    assert is_baggage(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"key",
        b"=value",
        b"key=value,",
        b",key=value",
        b"key=a b",
        b'key="quoted"',
        b"key=a\\b",
        b"key=caf\xc3\xa9",
        b"ke y=v",
        b"k(ey=v",
        b"key=v\x01",
        b",".join(b"k%d=v" % number for number in range(181)),
        b"k=" + b"v" * (MAX_BAGGAGE - 1),
    ],
)
def test_no_baggage(value: bytes) -> None:
    """What it does not allow, or is too much, is refused."""
    assert not is_baggage(value)
