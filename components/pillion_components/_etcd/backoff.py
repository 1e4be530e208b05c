"""How long to wait before the next try."""

from __future__ import annotations

import random

_FIRST = 0.05
_LAST = 2.0


class Backoff:
    """Delays that double up to two seconds, spread over their upper half."""

    __slots__ = ("_delay",)

    def __init__(self) -> None:
        self._delay = _FIRST

    def reset(self) -> None:
        """Begin anew after something worked."""
        self._delay = _FIRST

    def next(self) -> float:
        """Return the seconds to wait now."""
        delay = self._delay
        self._delay = min(delay * 2, _LAST)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - it spreads load


__all__ = ["Backoff"]
