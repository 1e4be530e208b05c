"""Ranges of keys."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from pillion_components._etcd.model import prefix_end
from pillion_components._etcd.settings import read_endpoints


@given(st.binary(min_size=1, max_size=4), st.binary(max_size=6))
@example(b"\xff\xff", b"\xff")
@example(b"a\xff", b"b")
def test_range_holds_what_begins_with_the_prefix(prefix: bytes, key: bytes) -> None:
    """From the prefix to its end lies every key that begins with it, and no other."""
    end = prefix_end(prefix)
    inside = prefix <= key and (end == b"\0" or key < end)
    assert inside == key.startswith(prefix)
    assert prefix <= prefix + key
    assert end == b"\0" or prefix + key < end


def test_endpoints_are_read_as_people_write_them() -> None:
    """Schemes, missing ports, blanks, doubles and IPv6 are understood."""
    found = read_endpoints(" a:1, http://b , https://[::1]:3/,a:1 ")
    assert found == ("a:1", "b:2379", "[::1]:3")
    assert [one.secure for one in found] == [False, False, True]
