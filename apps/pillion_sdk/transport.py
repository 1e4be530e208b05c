"""How calls leave: HTTP/1.1 to the local runtime over a bounded pool of connections."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Protocol, TypeAlias

import anyio

from pillion_sdk.environment import Endpoint, api_token
from pillion_sdk.headers import Headers, RawHeaders
from pillion_sdk.invocation import InvokeError, OutgoingCall, timed_out
from pillion_sdk.pool import ConnectionBroken, Pool

if TYPE_CHECKING:
    from pillion_sdk.connection import Connection

Head: TypeAlias = tuple[int, RawHeaders]
"""Status and headers of a reply."""


class IncomingReply:
    """A reply whose body is read as it arrives; iterate over it for the chunks.

    Attributes:
        status: the HTTP status.
        headers: the header fields.
    """

    __slots__ = ("_read", "headers", "status")

    def __init__(self, status: int, headers: Headers, read: Callable[[], Awaitable[bytes]]) -> None:
        self.status = status
        self.headers = headers
        self._read = read

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._read()
        if not chunk:
            raise StopAsyncIteration
        return chunk


class Transport(Protocol):
    """What carries calls: the runtime, or a test's stand-in for it."""

    def open(self, call: OutgoingCall) -> AbstractAsyncContextManager[IncomingReply]:
        """Send a call and return its reply once the head is there.

        The call's timeout is over the head, not the body. Leaving the context early gives the
        rest of the reply up.

        Raises:
            InvokeError: there was no reply.
        """

    async def aclose(self) -> None:
        """Close what is not in use."""


class RuntimeTransport:
    """Calls through the local runtime.

    Args:
        endpoint: where it listens; without it, where the environment says at the first call.
        token: what it asks for; without it, what the environment says.
        max_connections: at most; more calls wait.
    """

    def __init__(self, endpoint: str | None, *, token: str | None, max_connections: int) -> None:
        self._pool = Pool(None if endpoint is None else Endpoint.parse(endpoint), max_connections)
        self._token = token

    @asynccontextmanager
    async def open(self, call: OutgoingCall) -> AsyncIterator[IncomingReply]:
        """Send a call; see :class:`Transport`."""
        body = call.body
        if not isinstance(body, bytes):
            async with self._upload(call, body) as reply:
                yield reply
            return
        try:
            with anyio.fail_after(call.timeout):
                connection, head = await self._exchange(call, body)
        except TimeoutError:
            raise timed_out(call) from None
        try:
            yield _reply(call, connection, head)
        finally:
            await self._pool.give_back(connection)

    async def _exchange(self, call: OutgoingCall, body: bytes) -> tuple[Connection, Head]:
        """Send a call and read the head of its reply, on a second connection if need be."""
        connection = await self._take(call)
        try:
            while True:
                try:
                    await connection.send(call.method, call.target, self._headers(call), body)
                    return connection, await connection.read_head()
                except ConnectionBroken as error:
                    # One that was idle may have been closed at the moment it was taken.
                    if not connection.idle_since or not call.repeatable:
                        raise _broken(call, error) from None
                    connection = await self._pool.replace(connection)
        except OSError as error:
            await self._pool.give_back(connection)
            raise self._unreachable(call, error) from None
        except BaseException:
            await self._pool.give_back(connection)
            raise

    @asynccontextmanager
    async def _upload(
        self, call: OutgoingCall, body: AsyncIterable[bytes]
    ) -> AsyncIterator[IncomingReply]:
        """Send a body while the reply is read: the other side may answer before it has it all."""
        give_up = anyio.current_time() + call.timeout
        connection: Connection | None = None
        failure: Exception | None = None
        try:
            with _until(give_up, call):
                connection = await self._take(call)
                await connection.send_head(call.method, call.target, self._headers(call))
            async with anyio.create_task_group() as tasks:

                async def send_rest(connection: Connection) -> None:
                    nonlocal failure
                    try:
                        await connection.send_chunks(body)
                    except Exception as error:  # noqa: BLE001 - raised below, to the caller
                        failure = error
                        tasks.cancel_scope.cancel()

                tasks.start_soon(send_rest, connection)
                try:
                    with _until(give_up, call):
                        head = await connection.read_head()
                    yield _reply(call, connection, head)
                except ConnectionBroken as error:
                    failure = failure or _broken(call, error)
                except Exception as error:  # noqa: BLE001 - raised below, without a group around
                    failure = failure or error
                tasks.cancel_scope.cancel()
        finally:
            if connection is not None:
                await self._pool.give_back(connection)
        if failure is not None:
            raise failure

    async def _take(self, call: OutgoingCall) -> Connection:
        try:
            return await self._pool.take()
        except OSError as error:
            raise self._unreachable(call, error) from None

    def _unreachable(self, call: OutgoingCall, error: OSError) -> InvokeError:
        return InvokeError(
            call,
            503,
            "ERR_RUNTIME_UNREACHABLE",
            f"no runtime at {self._pool.endpoint} ({error.strerror or error}); start the app with "
            "'pillion run', or say where the runtime is with PILLION_HTTP_ENDPOINT",
        )

    def _headers(self, call: OutgoingCall) -> RawHeaders:
        if self._token is None:
            self._token = api_token()
        if not self._token:
            return call.headers
        return [*call.headers, (b"dapr-api-token", self._token.encode())]

    async def aclose(self) -> None:
        """Close the connections that are idle."""
        await self._pool.aclose()

    def __repr__(self) -> str:
        return f"<RuntimeTransport {self._pool!r}>"


@contextmanager
def _until(give_up: float, call: OutgoingCall) -> Iterator[None]:
    try:
        with anyio.fail_after(give_up - anyio.current_time()):
            yield
    except TimeoutError:
        raise timed_out(call) from None


def _reply(call: OutgoingCall, connection: Connection, head: Head) -> IncomingReply:
    status, headers = head

    async def read() -> bytes:
        try:
            return await connection.read()
        except ConnectionBroken as error:
            raise _broken(call, error) from None

    return IncomingReply(status, Headers(headers), read)


def _broken(call: OutgoingCall, error: ConnectionBroken) -> InvokeError:
    return InvokeError(call, 502, "ERR_RUNTIME_BROKE_OFF", f"the runtime: {error}")
