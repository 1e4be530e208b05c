"""Lets so many calls to the app at one time, and so many wait; the rest is shed at once."""

from __future__ import annotations

from collections import deque

from pillion.body import BodyStream, discard
from pillion.call import Call, Handler, Reply
from pillion.errors import Overloaded, TimedOut
from pillion.inline import Waiter
from pillion.wheel import Wheel

QUEUE = 1024
"""Calls that wait for their turn, whatever the limit."""


class Admission:
    """The gate before the app.

    A call holds its place until its reply's body is through, so that a streaming reply counts for
    as long as the app works on it.

    Attributes:
        limit: calls at one time; -1 for no limit.
        running, waiting: calls past the gate, and before it.
        shed: calls refused because too many waited.
    """

    __slots__ = ("_handing_over", "_queue", "_wheel", "limit", "running", "shed")

    def __init__(self, limit: int, wheel: Wheel) -> None:
        self.limit = limit
        self.running = 0
        self.shed = 0
        self._wheel = wheel
        self._queue: deque[Waiter[None]] = deque()
        self._handing_over = False

    @property
    def waiting(self) -> int:
        """Calls before the gate."""
        return len(self._queue)

    def __call__(self, inner: Handler) -> Handler:
        """Put the gate before ``inner``."""
        if self.limit < 0:
            return inner

        async def handler(call: Call) -> Reply:
            if self.running >= self.limit:
                await self._wait(call)
            else:
                self.running += 1
            try:
                reply = await inner(call)
            except BaseException:
                self._leave()
                raise
            if isinstance(reply.body, BodyStream):
                reply.body.when_done(self._leave)
            else:
                self._leave()
            return reply

        return handler

    async def _wait(self, call: Call) -> None:
        """Wait for a place; it is handed over, so ``running`` already counts it."""
        if len(self._queue) >= QUEUE:
            self.shed += 1
            discard(call.body)
            raise Overloaded(
                f"the app is busy with {self.limit} calls and {QUEUE} wait; try again later"
            )
        waiter: Waiter[None] = Waiter()
        self._queue.append(waiter)
        timer = self._wheel.at(
            call.deadline,
            lambda: waiter.fail(
                TimedOut("the deadline passed while the app was busy", reached=False)
            ),
        )
        try:
            await waiter
        except BaseException:
            if waiter.given:
                # The place came together with the cancellation: pass it on.
                self._leave()
            elif waiter in self._queue:
                self._queue.remove(waiter)
            discard(call.body)
            raise
        finally:
            timer.cancel()

    def _leave(self) -> None:
        self.running -= 1
        if self._handing_over:
            return
        # A loop rather than one call letting in the next: a queue of calls that end at once must
        # not grow the stack.
        self._handing_over = True
        try:
            while self._queue and self.running < self.limit:
                waiter = self._queue.popleft()
                if not waiter.done():
                    self.running += 1
                    waiter.set(None)
        finally:
            self._handing_over = False
