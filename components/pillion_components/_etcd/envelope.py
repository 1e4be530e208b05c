"""The value of a key as Dapr's ``state.etcd`` v2 stores it: the data, and when they expire."""

from __future__ import annotations

import math

from pillion_components._etcd import messages

_NANOSECONDS = 1_000_000_000


def wrap(data: bytes, now: float, ttl: int | None) -> bytes:
    """Return what to store at ``now``, seconds since the epoch."""
    seconds = math.floor(now)
    value = messages.StoredValue(data=data)
    value.ts.seconds = seconds
    value.ts.nanos = min(int((now - seconds) * _NANOSECONDS), _NANOSECONDS - 1)
    if ttl is not None:
        value.ttl.seconds = ttl
    encoded: bytes = value.SerializeToString()
    return encoded


def unwrap(stored: bytes) -> tuple[bytes, float | None]:
    """Return the data and when they expire, in seconds since the epoch.

    A value that another program stored as it is comes back as it is.
    """
    try:
        value = messages.StoredValue.FromString(stored)
    except messages.DecodeError:
        return stored, None
    if not value.HasField("ts"):
        return stored, None
    lasts = value.ttl.seconds + value.ttl.nanos / _NANOSECONDS
    if lasts <= 0:
        return value.data, None
    return value.data, value.ts.seconds + value.ts.nanos / _NANOSECONDS + lasts


__all__ = ["unwrap", "wrap"]
