"""Fencing tokens grow, whatever the clock does."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pillion_components.lock._fencing import next_token


@given(st.lists(st.floats(0, 7e9), min_size=1))
def test_tokens_grow_whatever_the_clock_does(times: list[float]) -> None:
    """Each token is over the last one, and no number of doubles is too small for it."""
    last = 0
    for now in times:
        token = next_token(last, now)
        assert token > last
        assert token >= int(now * 1000)
        assert token < 2**53
        last = token


def test_lost_counter_is_made_up_by_the_clock() -> None:
    """A store that forgot its last token goes on above it a millisecond later."""
    assert next_token(0, 1000.001) > next_token(0, 1000.0)
