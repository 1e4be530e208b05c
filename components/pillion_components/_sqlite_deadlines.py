"""One timer for all that wait: futures that are queued in order are late in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any


class Deadlines:
    """Fails futures that are not done in time. Belongs to the running loop.

    A timer for each future would cost as much as a small write.

    Args:
        timeout: seconds for each; None or 0 for no limit.
        failure: makes the exception of a late one.
    """

    def __init__(self, timeout: float | None, failure: Callable[[], Exception]) -> None:
        self.timeout = timeout or 0.0
        self._failure = failure
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, future: asyncio.Future[Any]) -> None:
        """Watch ``future`` from now on."""
        if self.timeout:
            due = self._loop.time() + self.timeout
            self._waiting.append((due, future))
            if self._timer is None:
                self._timer = self._loop.call_at(due, self._ring)

    def tidy(self) -> None:
        """Forget the oldest ones that are done."""
        waiting = self._waiting
        while waiting and waiting[0][1].done():
            waiting.popleft()

    def close(self) -> None:
        """Watch nothing more."""
        if self._timer is not None:
            self._timer.cancel()
        self._waiting.clear()

    def _ring(self) -> None:
        now = self._loop.time()
        waiting = self._waiting
        self._timer = None
        self.tidy()
        while waiting and waiting[0][0] <= now:
            _, future = waiting.popleft()
            if not future.done():
                future.set_exception(self._failure())
        self.tidy()
        if waiting:
            self._timer = self._loop.call_at(waiting[0][0], self._ring)


__all__ = ["Deadlines"]
