"""Fencing tokens that grow even when their last value is lost."""

from __future__ import annotations


def next_token(last: int, now: float) -> int:
    """Return a token over ``last``, and not under the wall clock's milliseconds.

    The clock keeps tokens growing across a store that was deleted, restored from an old copy or
    never had a memory; ``last`` keeps them growing when the clock is set back. Up to the year
    2200 they fit the integers that JSON readers with doubles can hold.

    Args:
        last: the newest token known.
        now: seconds since the epoch.
    """
    return max(last + 1, int(now * 1000))


__all__ = ["next_token"]
