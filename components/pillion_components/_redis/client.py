"""Commands to one Redis server, many at a time over one connection.

All commands that wait when the connection is ready to send go out together, and replies are handed
out in the order of the commands. So nothing waits for a free connection, a cancelled caller harms
nobody, and a busy runtime sends few and large packets.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Disconnected
from redis.exceptions import NoScriptError, RedisError, ResponseError

from pillion.errors import Failure, Overloaded, Unavailable
from pillion_components._redis.failures import BROKEN, broken, refused, too_late
from pillion_components._redis.settings import ConnectionSettings

Command = Sequence[bytes]

_MOST_WAITING = 16_384
"""Exchanges that wait to be sent or answered."""
_MOST_BYTES = 64 << 20
"""Bytes that wait to be sent, beyond the one exchange that brings them over it."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds in which operations fail at once after connecting failed."""


class Script:
    """A Lua script that the server runs as one step."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text.encode()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest().encode()

    def command(self, keys: Sequence[bytes], values: Sequence[bytes], *, whole: bool) -> Command:
        """Return the command that runs it, by its text or by its digest."""
        head = (b"EVAL", self.text) if whole else (b"EVALSHA", self.digest)
        return (*head, b"%d" % len(keys), *keys, *values)


class _Exchange:
    """Commands that are sent together, and the replies to them."""

    __slots__ = ("count", "future", "packed", "replies", "sent")

    def __init__(self, commands: Sequence[Command], future: asyncio.Future[list[Any]]) -> None:
        self.packed = _pack(commands)
        self.count = len(commands)
        self.replies: list[Any] = []
        self.future = future
        self.sent: float | None = None
        """The loop's time at which it went out."""


class Client:
    """One server; connects when it is needed, and again when the connection was lost.

    Attributes:
        settings: how it is reached.
        place: the server, for messages.
    """

    def __init__(self, settings: ConnectionSettings, name: str, folder: Path | None) -> None:
        host, port = settings.address
        self.settings = settings
        self.place = f"component {name}: Redis at {host}:{port}"
        self._folder = folder
        self._loop = asyncio.get_running_loop()
        self._queued: deque[_Exchange] = deque()
        self._queued_bytes = 0
        self._pending: deque[_Exchange] = deque()
        self._wake = asyncio.Event()
        self._session: asyncio.Task[None] | None = None
        self._heard = 0.0
        self._pause = _FIRST_PAUSE
        self._not_before = 0.0
        self._trouble = ""
        self._closed = False

    async def run(
        self, commands: Sequence[Command], *, within: float, again: bool = False
    ) -> list[Any]:
        """Send commands and return the replies; those that are errors are :class:`ResponseError`.

        Args:
            commands: what to send, in one go.
            within: seconds until it is given up.
            again: True when they may be carried out twice.

        Raises:
            Failure: the server cannot be reached in time.
        """
        until = self._loop.time() + within
        left = self.settings.retries
        while True:
            exchange = _Exchange(commands, self._loop.create_future())
            try:
                return await self._exchanged(exchange, until)
            except Unavailable as failure:
                curable = failure.reason == BROKEN and (again or not failure.reached)
                if not curable or left <= 0 or self._loop.time() >= until:
                    raise
                left -= 1

    async def call(
        self,
        script: Script,
        calls: Sequence[tuple[Sequence[bytes], Sequence[bytes]]],
        *,
        within: float,
        again: bool = False,
    ) -> list[Any]:
        """Run a script for each pair of keys and values; return as :meth:`run` does."""
        until = self._loop.time() + within
        commands = [script.command(keys, values, whole=False) for keys, values in calls]
        replies = await self.run(commands, within=within, again=again)
        unknown = [at for at, reply in enumerate(replies) if isinstance(reply, NoScriptError)]
        if not unknown:
            return replies
        # The server has forgotten the script, or never knew it; the first of them teaches it.
        commands = [
            script.command(*calls[at], whole=position == 0) for position, at in enumerate(unknown)
        ]
        left = max(until - self._loop.time(), 0.001)
        for at, reply in zip(
            unknown, await self.run(commands, within=left, again=again), strict=True
        ):
            replies[at] = reply
        return replies

    def refused(self, reply: Exception) -> Failure:
        """Return what an error reply means."""
        return refused(self.place, reply)

    async def aclose(self) -> None:
        """Break off what is under way."""
        self._closed = True
        session = self._session
        if session is not None:
            session.cancel()
            await asyncio.wait({session})

    async def _exchanged(self, exchange: _Exchange, until: float) -> list[Any]:
        if len(self._queued) + len(self._pending) >= _MOST_WAITING or (
            self._queued_bytes >= _MOST_BYTES
        ):
            raise Overloaded(f"{self.place} has too many operations waiting")
        self._begin()
        self._queued.append(exchange)
        self._queued_bytes += len(exchange.packed)
        self._wake.set()
        alarm = self._loop.call_at(until, self._late, exchange)
        try:
            return await exchange.future
        finally:
            alarm.cancel()

    def _begin(self) -> None:
        """See to it that there is a session.

        Raises:
            Unavailable: connecting has just failed.
        """
        if self._session is not None:
            return
        if self._closed:
            raise Unavailable(f"{self.place} is closed", reason="closed", reached=False)
        if self._loop.time() < self._not_before:
            raise Unavailable(self._trouble, reached=False)
        self._session = self._loop.create_task(self._serve())

    def _late(self, exchange: _Exchange) -> None:
        if exchange.future.done():
            return
        exchange.future.set_exception(too_late(self.place, sent=exchange.sent is not None))
        # A server that said nothing all the time may be gone without a farewell.
        if exchange.sent is not None and self._heard <= exchange.sent and self._session:
            self._session.cancel()

    async def _serve(self) -> None:
        """Connect, then send and receive until the connection breaks."""
        connection = self._connection()
        failure: Failure | None = None
        try:
            try:
                async with asyncio.timeout(self.settings.dial_timeout):
                    await connection.connect()  # type: ignore[no-untyped-call] # theirs
            except (RedisError, OSError) as error:
                failure = refused(self.place, error)
                self._rest(failure)
            else:
                self._pause = _FIRST_PAUSE
                failure = await self._talk(connection)
        except asyncio.CancelledError:
            # By aclose() or by _late(); either way this task ends here, and nobody else waits.
            failure = None
        finally:
            try:
                await connection.disconnect(nowait=True)
            finally:
                self._session = None
                self._fail_all(failure)

    def _rest(self, failure: Failure) -> None:
        self._trouble = failure.message
        self._not_before = self._loop.time() + self._pause
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    async def _talk(self, connection: AbstractConnection) -> Failure | None:
        """Send and receive; return what the server said before it hung up, if anything."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._write(connection))
                group.create_task(self._read(connection))
        except ExceptionGroup as errors:
            known, unknown = errors.split((RedisError, OSError))
            if unknown is not None or known is None:
                raise
            for error in known.exceptions:
                if isinstance(error, Disconnected) and type(error) is not Disconnected:
                    return refused(self.place, error)
        return None

    async def _write(self, connection: AbstractConnection) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            packets = []
            now = self._loop.time()
            while self._queued:
                exchange = self._queued.popleft()
                if not exchange.future.done():
                    exchange.sent = now
                    packets.append(exchange.packed)
                    self._pending.append(exchange)
                exchange.packed = b""
            if packets:
                await connection.send_packed_command(packets, check_health=False)
            self._queued_bytes = sum(len(exchange.packed) for exchange in self._queued)

    async def _read(self, connection: AbstractConnection) -> None:
        pending = self._pending
        while True:
            try:
                reply = await connection.read_response(disable_decoding=True)
            except ResponseError as error:
                reply = error
            self._heard = self._loop.time()
            if not pending:
                raise Disconnected("a reply that belongs to no command")
            exchange = pending[0]
            exchange.replies.append(reply)
            if len(exchange.replies) == exchange.count:
                pending.popleft()
                if not exchange.future.done():
                    exchange.future.set_result(exchange.replies)

    def _fail_all(self, failure: Failure | None) -> None:
        waiting = [*self._pending, *self._queued]
        self._pending.clear()
        self._queued.clear()
        self._queued_bytes = 0
        self._wake.clear()
        for exchange in waiting:
            if exchange.future.done():
                continue
            if failure is None:
                error: Failure = broken(self.place, sent=exchange.sent is not None)
            else:
                error = type(failure)(failure.message, reason=failure.reason, reached=False)
            exchange.future.set_exception(error)

    def _connection(self) -> AbstractConnection:
        settings = self.settings
        host, port = settings.address
        common: dict[str, Any] = {
            "host": host,
            "port": port,
            "db": settings.redis_db,
            "username": settings.redis_username or None,
            "password": settings.redis_password or None,
            "socket_timeout": None,  # every exchange has its own deadline
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # what every server speaks
            "driver_info": None,  # users may lack the right to name themselves
        }
        if not settings.enable_tls:
            return Connection(**common)
        files: dict[str, Any] = {}
        if self._folder is not None:
            files = {
                "ssl_certfile": str(self._folder / "cert.pem"),
                "ssl_keyfile": str(self._folder / "key.pem"),
            }
        return SSLConnection(
            ssl_cert_reqs="none" if settings.insecure_skip_tls_verify else "required",
            ssl_check_hostname=not settings.insecure_skip_tls_verify,
            ssl_ca_data=settings.ca_cert or None,
            **files,
            **common,
        )


def _pack(commands: Sequence[Command]) -> bytes:
    """Write commands in the protocol of Redis (RESP)."""
    parts = []
    for command in commands:
        parts.append(b"*%d\r\n" % len(command))
        for word in command:
            parts.append(b"$%d\r\n" % len(word))
            parts.append(word)
            parts.append(b"\r\n")
    return b"".join(parts)


__all__ = ["Client", "Command", "Script"]
