"""Requests to NATS: one connection, made when it is needed and again when it was lost.

The client library connects, speaks the protocol and pings; when a connection ends is decided here,
so that what waits for an answer fails at once and what is asked while there is no server does not
wait in a buffer.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple

import nats.errors
from nats.aio.client import Client as Connection
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from pillion.errors import Failure, Invalid, NotAllowed, Overloaded, Unavailable
from pillion_components._nats.settings import ConnectionSettings

_MOST_WAITING = 16_384
"""Requests that wait for an answer."""
_MOST_BYTES = 64 << 20
"""Bytes that wait to be sent, beyond the one request that brings them over it."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.05, 1.0
"""Seconds in which operations fail at once after connecting failed."""
_PING_EVERY = 5
_FAREWELL = 1.0
"""Seconds for what is still to be sent when the connection is closed."""
_DENIED = ("authorization", "authentication", "user authentication", "permissions violation")


class Request(NamedTuple):
    """What is asked: the subject, the payload and the headers."""

    subject: str
    payload: bytes = b""
    headers: dict[str, str] | None = None


class Client:
    """One connection to a NATS server or cluster.

    Attributes:
        settings: how it is reached.
        place: the servers, for messages.
    """

    def __init__(self, settings: ConnectionSettings, name: str, tls: ssl.SSLContext | None) -> None:
        self.settings = settings
        self.place = f"component {name}: NATS at {', '.join(settings.servers)}"
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._session: asyncio.Task[None] | None = None
        self._sessions: set[asyncio.Task[None]] = set()
        """The present one, and those that are closing their connections."""
        self._up: asyncio.Future[Connection] | None = None
        self._waiting: dict[int, asyncio.Future[Msg]] = {}
        self._count = 0
        self._inbox = ""
        self._heard = 0.0
        self._said = ""
        self._pause = _FIRST_PAUSE
        self._not_before = 0.0
        self._trouble: Failure | None = None
        self._listeners: dict[str, set[asyncio.Queue[Msg | None]]] = {}
        self._subscriptions: dict[str, Subscription] = {}
        self._closed = False

    def until(self) -> float:
        """Return the loop's time at which an operation that begins now must be over."""
        return self._loop.time() + self.settings.timeout

    async def ask(self, request: Request, until: float) -> Msg:
        """Send a request and return the answer.

        Raises:
            Failure: the server cannot be reached in time.
        """
        connection = self._ready() or await self._connected(until)
        token, future = await self._sent(connection, request)
        alarm = self._loop.call_at(until, self._late, token, self._loop.time())
        try:
            return await future
        finally:
            alarm.cancel()
            self._waiting.pop(token, None)

    async def ask_all(self, requests: Sequence[Request], until: float) -> list[Msg | Failure]:
        """Send requests in one go; return the answer to each, or what went wrong with it.

        Raises:
            Failure: nothing has been sent.
        """
        connection = self._ready() or await self._connected(until)
        began = self._loop.time()
        futures: dict[int, asyncio.Future[Msg]] = {}
        alarms: list[asyncio.TimerHandle] = []
        answers: list[Msg | Failure] = []
        try:
            for request in requests:
                token, future = await self._sent(connection, request)
                futures[token] = future
                alarms.append(self._loop.call_at(until, self._late, token, began))
            for future in futures.values():
                answers.append(await _outcome(future))  # noqa: PERF401 - one after the other
        finally:
            for alarm in alarms:
                alarm.cancel()
            for token in futures:
                self._waiting.pop(token, None)
        return answers

    @asynccontextmanager
    async def listening(self, subject: str = "") -> AsyncIterator[tuple[str, asyncio.Queue[Any]]]:
        """Receive what is sent to ``subject``, or to a new inbox, until the context is left.

        Yields the subject and a queue of messages. None in it says that the connection was lost,
        and with it perhaps messages; a full queue drops messages. The subscription is made again
        with every new connection.

        Raises:
            Failure: the server cannot be reached in time.
        """
        connection = await self._connected(self.until())
        subject = subject or connection.new_inbox()
        queue: asyncio.Queue[Msg | None] = asyncio.Queue(1024)
        queues = self._listeners.setdefault(subject, set())
        queues.add(queue)
        try:
            if len(queues) == 1:
                await self._subscribe(connection, subject)
            yield subject, queue
        finally:
            queues.discard(queue)
            if not queues:
                del self._listeners[subject]
                subscription = self._subscriptions.pop(subject, None)
                if subscription is not None:
                    with suppress(nats.errors.Error, OSError):
                        await subscription.unsubscribe()

    async def send(self, request: Request, reply: str) -> None:
        """Send a request whose answers go to ``reply``, an inbox that is listened to.

        Raises:
            Failure: it could not be sent.
        """
        connection = await self._connected(self.until())
        try:
            await connection.publish(
                request.subject, request.payload, reply=reply, headers=request.headers
            )
        except (nats.errors.Error, OSError) as error:
            raise self._failure(error) from error

    async def version(self) -> tuple[int, int]:
        """Return the server's version, such as (2, 11)."""
        connection = await self._connected(self.until())
        try:
            found = connection.connected_server_version
            return int(found.major), int(found.minor)
        except ValueError:
            return (0, 0)

    async def aclose(self) -> None:
        """Break off what is under way."""
        self._closed = True
        if self._session is not None:
            self._session.cancel()
        if self._sessions:
            await asyncio.wait(self._sessions)

    async def _sent(
        self, connection: Connection, request: Request
    ) -> tuple[int, asyncio.Future[Msg]]:
        """Send a request; return its token and what will have the answer, or why there is none.

        The buffer of the library has room for what is let in here, so that this never waits.
        """
        self._count += 1
        token = self._count
        future: asyncio.Future[Msg] = self._loop.create_future()
        if len(self._waiting) >= _MOST_WAITING or connection.pending_data_size >= _MOST_BYTES:
            future.set_exception(Overloaded(f"{self.place} has too many requests waiting"))
            return token, future
        self._waiting[token] = future
        try:
            await connection.publish(
                request.subject,
                request.payload,
                reply=f"{self._inbox}.{token}",
                headers=request.headers,
            )
        except nats.errors.MaxPayloadError:
            largest = connection.max_payload
            self._fail(token, Invalid(f"{self.place} takes {largest} bytes at most", reason=LARGE))
        except (nats.errors.Error, OSError) as error:
            self._fail(token, self._failure(error))
        return token, future

    def _late(self, token: int, began: float) -> None:
        future = self._waiting.get(token)
        if future is None or future.done():
            return
        future.set_exception(self._too_late())
        # A server that said nothing all the time may be gone without a farewell.
        if self._heard <= began and self._session is not None:
            self._session.cancel()

    def _ready(self) -> Connection | None:
        up = self._up
        if up is None or self._session is None or not up.done() or up.exception() is not None:
            return None
        return up.result()

    def _fail(self, token: int, failure: Failure) -> None:
        future = self._waiting.get(token)
        if future is not None and not future.done():
            future.set_exception(failure)

    async def _connected(self, until: float) -> Connection:
        if self._session is None:
            self._begin()
        up = self._up
        if up is not None and not up.done():
            await asyncio.wait({up}, timeout=until - self._loop.time())
        if up is None or not up.done():
            raise self._too_late(reached=False)
        error = up.exception()
        if error is not None:
            raise _copy(error) if isinstance(error, Failure) else error
        return up.result()

    def _begin(self) -> None:
        if self._closed:
            raise Unavailable(f"{self.place} is closed", reason="closed", reached=False)
        if self._trouble is not None and self._loop.time() < self._not_before:
            raise _copy(self._trouble)
        self._up = self._loop.create_future()
        self._session = self._loop.create_task(self._serve(self._up))
        self._sessions.add(self._session)
        self._session.add_done_callback(self._sessions.discard)

    async def _serve(self, up: asyncio.Future[Connection]) -> None:
        """Connect and stay until the connection ends."""
        connection = Connection()
        ended = asyncio.Event()
        failure: Failure = self._gone()
        try:
            async with asyncio.timeout(self.settings.timeout):
                await self._connect(connection, ended)
            self._pause, self._trouble = _FIRST_PAUSE, None
            up.set_result(connection)
            await ended.wait()
        except (nats.errors.Error, OSError, ValueError) as error:
            failure = self._trouble = self._failure(error)
            self._not_before = self._loop.time() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        except asyncio.CancelledError:
            # By aclose() or for silence; either way this task ends here, and nobody waits for it.
            failure = self._gone()
        finally:
            self._session = None
            self._end(up, failure)
            with suppress(nats.errors.Error, OSError, TimeoutError):
                async with asyncio.timeout(_FAREWELL):
                    await connection.close()

    async def _connect(self, connection: Connection, ended: asyncio.Event) -> None:
        self._said = ""

        async def closed() -> None:
            ended.set()

        async def complain(error: Exception) -> None:
            self._said = str(error)[:200] or type(error).__name__

        settings = self.settings
        options: dict[str, Any] = {}
        if (login := settings.login()) is not None:
            options["user_jwt_cb"], options["signature_cb"] = login
        if settings.user:
            options |= {"user": settings.user, "password": settings.password}
        if settings.token:
            options["token"] = settings.token
        if self._tls is not None:
            options["tls"] = self._tls
        await connection.connect(
            list(settings.nats_url),
            error_cb=complain,
            closed_cb=closed,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            ping_interval=_PING_EVERY,
            max_outstanding_pings=2,
            pending_size=2 * _MOST_BYTES + connection.max_payload,
            **options,
        )
        self._inbox = connection.new_inbox()
        await connection.subscribe(f"{self._inbox}.*", cb=self._answered)
        self._subscriptions.clear()
        for subject in list(self._listeners):
            await self._subscribe(connection, subject)

    async def _answered(self, message: Msg) -> None:
        self._heard = self._loop.time()
        future = self._waiting.get(int(message.subject.rpartition(".")[2]))
        if future is not None and not future.done():
            future.set_result(message)

    async def _subscribe(self, connection: Connection, subject: str) -> None:
        async def heard(message: Msg) -> None:
            self._heard = self._loop.time()
            for queue in self._listeners.get(subject, ()):
                with suppress(asyncio.QueueFull):
                    queue.put_nowait(message)

        self._subscriptions[subject] = await connection.subscribe(subject, cb=heard)

    def _end(self, up: asyncio.Future[Connection], failure: Failure) -> None:
        if not up.done():
            up.set_exception(failure)
            up.exception()  # read, so that nobody is told that it was not
        waiting = list(self._waiting.values())
        self._waiting.clear()
        for future in waiting:
            if not future.done():
                future.set_exception(self._gone())
        for queues in self._listeners.values():
            for queue in queues:
                with suppress(asyncio.QueueFull):
                    queue.put_nowait(None)

    def _failure(self, error: Exception) -> Failure:
        words = str(error)[:200] or type(error).__name__
        if isinstance(error, nats.errors.NoServersError) and self._said:
            words = self._said
        if isinstance(error, TimeoutError):
            words = "no answer while connecting"
        if any(sign in words.lower() for sign in _DENIED):
            return NotAllowed(f"{self.place} refuses: {words}; check the credentials and rights")
        return Unavailable(f"{self.place} cannot be reached: {words}", reached=False)

    def _gone(self) -> Unavailable:
        return Unavailable(f"{self.place} closed the connection", reason="connection-lost")

    def _too_late(self, *, reached: bool = True) -> Unavailable:
        said = f" ({self._said})" if self._said else ""
        return Unavailable(
            f"{self.place} did not answer in time{said}", reason="deadline", reached=reached
        )


LARGE = "too-large"
"""The reason of an Invalid for a value that is over the server's limit."""


async def _outcome(future: asyncio.Future[Msg]) -> Msg | Failure:
    try:
        return await future
    except Failure as failure:
        return failure


def _copy(failure: Failure) -> Failure:
    return type(failure)(failure.message, reason=failure.reason, reached=failure.reached)


def status(message: Msg) -> str:
    """Return the status of a message without a body, such as ``404``; empty when it has none."""
    return str((message.headers or {}).get("Status", ""))


__all__ = ["LARGE", "Client", "Msg", "Request", "status"]
