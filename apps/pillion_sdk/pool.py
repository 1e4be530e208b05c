"""The connections to the runtime: a few, kept open, each used by one call at a time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import anyio

from pillion_sdk.environment import Endpoint

if TYPE_CHECKING:
    from pillion_sdk.connection import Connection

IDLE_LIMIT = 50.0
"""Seconds after which an idle connection is not used again."""


class ConnectionBroken(Exception):
    """The other side closed, reset, or broke the protocol; the message says which."""


class Pool:
    """Connections to one endpoint.

    Args:
        endpoint: where they go; without it, where the environment says at the first call.
        size: how many there may be; who asks for more waits.
    """

    def __init__(self, endpoint: Endpoint | None, size: int) -> None:
        self._endpoint = endpoint
        self._size = size
        self._room: anyio.Semaphore | None = None
        self._idle: list[Connection] = []

    @property
    def endpoint(self) -> Endpoint:
        """Where the connections go."""
        if self._endpoint is None:
            self._endpoint = Endpoint.from_environment()
        return self._endpoint

    async def take(self) -> Connection:
        """Return a connection that nobody else uses, an idle one if there is one.

        Raises:
            OSError: nobody listens at the endpoint, or the way there is blocked.
        """
        if self._room is None:
            self._room = anyio.Semaphore(self._size, fast_acquire=True)
        await self._room.acquire()
        try:
            oldest = time.monotonic() - IDLE_LIMIT
            while self._idle:
                connection = self._idle.pop()
                if connection.idle_since >= oldest and not connection.is_stale():
                    return connection
                await connection.aclose()
            return await self._open()
        except BaseException:
            self._room.release()
            raise

    async def replace(self, broken: Connection) -> Connection:
        """Return a new connection in the place of one that broke; raises like :meth:`take`."""
        await broken.aclose()
        return await self._open()

    async def give_back(self, connection: Connection) -> None:
        """Take a connection back; one whose exchange is not over is closed."""
        try:
            if connection.reusable:
                connection.reset()
                self._idle.append(connection)
                await self._close_old()
            else:
                with anyio.CancelScope(shield=True):
                    await connection.aclose()
        finally:
            if self._room is not None:
                self._room.release()

    async def _close_old(self) -> None:
        """Close what a burst left behind: the last one back is the first one out."""
        oldest = self._idle[-1].idle_since - IDLE_LIMIT
        while self._idle and self._idle[0].idle_since < oldest:
            await self._idle.pop(0).aclose()

    async def aclose(self) -> None:
        """Close the connections that are idle."""
        while self._idle:
            await self._idle.pop().aclose()

    async def _open(self) -> Connection:
        # Here and not above: an app that calls nobody never loads h11.
        from pillion_sdk.connection import Connection

        return await Connection.open(self.endpoint)

    def __repr__(self) -> str:
        free = self._size if self._room is None else self._room.value
        return f"<Pool {self._size - free} in use, {len(self._idle)} idle, {self._size} at most>"
