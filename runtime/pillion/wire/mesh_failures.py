"""Failures as they travel between runtimes: ``pillion.errors`` to Reset frames and back."""

from __future__ import annotations

import math
import re

from pillion.errors import BY_NAME, Failure, Unavailable
from pillion.wire.frames import Reset

CANCELLED = "Cancelled"
"""The kind of a Reset that is nobody's fault: the other side gave the call up."""

LONGEST_MESSAGE = 1024
_REASON = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_CODE = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_CONTROLS = dict.fromkeys((*range(0x20), 0x7F), " ")


def to_reset(stream: int, failure: Failure) -> Reset:
    """Return the frame that ends ``stream`` with ``failure``."""
    kind: type[Failure] = Failure
    for known in type(failure).__mro__:
        if known.__name__ in BY_NAME:
            kind = BY_NAME[known.__name__]
            break
    retry_after = failure.retry_after
    if retry_after is not None and not 0 <= retry_after < math.inf:
        retry_after = None
    return Reset(
        stream,
        kind.__name__,
        _text(failure.reason),
        _text(failure.message),
        _text(failure.code),
        failure.reached,
        retry_after,
    )


def _text(words: str) -> str:
    """Return ``words`` cut to a bound and without lone surrogates, which have no encoding."""
    return words[:LONGEST_MESSAGE].encode("utf-8", "replace").decode()


def cancelled(stream: int) -> Reset:
    """Return the frame that gives ``stream`` up."""
    return Reset(stream, CANCELLED, "cancelled", "", "", reached=True, retry_after=None)


def to_failure(reset: Reset) -> Failure:
    """Return what a Reset says, made safe for headers, labels and logs.

    A kind we do not know becomes a plain Failure, a word that breaks the rules the default word.
    """
    if reset.kind == CANCELLED:
        return Unavailable(
            "the other runtime gave the call up", reason="cancelled", reached=reset.reached
        )
    kind = BY_NAME.get(reset.kind, Failure)
    retry_after = reset.retry_after
    return kind(
        reset.message[:LONGEST_MESSAGE].translate(_CONTROLS),
        code=reset.code if _CODE.fullmatch(reset.code) else None,
        reason=reset.reason if _REASON.fullmatch(reset.reason) else None,
        reached=reset.reached,
        retry_after=retry_after if retry_after is not None and retry_after < math.inf else None,
    )
