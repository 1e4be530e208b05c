"""Replies that go on: server-sent events, fed by tasks that this module owns."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing

from pillion.body import BodyStream
from pillion.call import Reply
from pillion.errors import Failure, Overloaded, Unavailable

log = logging.getLogger("pillion.events")

MOST = 1024
"""Streams of one runtime at one time."""
ROOM = 64 * 1024
"""Bytes that wait for a slow reader before the source is asked for no more."""
BEAT = 15.0
"""Seconds between two signs of life, by which proxies and readers know that nothing is broken."""


class EventStreams:
    """The streams that are open; :meth:`aclose` ends them."""

    __slots__ = ("_beat", "_closing", "_tasks")

    def __init__(self, beat: float = BEAT) -> None:
        self._beat = beat
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()

    def reply(self, events: AsyncGenerator[bytes, None]) -> Reply:
        """Answer with ``events``, each complete, until they end or the reader goes away.

        Raises:
            Overloaded: there are too many streams.
            Unavailable: the runtime is stopping.
        """
        if self._closing:
            raise Unavailable("the runtime is stopping", reason="stopping", reached=False)
        if len(self._tasks) >= MOST:
            raise Overloaded(f"there are {MOST} event streams already; end one or try later")
        room = asyncio.Event()

        def abandoned() -> None:
            task.cancel()

        body = BodyStream(on_consumed=lambda _size: room.set(), on_abandoned=abandoned)
        task = asyncio.get_running_loop().create_task(self._follow(events, body, room))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda _task: body.finish())  # even if it never began
        headers = [(b"Content-Type", b"text/event-stream"), (b"Cache-Control", b"no-cache")]
        return Reply(200, headers, body)

    async def aclose(self) -> None:
        """End all streams in order, and take no more."""
        self._closing = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(
        self, events: AsyncGenerator[bytes, None], body: BodyStream, room: asyncio.Event
    ) -> None:
        async with asyncio.TaskGroup() as group:
            beat = group.create_task(_beat(body, self._beat))
            await _pass_on(events, body, room)
            beat.cancel()


async def _pass_on(
    events: AsyncGenerator[bytes, None], body: BodyStream, room: asyncio.Event
) -> None:
    try:
        async with aclosing(events):
            async for event in events:
                body.feed(event)
                while body.buffered > ROOM:
                    room.clear()
                    await room.wait()
    except Failure as failure:
        body.fail(failure)
    except Exception:
        log.exception("an event stream broke off")
        body.fail(Unavailable("the event stream broke off; the runtime's log says more"))


async def _beat(body: BodyStream, seconds: float) -> None:
    while True:
        await asyncio.sleep(seconds)
        if not body.buffered:
            body.feed(b":\n\n")
