"""Timers from one wheel: a deadline per call without a loop handle per call.

Almost every deadline is cancelled before it fires. Here that costs a dictionary insert and an
attribute store; the loop sees one timer for all of them (hashed timing wheel, Varghese and Lauck,
SOSP 1987). Timers fire up to one tick late and never early.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable
from heapq import heappop, heappush

log = logging.getLogger("pillion.wheel")

TICK = 0.01
"""Seconds between two turns of the wheel."""


class Timer:
    """One scheduled call; :meth:`cancel` is idempotent."""

    __slots__ = ("callback", "slot")

    def __init__(self, callback: Callable[[], None], slot: dict[Timer, None] | None) -> None:
        self.callback: Callable[[], None] | None = callback
        self.slot = slot

    def cancel(self) -> None:
        """Forget the call, and let go of all it holds."""
        self.callback = None
        slot, self.slot = self.slot, None
        if slot is not None:
            slot.pop(self, None)


class Wheel:
    """All timers of one event loop.

    ``clock`` gives seconds and never goes backwards; tests pass their own and call :meth:`turn`.
    """

    __slots__ = ("_clock", "_handle", "_loop", "_next", "_slots", "_ticks")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._slots: dict[int, dict[Timer, None]] = {}
        self._ticks: list[int] = []
        self._handle: asyncio.TimerHandle | None = None
        self._next = math.inf

    def after(self, delay: float, callback: Callable[[], None]) -> Timer:
        """Call back in ``delay`` seconds."""
        return self.at(self._clock() + delay, callback)

    def at(self, when: float, callback: Callable[[], None]) -> Timer:
        """Call back at ``when``, on the wheel's clock; a time in the past fires next turn."""
        if when == math.inf:
            return Timer(callback, None)
        tick = int(when / TICK) + 1
        slot = self._slots.get(tick)
        if slot is None:
            slot = self._slots[tick] = {}
            heappush(self._ticks, tick)
            if tick < self._next:
                self._arm(tick)
        timer = Timer(callback, slot)
        slot[timer] = None
        return timer

    def turn(self) -> None:
        """Fire what is due; a callback that raises is logged, and stops none of the others."""
        self._handle = None
        now = int(self._clock() / TICK)
        ticks = self._ticks
        due: list[Timer] = []
        while ticks and ticks[0] <= now:
            due += self._slots.pop(heappop(ticks))
        for timer in due:
            # One that an earlier callback has cancelled meanwhile is not called.
            callback, timer.callback, timer.slot = timer.callback, None, None
            if callback is not None:
                try:
                    callback()
                except Exception:
                    log.exception("a timer failed")
        self._next = math.inf
        if ticks:
            self._arm(ticks[0])

    def close(self) -> None:
        """Drop every timer."""
        self._slots.clear()
        self._ticks.clear()
        self._next = math.inf
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _arm(self, tick: int) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._next = tick
        if self._loop is not None:
            self._handle = self._loop.call_later(max(0.0, tick * TICK - self._clock()), self.turn)
