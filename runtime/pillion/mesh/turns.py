"""Whose turn it is to write while the transport is full."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable

from pillion.errors import Failure, TimedOut
from pillion.inline import Waiter
from pillion.wheel import Wheel


class Turns:
    """First come, first served: each that waits may write one frame when there is room.

    Attributes:
        paused: True while the transport takes no more.
    """

    __slots__ = ("_waiting", "_wheel", "paused")

    def __init__(self, wheel: Wheel) -> None:
        self.paused = False
        self._waiting: deque[Waiter[None]] = deque()
        self._wheel = wheel

    @property
    def taken(self) -> bool:
        """True when whoever wants to write must wait."""
        return self.paused or bool(self._waiting)

    async def wait(self, deadline: float = math.inf) -> None:
        """Wait until one frame may be written.

        Raises:
            TimedOut: the deadline has passed.
            Failure: what :meth:`fail` was given.
        """
        waiter: Waiter[None] = Waiter()
        self._waiting.append(waiter)
        await wait_in(self._waiting, waiter, self._wheel, deadline)

    def resume(self) -> None:
        """Let those that wait write until the transport is full again."""
        self.paused = False
        waiting = self._waiting
        while waiting and not self.paused:
            waiting.popleft().set(None)

    def fail(self, failure: Callable[[], Failure]) -> None:
        """Turn away those that wait, each with a failure of its own."""
        while self._waiting:
            self._waiting.popleft().fail(failure())


async def wait_in(
    queue: deque[Waiter[None]], waiter: Waiter[None], wheel: Wheel, deadline: float
) -> None:
    """Await ``waiter``, which is in ``queue`` and leaves it when the wait is given up.

    Raises:
        TimedOut: the deadline has passed.
    """
    timer = wheel.at(deadline, lambda: waiter.fail(_late()))
    try:
        await waiter
    except BaseException:
        if waiter in queue:
            queue.remove(waiter)
        raise
    finally:
        timer.cancel()


def _late() -> TimedOut:
    return TimedOut("the deadline passed while the call waited to be sent", reached=False)
