"""When what was taken out of use is used by nobody any more.

A call counts in the epoch it began in. A change ends the epoch; what the change took out can be
closed once every call of that epoch, and of those before, has ended.
"""

from __future__ import annotations

import asyncio


class Epoch:
    """The calls that began between two changes."""

    __slots__ = ("_idle", "calls")

    def __init__(self) -> None:
        self.calls = 0
        self._idle: asyncio.Event | None = None

    def leave(self) -> None:
        """End one call."""
        self.calls -= 1
        if not self.calls and self._idle is not None:
            self._idle.set()

    async def idle(self) -> None:
        """Return when no call is left; none begins in an epoch that has ended."""
        if self.calls:
            self._idle = self._idle or asyncio.Event()
            await self._idle.wait()


class Epochs:
    """The present epoch, and the earlier ones that still have calls."""

    __slots__ = ("_earlier", "present")

    def __init__(self) -> None:
        self.present = Epoch()
        self._earlier: list[Epoch] = []

    def enter(self) -> Epoch:
        """Begin one call; the epoch is to be left."""
        epoch = self.present
        epoch.calls += 1
        return epoch

    def end(self) -> list[Epoch]:
        """End the present epoch; return those whose calls may still use what it knew."""
        self._earlier = [epoch for epoch in (*self._earlier, self.present) if epoch.calls]
        self.present = Epoch()
        return list(self._earlier)
