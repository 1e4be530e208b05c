"""The first keys of many that come in any order. Pure."""

from __future__ import annotations

import heapq

_SLACK = 1000


class FirstKeys:
    """Keeps the first ``limit`` of the keys that it is told, in bounded memory.

    Args:
        prefix: what keys must begin with.
        after: only keys that come later, in the order of their bytes, count.
        limit: how many there may be, at least one.
    """

    __slots__ = ("_after", "_bound", "_found", "_limit", "_most", "_prefix")

    def __init__(self, prefix: bytes, after: bytes, limit: int) -> None:
        self._prefix = prefix
        self._after = after
        self._limit = max(limit, 1)
        self._most = 4 * self._limit + _SLACK
        self._found: set[bytes] = set()
        self._bound: bytes | None = None
        """Keys beyond it have been dropped; those up to it are known."""

    def add(self, key: bytes) -> None:
        """Count a key that is there; telling it twice does no harm."""
        if not key.startswith(self._prefix) or key <= self._after:
            return
        if self._bound is not None and key > self._bound:
            return
        self._found.add(key)
        if len(self._found) > self._most:
            kept = heapq.nsmallest(self._limit + 1, self._found)
            self._found, self._bound = set(kept), kept[-1]

    def discard(self, key: bytes) -> None:
        """Take back a key that is gone."""
        self._found.discard(key)

    def page(self) -> tuple[list[bytes], bytes | None]:
        """Return the first keys in order, and after which key the others come; None without."""
        first = heapq.nsmallest(self._limit, self._found)
        return first, first[-1] if len(self._found) > self._limit else self._bound


__all__ = ["FirstKeys"]
