"""Waiting for a condition over several things that change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Changes:
    """Told of every change; lets one task wait until what it looks for is true."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Say that something changed."""
        self._event.set()

    async def until(
        self, condition: Callable[[], bool], within: float | None = None, poll: float | None = None
    ) -> bool:
        """Wait until ``condition()`` holds and return True, or False after ``within`` seconds.

        Args:
            condition: is asked again after every change.
            within: seconds, or None to wait for ever.
            poll: seconds after which to ask again without a change, for what nobody tells us of.
        """
        loop = asyncio.get_running_loop()
        deadline = None if within is None else loop.time() + within
        while not condition():
            now = loop.time()
            if deadline is not None and now >= deadline:
                return False
            ends = [each for each in (deadline, poll and now + poll) if each is not None]
            self._event.clear()
            try:
                async with asyncio.timeout_at(min(ends, default=None)):
                    await self._event.wait()
            except TimeoutError:
                continue
        return True
