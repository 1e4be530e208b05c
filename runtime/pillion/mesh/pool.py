"""All the connections this runtime has opened to others."""

from __future__ import annotations

import asyncio
import random
import ssl
import time
from collections.abc import Callable

from pillion.call import Call, Reply
from pillion.errors import Failure, Unavailable
from pillion.kinds.registry import Instance
from pillion.mesh.caller import CallerConnection
from pillion.mesh.connection import Identify, close_all, log
from pillion.mesh.peer import Peer
from pillion.mesh.settings import DEFAULTS, Settings
from pillion.wheel import Wheel


class PeersCounters:
    """What a pool has seen.

    Attributes:
        connections_opened: connections that became ready.
        connections_failed: attempts that did not.
        connections_broken: ready ones that ended without a word.
        identity_refused: attempts that found somebody else at the address.
        protocol_errors: connections closed because the peer broke the protocol.
    """

    __slots__ = (
        "connections_broken",
        "connections_failed",
        "connections_opened",
        "identity_refused",
        "protocol_errors",
    )

    def __init__(self) -> None:
        self.connections_opened = 0
        self.connections_failed = 0
        self.connections_broken = 0
        self.identity_refused = 0
        self.protocol_errors = 0


class Peers:
    """Calls to other runtimes, over a few long-lived connections to each.

    Args:
        ssl_context: TLS 1.3, shows our certificate, ALPN ``pillion/1``.
        identify: reads whose certificate the peer showed; raises NotAllowed.
        trust_domain: ours; peers of another are refused.
        wheel: for deadlines, pings and pauses; on the clock of ``Call.deadline``.
        on_broken: told of every connection that broke or could not be opened.
        clock: seconds; the clock of ``Call.deadline``.
        draw: a random number from [0, 1), for the pauses.

    Attributes:
        counters: plain integers.
    """

    def __init__(
        self,
        *,
        ssl_context: ssl.SSLContext,
        identify: Identify,
        trust_domain: str,
        wheel: Wheel,
        on_broken: Callable[[Instance], None],
        settings: Settings = DEFAULTS,
        clock: Callable[[], float] = time.monotonic,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self.settings = settings
        self.wheel = wheel
        self.now = clock
        self.draw = draw
        self.counters = PeersCounters()
        self._ssl_context = ssl_context
        self._identify = identify
        self._trust_domain = trust_domain
        self._on_broken = on_broken
        self._peers: dict[str, Peer] = {}
        self._connections: set[CallerConnection] = set()
        self._attempts: set[asyncio.Task[None]] = set()
        self._closed = False
        self._drained: asyncio.Future[None] | None = None

    @property
    def connections_open(self) -> int:
        """Connections at this time, those being opened included."""
        return len(self._connections)

    @property
    def streams_open(self) -> int:
        """Calls at this time, without those that wait for a connection."""
        return sum(len(connection.calls.streams) for connection in self._connections)

    async def call(self, instance: Instance, call: Call) -> Reply:
        """Make ``call`` at ``instance``; the reply comes back as soon as its head is here.

        A body stream is left alone when the call fails before its first chunk was read, so that
        another instance can be tried with it; after that it is closed here.

        Raises:
            Unavailable: no connection, or it broke; ``reached`` tells whether the call may have
                arrived.
            TimedOut: ``call.deadline`` has passed. It covers the reply's body as well.
            Overloaded: too many calls wait for a connection to this instance.
            Failure: what the callee's handler raised.
        """
        peer = self._peers.get(instance.id)
        connection = None if peer is None else peer.pick()
        if connection is None or connection.congested:
            connection = await self._wait(instance, call.deadline)
        exchange = connection.open(call)
        try:
            return await exchange.head
        except asyncio.CancelledError:
            exchange.abandoned()
            raise

    async def drain(self, grace: float) -> None:
        """Give the calls in flight ``grace`` seconds, then close."""
        loop = asyncio.get_running_loop()
        self._drained = loop.create_future()
        for peer in self._peers.values():
            peer.watch()
        if self._busy():
            await asyncio.wait([self._drained], timeout=grace)
        await self.aclose()

    async def aclose(self) -> None:
        """Close now; calls in flight fail."""
        self._closed = True
        attempts = list(self._attempts)
        for attempt in attempts:
            attempt.cancel()
        if attempts:
            await asyncio.wait(attempts)
        self._connections = {one for one in self._connections if one.connected}
        for peer in list(self._peers.values()):
            peer.close("this runtime is shutting down")
        await close_all(list(self._connections), self.settings.close_timeout)
        self._peers.clear()

    async def _wait(self, instance: Instance, deadline: float) -> CallerConnection:
        while True:
            if self._closed:
                raise Unavailable(
                    "this runtime is shutting down", reason="shutting-down", reached=False
                )
            peer = self._peers.get(instance.id)
            if peer is None:
                peer = self._peers[instance.id] = Peer(self, instance)
            connection = peer.pick()
            if connection is None:
                await peer.wait(deadline)
            elif not connection.congested:
                return connection
            else:
                await connection.turn(deadline)
                if connection.calls.open_to_calls:
                    return connection

    def _busy(self) -> bool:
        return self.streams_open > 0 or any(peer.waiting for peer in self._peers.values())

    async def _open(self, connection: CallerConnection, peer: Peer) -> None:
        instance = peer.instance
        settings = self.settings
        try:
            async with asyncio.timeout(settings.connect_timeout):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    instance.host,
                    instance.port,
                    ssl=self._ssl_context,
                    ssl_handshake_timeout=settings.handshake_timeout,
                    ssl_shutdown_timeout=settings.close_timeout,
                )
        except ssl.SSLCertVerificationError as error:
            failure = Unavailable(
                f"{instance.host}:{instance.port} has a certificate that is not of our authority: "
                f"{error.verify_message}",
                reason="peer-identity",
                reached=False,
            )
            self.identity_refused(connection, failure)
            peer.failed(connection, failure.message, reason="peer-identity")
        except Exception as error:  # noqa: BLE001 - the calls that wait must learn of anything
            peer.failed(connection, str(error) or type(error).__name__)

    # peer.Pool

    def connect(self, peer: Peer) -> CallerConnection:
        """Start to open a connection; the task is ours and ends in :meth:`aclose` at the latest."""
        connection = CallerConnection(
            peer,
            peer.instance,
            identify=self._identify,
            trust_domain=self._trust_domain,
            wheel=self.wheel,
            settings=self.settings,
            clock=self.now,
        )
        self._connections.add(connection)
        task = asyncio.get_running_loop().create_task(self._open(connection, peer))
        self._attempts.add(task)
        task.add_done_callback(self._attempts.discard)
        return connection

    def opened(self) -> None:
        """Count a connection that is ready."""
        self.counters.connections_opened += 1

    def failed(self, instance: Instance, why: str, *, known_to_work: bool) -> None:
        """Count an attempt that came to nothing, and pass it on."""
        self.counters.connections_failed += 1
        log.info("no mesh connection to %s:%d: %s", instance.host, instance.port, why)
        if not known_to_work:
            self._report(instance)

    def broken(self, instance: Instance, why: str) -> None:
        """Count a connection that broke, and pass it on."""
        self.counters.connections_broken += 1
        log.info("the mesh connection to %s:%d broke: %s", instance.host, instance.port, why)
        self._report(instance)

    def identity_refused(self, connection: CallerConnection, failure: Failure) -> None:
        """Count and log somebody else at the address of an instance."""
        self.counters.identity_refused += 1
        log.warning("refused a mesh peer: %s", failure.message)

    def protocol_error(self, connection: CallerConnection, reason: str) -> None:
        """Count and log a peer that broke the protocol."""
        self.counters.protocol_errors += 1
        log.warning("closed the mesh connection to %s: %s", connection.address, reason)

    def closed(self, connection: CallerConnection) -> None:
        """Forget a connection."""
        self._connections.discard(connection)

    def settled(self, peer: Peer) -> bool:
        """Forget a peer that nobody needs; True while draining."""
        if peer.idle:
            self._peers.pop(peer.instance.id, None)
        drained = self._drained
        if drained is None:
            return False
        if not drained.done() and not self._busy():
            drained.set_result(None)
        return True

    def _report(self, instance: Instance) -> None:
        if not self._closed:
            self._on_broken(instance)
