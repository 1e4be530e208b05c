"""Where other runtimes call this one."""

from __future__ import annotations

import asyncio
import inspect
import socket
import ssl
import time
from collections.abc import Callable, Coroutine
from typing import Any

from pillion.call import Call, Handler, Reply, Target
from pillion.errors import Failure, Unavailable
from pillion.mesh.callee import CalleeConnection, Service
from pillion.mesh.connection import Identify, close_all, log
from pillion.mesh.settings import DEFAULTS, Settings
from pillion.wheel import Wheel

PAUSE = 0.1
"""Seconds without accepting after the system had no socket to give."""


class ListenerCounters:
    """What a listener has seen.

    Attributes:
        connections_accepted: connections whose peer is known and has said Hello.
        connections_refused: connections that ended before that.
        protocol_errors: connections closed because the peer broke the protocol.
    """

    __slots__ = ("connections_accepted", "connections_refused", "protocol_errors")

    def __init__(self) -> None:
        self.connections_accepted = 0
        self.connections_refused = 0
        self.protocol_errors = 0


class MeshListener:
    """Accepts connections and answers the calls on them.

    Args:
        handler: answers a call; its ``caller`` is what the certificate says.
        ssl_context: TLS 1.3, asks for a certificate, ALPN ``pillion/1``.
        identify: reads whose certificate it is; raises NotAllowed.
        accepts: namespace and app id that calls must be for.
        wheel: for pings and timeouts.
        clock: seconds; the clock of ``Call.deadline``.

    Attributes:
        counters: plain integers.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        ssl_context: ssl.SSLContext,
        identify: Identify,
        accepts: tuple[str, str],
        wheel: Wheel,
        settings: Settings = DEFAULTS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        namespace, app_id = accepts
        self.counters = ListenerCounters()
        self._service = Service(_coroutine(handler), Target("app", app_id, namespace), clock)
        self._ssl_context = ssl_context
        self._identify = identify
        self._wheel = wheel
        self._settings = settings
        self._connections: set[CalleeConnection] = set()
        self._socket: socket.socket | None = None
        self._accepting: asyncio.Task[None] | None = None

    @property
    def connections_open(self) -> int:
        """Connections at this time."""
        return len(self._connections)

    @property
    def streams_open(self) -> int:
        """Calls at this time."""
        return sum(len(connection.served.streams) for connection in self._connections)

    async def start(self, host: str, port: int) -> int:
        """Listen on ``host`` (empty for all addresses); return the port, chosen when it was 0.

        Raises:
            Unavailable: the address cannot be used.
        """
        loop = asyncio.get_running_loop()
        try:
            (family, _, _, _, address), *_ = await loop.getaddrinfo(
                host or "0.0.0.0", port, type=socket.SOCK_STREAM
            )
            self._socket = socket.create_server(address[:2], family=family, backlog=1024)
        except OSError as error:
            raise Unavailable(
                f"the mesh listener cannot use {host or '*'}:{port}: {error.strerror or error}",
                reason="address-in-use",
                reached=False,
            ) from error
        self._socket.settimeout(0.0)
        self._accepting = loop.create_task(self._accept(self._socket))
        return int(self._socket.getsockname()[1])

    async def drain(self, grace: float) -> None:
        """Take no more calls, give those in flight ``grace`` seconds, close."""
        await self._stop_accepting()
        for connection in list(self._connections):
            connection.leave("shutting down")
        # The callers close: then no reply can be lost to a socket closed under unread bytes.
        gone = [connection.gone for connection in self._connections]
        if gone:
            await asyncio.wait(gone, timeout=grace)
        await self.aclose()

    async def aclose(self) -> None:
        """Close now; calls in flight are cancelled."""
        await self._stop_accepting()
        await close_all(list(self._connections), self._settings.close_timeout)

    async def _stop_accepting(self) -> None:
        task, self._accepting = self._accepting, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        room = asyncio.Semaphore(self._settings.max_handshakes)
        async with asyncio.TaskGroup() as handshakes:
            while True:
                await room.acquire()
                try:
                    accepted, _ = await loop.sock_accept(listening)
                except OSError as error:
                    room.release()
                    log.warning("the mesh listener cannot accept: %s", error)
                    await asyncio.sleep(PAUSE)
                    continue
                handshakes.create_task(self._handshake(accepted, room))

    async def _handshake(self, accepted: socket.socket, room: asyncio.Semaphore) -> None:
        settings = self._settings
        address: object = "an unknown address"
        try:
            address = accepted.getpeername()
            if len(self._connections) >= settings.max_connections:
                accepted.close()
                self._refuse(address, "too many connections are open")
                return
            connection = CalleeConnection(
                self,
                self._service,
                identify=self._identify,
                wheel=self._wheel,
                settings=settings,
            )
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection,
                accepted,
                ssl=self._ssl_context,
                ssl_handshake_timeout=settings.handshake_timeout,
                ssl_shutdown_timeout=settings.close_timeout,
            )
        except Exception as error:  # noqa: BLE001 - one bad peer must not end the accepting
            self._refuse(address, str(error) or type(error).__name__)
        finally:
            room.release()

    def _refuse(self, address: object, why: str) -> None:
        self.counters.connections_refused += 1
        log.warning("refused a mesh connection from %s: %s", address, why)

    # callee.Owner

    def admitted(self, connection: CalleeConnection) -> None:
        """Keep a connection."""
        self._connections.add(connection)

    def opened(self, connection: CalleeConnection) -> None:
        """Count a connection."""
        self.counters.connections_accepted += 1

    def refused(self, connection: CalleeConnection, failure: Failure) -> None:
        """Count and log a peer that was turned away."""
        self._refuse(connection.address, failure.message)

    def lost(self, connection: CalleeConnection) -> None:
        """Forget a connection."""
        if connection in self._connections:
            self._connections.remove(connection)
            if not connection.ready and self._socket is not None:
                self._refuse(connection.address, connection.cause)

    def broke_rules(self, connection: CalleeConnection, reason: str) -> None:
        """Count and log a peer that broke the protocol."""
        self.counters.protocol_errors += 1
        log.warning("closed the mesh connection from %s: %s", connection.address, reason)


def _coroutine(handler: Handler) -> Callable[[Call], Coroutine[Any, Any, Reply]]:
    if inspect.iscoroutinefunction(handler):
        return handler

    async def wrapped(call: Call) -> Reply:
        return await handler(call)

    return wrapped
