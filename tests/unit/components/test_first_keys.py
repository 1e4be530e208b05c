"""The first keys of many that come in any order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pillion_components import _first_keys
from pillion_components._first_keys import FirstKeys

EVENTS = st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=150)


@given(EVENTS, st.integers(1, 5), st.sampled_from(["k", "k1", ""]))
def test_pages_hold_every_key_once(events: list[tuple[bool, int]], limit: int, prefix: str) -> None:
    """However keys come and go, the pages together are the keys that are left, in order."""
    left: set[bytes] = set()
    for there, number in events:
        (left.add if there else left.discard)(b"k%02d" % number)
    found: list[bytes] = []
    after: bytes | None = b""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_first_keys, "_SLACK", 0)
        while after is not None:
            first = FirstKeys(prefix.encode(), after, limit)
            for there, number in events:
                (first.add if there else first.discard)(b"k%02d" % number)
            keys, after = first.page()
            assert len(keys) <= limit
            found += keys
    assert found == sorted(key for key in left if key.startswith(prefix.encode()))


def test_memory_is_bounded() -> None:
    """Of many keys no more are kept than a few pages."""
    first = FirstKeys(b"", b"", 10)
    for number in range(100_000, 0, -1):
        first.add(b"%06d" % number)
        assert len(first._found) <= 1041
    assert first.page()[0][0] == b"000001"
