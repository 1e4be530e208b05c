"""The connections to one instance: opened on demand, shared by all calls, paused after failures."""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

from pillion.errors import Failure, Overloaded, Unavailable
from pillion.inline import Waiter
from pillion.kinds.registry import Instance
from pillion.mesh.caller import CallerConnection
from pillion.mesh.settings import Settings
from pillion.mesh.turns import wait_in
from pillion.wheel import Timer, Wheel


class Pool(Protocol):
    """What a peer asks of the pool it is in."""

    settings: Settings
    wheel: Wheel

    def now(self) -> float:
        """Seconds on a clock that never goes backwards."""

    def draw(self) -> float:
        """Return a random number from [0, 1)."""

    def connect(self, peer: Peer) -> CallerConnection:
        """Start to open a connection."""

    def opened(self) -> None:
        """A connection is ready."""

    def failed(self, instance: Instance, why: str, *, known_to_work: bool) -> None:
        """A connection to ``instance`` could not be opened; perhaps others to it are open."""

    def broken(self, instance: Instance, why: str) -> None:
        """A connection to ``instance`` broke."""

    def identity_refused(self, connection: CallerConnection, failure: Failure) -> None:
        """Somebody else was found at the instance's address."""

    def protocol_error(self, connection: CallerConnection, reason: str) -> None:
        """The instance broke the protocol."""

    def closed(self, connection: CallerConnection) -> None:
        """Forget a connection."""

    def settled(self, peer: Peer) -> bool:
        """Note that a stream or a connection of ``peer`` ended; True to be told of more."""


class Peer:
    """One instance and the way to it.

    Attributes:
        instance: who it is.
        connections: those that take calls.
        opening: the one being opened.
        waiting: calls that wait for a connection or for a free stream on one.
        failures: in a row.
        retry_at: no attempt is made before this time.
    """

    __slots__ = (
        "_cleanup",
        "_grow_at",
        "_pool",
        "_why",
        "connections",
        "failures",
        "instance",
        "opening",
        "retry_at",
        "waiting",
    )

    def __init__(self, pool: Pool, instance: Instance) -> None:
        self._pool = pool
        self._grow_at = pool.settings.grow_at
        self.instance = instance
        self.connections: list[CallerConnection] = []
        self.opening: CallerConnection | None = None
        self.waiting: deque[Waiter[None]] = deque()
        self.failures = 0
        self.retry_at = -math.inf
        self._why = ""
        self._cleanup: Timer | None = None

    @property
    def idle(self) -> bool:
        """True when nothing would be lost by forgetting this peer."""
        return (
            not self.connections
            and self.opening is None
            and not self.waiting
            and self._cleanup is None
        )

    def pick(self) -> CallerConnection | None:
        """Return the connection with the fewest streams, None when none takes a call now."""
        if len(self.connections) == 1:
            connection = self.connections[0]
            streams = len(connection.calls.streams)
            room = min(self._grow_at, connection.calls.capacity)
            if streams < room and not connection.congested:
                return connection
        return self._pick()

    def _pick(self) -> CallerConnection | None:
        best = None
        fewest = 1 << 31
        for connection in self.connections:
            streams = len(connection.calls.streams)
            if connection.congested:
                streams += 1 << 30  # only when all the others are
            if streams < fewest and connection.calls.open_to_calls:
                best = connection
                fewest = streams
        settings = self._pool.settings
        if (
            fewest >= self._grow_at
            and self.opening is None
            and 0 < len(self.connections) < settings.connections_per_peer
            and self._pool.now() >= self.retry_at
        ):
            self.opening = self._pool.connect(self)
        return best

    async def wait(self, deadline: float) -> None:
        """Wait until :meth:`pick` may have something.

        Raises:
            Unavailable: no connection could be opened, or the last attempt failed just now.
            Overloaded: too many calls wait already.
            TimedOut: the deadline has passed.
        """
        if len(self.waiting) >= self._pool.settings.max_waiting:
            raise Overloaded(
                f"{len(self.waiting)} calls wait for a connection to {self._name}",
                reason="mesh-queue-full",
            )
        self._ensure_opening()
        waiter: Waiter[None] = Waiter()
        self.waiting.append(waiter)
        self.watch()
        await wait_in(self.waiting, waiter, self._pool.wheel, deadline)

    def watch(self) -> None:
        """Be told of every stream that ends."""
        for connection in self.connections:
            connection.watched = True

    def close(self, why: str) -> None:
        """Fail the calls that wait; nothing more is opened."""
        if self._cleanup is not None:
            self._cleanup.cancel()
        self.retry_at = math.inf
        self._why = why
        self._fail_waiting("shutting-down")

    def _ensure_opening(self) -> None:
        if self.opening is not None:
            return
        if not self.connections:
            now = self._pool.now()
            if self.retry_at == math.inf:
                raise self._unavailable("shutting-down")
            if now < self.retry_at:
                raise self._unavailable("connect-backoff", retry_after=self.retry_at - now)
            self.opening = self._pool.connect(self)

    # caller.Owner

    def ready(self, connection: CallerConnection) -> None:
        """Let the waiting calls go."""
        if connection is self.opening:
            self.opening = None
        self.connections.append(connection)
        self._pool.opened()
        if self.waiting:
            self.freed(connection)

    def freed(self, _connection: CallerConnection) -> None:
        """Let as many waiting calls go as there are free streams."""
        waiting = self.waiting
        while waiting and self.pick() is not None:
            waiting.popleft().set(None)
        if waiting:
            self.watch()
        elif not self._pool.settled(self):
            for connection in self.connections:
                connection.watched = False

    def leaving(self, connection: CallerConnection) -> None:
        """Give the connection no more calls."""
        if connection in self.connections:
            self.connections.remove(connection)

    def refused(self, connection: CallerConnection, failure: Failure) -> None:
        """Note that somebody else is at the address."""
        self._pool.identity_refused(connection, failure)
        self.failed(connection, failure.message, reason="peer-identity")

    def broke_rules(self, connection: CallerConnection, reason: str) -> None:
        """Note that the peer broke the protocol."""
        self._pool.protocol_error(connection, reason)

    def lost(self, connection: CallerConnection) -> None:
        """Forget the connection, and tell when it broke."""
        self._pool.closed(connection)
        if not connection.ready:
            self.failed(connection, connection.cause)
            return
        self.leaving(connection)
        now = self._pool.now()
        if connection.orderly or now - connection.opened_at >= self._pool.settings.max_backoff:
            self.failures = 0
        if not connection.orderly or connection.calls.streams:
            self._why = connection.cause
            # The first break is answered by a new connection at once, the next ones wait.
            self._pause(self.failures - 1)
            self._pool.broken(self.instance, connection.cause)
        if not self.connections and self.opening is None and self.waiting:
            self._reopen()
        self._settle()

    # The attempt to open a connection.

    def failed(
        self, connection: CallerConnection, why: str, *, reason: str = "connect-failed"
    ) -> None:
        """Note that an attempt came to nothing; told more than once, the first one counts."""
        self._pool.closed(connection)
        if connection is not self.opening:
            return
        self.opening = None
        self._why = why
        self._pause(self.failures)
        self._pool.failed(self.instance, why, known_to_work=bool(self.connections))
        if not self.connections:
            self._fail_waiting(reason)
        self._settle()

    def _pause(self, doublings: int) -> None:
        settings = self._pool.settings
        self.failures += 1
        if doublings < 0:
            return
        pause = min(settings.max_backoff, settings.backoff * 2.0 ** min(doublings, 30))
        self.retry_at = self._pool.now() + pause * (0.5 + 0.5 * self._pool.draw())

    def _reopen(self) -> None:
        try:
            self._ensure_opening()
        except Unavailable as failure:
            self._fail_waiting(failure.reason)

    def _fail_waiting(self, reason: str) -> None:
        # Those that wait go on at once, and may come back to wait again.
        for _ in range(len(self.waiting)):
            if self.waiting:
                self.waiting.popleft().fail(self._unavailable(reason))

    def _settle(self) -> None:
        if self.failures and not self.connections and self._cleanup is None:
            # The count of failures outlives the pause, so that the next one is longer.
            self._cleanup = self._pool.wheel.after(
                self._pool.settings.max_backoff * 2.0, self._forget
            )
        self._pool.settled(self)

    def _forget(self) -> None:
        self._cleanup = None
        self._pool.settled(self)

    @property
    def _name(self) -> str:
        instance = self.instance
        return f"app {instance.app_id!r} at {instance.host}:{instance.port}"

    def _unavailable(self, reason: str, *, retry_after: float | None = None) -> Unavailable:
        return Unavailable(
            f"{self._name} cannot be reached: {self._why}",
            reason=reason,
            reached=False,
            retry_after=retry_after,
        )
