"""From options and metadata to a change: the rules of tags and lifetimes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion.errors import Invalid
from pillion.kinds.state import Put, Remove
from pillion.policy.state_write import is_first_write, is_projection, to_put, to_remove, ttl_of


@given(st.integers(-1, 2**31 - 1))
def test_lifetimes(seconds: int) -> None:
    """Positive seconds count; 0 and -1 ask for no end."""
    assert ttl_of({"ttlInSeconds": str(seconds)}) == (seconds if seconds > 0 else None)
    assert ttl_of({}) is None


@given(st.integers().filter(lambda n: not -1 <= n < 2**31).map(str)
       | st.text(max_size=5).filter(lambda text: not text.strip("+-").isdigit()))  # fmt: skip
def test_wrong_lifetimes(text: str) -> None:
    """Anything else is refused."""
    with pytest.raises(Invalid, match="ttlInSeconds"):
        ttl_of({"ttlInSeconds": text})


@pytest.mark.parametrize("consistency", [None, "", "strong", "eventual"])
@pytest.mark.parametrize(
    ("concurrency", "first"),
    [(None, False), ("", False), ("last-write", False), ("first-write", True)],
)
def test_options(concurrency: str | None, consistency: str | None, first: bool) -> None:
    """Only first-write makes a difference."""
    assert is_first_write(concurrency, consistency) is first


@pytest.mark.parametrize(
    ("concurrency", "consistency"),
    [("First-Write", None), ("first_write", ""), (None, "STRONG"), ("first-write", "x")],
)
def test_unknown_options(concurrency: str | None, consistency: str | None) -> None:
    """Options are exact."""
    with pytest.raises(Invalid, match="unrecognized"):
        is_first_write(concurrency, consistency)


@pytest.mark.parametrize(
    ("etag", "first", "put"),
    [
        (None, False, Put("k", b"v")),
        ("", False, Put("k", b"v")),
        ("1", False, Put("k", b"v", "1")),
        ("1", True, Put("k", b"v", "1")),
        (None, True, Put("k", b"v", create_only=True)),
        ("", True, Put("k", b"v", create_only=True)),
    ],
)
def test_what_a_save_depends_on(etag: str | None, first: bool, put: Put) -> None:
    """A tag always counts; first-write without one creates."""
    assert to_put("k", b"v", etag, {}, first_write=first) == put


def test_what_a_deletion_depends_on() -> None:
    """A tag counts; an empty one is none."""
    assert to_remove("k", "1") == Remove("k", "1")
    assert to_remove("k", "") == Remove("k")


def test_projections() -> None:
    """An operation is a projection when its metadata say so."""
    assert is_projection({"outbox.projection": "true"})
    assert not is_projection({"outbox.projection": "false"})
    assert not is_projection({})
