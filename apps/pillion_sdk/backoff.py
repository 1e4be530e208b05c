"""Pauses between tries: longer each time, and never the same for two that try at once."""

from __future__ import annotations

import os


def jittered(attempt: int, *, first: float, most: float) -> float:
    """Return a pause before another try.

    Args:
        attempt: 0 for the first pause.
        first: seconds that the first pause has at most; the limit doubles from one to the next.
        most: seconds no pause is over.
    """
    limit = min(first * 2.0 ** min(attempt, 30), most)
    # The random module takes longer to import than the rest of this package's own code.
    return limit * (1 + int.from_bytes(os.urandom(2), "big")) / 2**16
