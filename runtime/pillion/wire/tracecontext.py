"""W3C Trace Context (Recommendation of 23 November 2021) and Baggage, by hand.

The runtime passes a child of the caller's ``traceparent`` on; whether it also records a span is
the tracer's business.
"""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
)
_BAGGAGE_MEMBER = re.compile(
    rb"[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*=[ \t]*[!#-+\--:<-\[\]-~]*[ \t]*(;[^,]*)?"
)
MAX_BAGGAGE = 8192
"""Bytes of baggage (W3C Baggage, section 3.3.2)."""
MAX_BAGGAGE_MEMBERS = 180


def child_of(traceparent: bytes, span_id: int) -> bytes | None:
    """Return ``traceparent`` with ``span_id`` (64 bits, not 0) as parent; None if it is invalid.

    A version above 00 is answered with version 00, as section 3.2.4 asks.
    """
    match = _TRACEPARENT.match(traceparent)
    if match is None:
        return None
    if traceparent[:2] == b"00":
        if len(traceparent) != 55:
            return None
    elif len(traceparent) > 55 and traceparent[55:56] != b"-":
        return None
    return b"00-%b-%016x-%b" % (match[1], span_id, match[3])


def root(trace_id: int, span_id: int, *, sampled: bool) -> bytes:
    """Return a new ``traceparent`` from 128 and 64 random bits."""
    return b"00-%032x-%016x-%b" % (trace_id or 1, span_id or 1, b"01" if sampled else b"00")


def is_baggage(value: bytes) -> bool:
    """Tell whether ``value`` is a valid ``baggage`` header (W3C Baggage, section 3.3.1)."""
    if len(value) > MAX_BAGGAGE:
        return False
    members = value.split(b",")
    return len(members) <= MAX_BAGGAGE_MEMBERS and all(
        _BAGGAGE_MEMBER.fullmatch(member) for member in members
    )
