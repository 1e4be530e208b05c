"""Calls over HTTP/1.1 to one origin: a pool of kept-alive connections.

Redirects are returned, not followed; nothing is decoded; bodies stream both ways.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections import deque
from dataclasses import dataclass

from pillion.body import BodyStream
from pillion.call import IDEMPOTENT, Headers, Reply
from pillion.errors import Overloaded, TimedOut, Unavailable
from pillion.inline import Waiter, in_task
from pillion.net.http_connection import ClientConnection
from pillion.wheel import Timer, Wheel


@dataclass(frozen=True, slots=True)
class Origin:
    """Where calls go.

    Attributes:
        host, port: of the TCP connection.
        tls: how to encrypt, or None for plain HTTP.
        server_name: the name asked for in the TLS handshake; empty for ``host``.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""

    @property
    def authority(self) -> bytes:
        """The ``Host`` header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = 443 if self.tls is not None else 80
        return (host if self.port == default else f"{host}:{self.port}").encode()

    def __str__(self) -> str:
        return f"{'https' if self.tls is not None else 'http'}://{self.authority.decode()}"


@dataclass(slots=True)
class ClientLimits:
    """What one client allows.

    Attributes:
        connections: open at one time.
        waiting: calls that wait for a connection; more are shed.
        head: bytes of a reply's header block.
        body: bytes of a reply's body; -1 for no limit.
        connect_timeout: seconds for a TCP and TLS handshake.
        idle: connections kept for later.
    """

    connections: int = 1024
    waiting: int = 4096
    head: int = 64 * 1024
    body: int = -1
    connect_timeout: float = 5.0
    idle: int = 256


class HttpClient:
    """Sends requests to one origin.

    ``name`` is what error messages call the origin, such as ``app``.
    """

    __slots__ = (
        "_closed",
        "_host_line",
        "_idle",
        "_limits",
        "_name",
        "_open",
        "_origin",
        "_waiting",
        "_wheel",
    )

    def __init__(
        self, origin: Origin, wheel: Wheel, limits: ClientLimits, name: str = "origin"
    ) -> None:
        self._origin = origin
        self._host_line = b"Host: %b\r\n" % origin.authority
        self._wheel = wheel
        self._limits = limits
        self._name = name
        self._idle: list[ClientConnection] = []
        self._open: set[ClientConnection] = set()
        self._waiting: deque[Waiter[None]] = deque()
        self._closed = False

    async def send(
        self,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: bytes | BodyStream,
        deadline: float,
    ) -> Reply:
        """Send one request and return the reply once its head is here.

        ``target`` is the escaped path with its query; ``headers`` are end-to-end ones without
        ``Content-Length``, which is added. ``deadline`` is on ``time.monotonic()``.

        Raises:
            Unavailable: no connection, or it broke off (``reached`` tells whether the request may
                have arrived).
            TimedOut: the deadline passed.
            Overloaded: too many calls wait for a connection.
        """
        while True:
            connection = await self._connection(deadline)
            reused = connection.used
            try:
                return await connection.send(
                    self._host_line, method, target, headers, body, deadline
                )
            except Unavailable as failure:
                # A kept-alive connection may have been closed by the other side just now. That
                # says nothing about the other side's health: the next connection tells.
                stale = reused and failure.reason == "connection-broken" and not connection.heard
                replayable = isinstance(body, bytes) or not body.started
                safe = not failure.reached or (method in IDEMPOTENT and replayable)
                if not (stale and safe):
                    raise

    def close(self) -> None:
        """Close every connection; calls in flight break off."""
        self._closed = True
        for connection in list(self._open):
            connection.abort()
        self._wake_all()

    def retire(self) -> None:
        """Close idle connections now and the others when their reply is complete."""
        self._closed = True
        for connection in list(self._idle):
            connection.abort()
        self._wake_all()

    @property
    def open_connections(self) -> int:
        """Connections open now, idle ones included."""
        return len(self._open)

    # What connections tell.

    def connection_idle(self, connection: ClientConnection) -> None:
        """A reply is complete and the connection stays."""
        if self._closed or len(self._idle) >= self._limits.idle:
            connection.abort()
            return
        self._idle.append(connection)
        self._wake_one()

    def connection_closed(self, connection: ClientConnection) -> None:
        """A connection is gone."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._wake_one()

    def _wake_one(self) -> None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set(None)
                return

    def _wake_all(self) -> None:
        while self._waiting:
            self._waiting.popleft().set(None)

    async def _connection(self, deadline: float) -> ClientConnection:
        while True:
            if self._closed:
                raise Unavailable(f"the {self._name} channel is closed", reached=False)
            if self._idle:
                return self._idle.pop()
            if len(self._open) < self._limits.connections:
                return await self._connect(deadline)
            await self._wait_for_room(deadline)

    async def _wait_for_room(self, deadline: float) -> None:
        if len(self._waiting) >= self._limits.waiting:
            raise Overloaded(f"too many calls wait for a connection to the {self._name}")
        waiter: Waiter[None] = Waiter()
        timer: Timer = self._wheel.at(
            deadline,
            lambda: waiter.fail(
                TimedOut(f"no connection to the {self._name} within the deadline", reached=False)
            ),
        )
        self._waiting.append(waiter)
        try:
            await waiter
        except BaseException:
            if waiter.given:
                # The turn came together with the cancellation: pass it on.
                self._wake_one()
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
            raise
        finally:
            timer.cancel()

    async def _connect(self, deadline: float) -> ClientConnection:
        connection = ClientConnection(self, self._wheel, self._limits.head, self._limits.body)
        # It counts from here on, so that the limit holds while connections are being made.
        self._open.add(connection)
        limit = time.monotonic() + self._limits.connect_timeout
        try:
            await in_task(self._handshake(connection, min(limit, deadline)))
        except TimeoutError:
            self.connection_closed(connection)
            if deadline <= limit:
                raise TimedOut(
                    f"no connection to the {self._name} within the deadline", reached=False
                ) from None
            raise Unavailable(
                f"no connection to the {self._name} at {self._origin} in time",
                reason="connect-timeout",
                reached=False,
            ) from None
        except (OSError, UnicodeError) as error:  # a host name may not even be encodable
            self.connection_closed(connection)
            raise Unavailable(
                f"cannot connect to the {self._name} at {self._origin}: {_why(error)}",
                reason="connect-failed",
                reached=False,
            ) from None
        except BaseException:
            self.connection_closed(connection)
            connection.abort()
            raise
        return connection

    async def _handshake(self, connection: ClientConnection, until: float) -> None:
        origin = self._origin
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(until - time.monotonic()):
            await loop.create_connection(
                lambda: connection,
                origin.host,
                origin.port,
                ssl=origin.tls,
                server_hostname=(origin.server_name or origin.host) if origin.tls else None,
            )


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
