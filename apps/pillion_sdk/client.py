"""Calls to other apps through the local runtime."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, overload

import anyio

from pillion_sdk import values
from pillion_sdk.invocation import CallOptions, InvokeError, OutgoingCall, prepare, timed_out
from pillion_sdk.lock import HeldLock, holding
from pillion_sdk.response import Response
from pillion_sdk.runtime_api import RuntimeApi
from pillion_sdk.state import StateStore
from pillion_sdk.transport import IncomingReply, RuntimeTransport, Transport

T = TypeVar("T")

MAX_REPLY = 64 * 1024 * 1024
"""Bytes of a reply that invoke reads into memory."""


class NotReady(TimeoutError):
    """The runtime did not become ready in time."""


class Client:
    """Calls other apps through the runtime of this one.

    It needs no closing when an :class:`App` owns it; on its own, use it with ``async with``.

    Args:
        endpoint: ``http://host:port`` or ``unix:///path``; without it ``PILLION_HTTP_ENDPOINT``,
            ``DAPR_HTTP_ENDPOINT``, ``PILLION_HTTP_PORT``, ``DAPR_HTTP_PORT``, then port 3500.
        api_token: the runtime's; without it ``PILLION_API_TOKEN``, then ``DAPR_API_TOKEN``.
        timeout: seconds a call may take when it does not say so itself.
        max_connections: how many connections to the runtime there may be; more calls wait.
        max_reply: bytes of a reply that :meth:`invoke` reads into memory.
        transport: how calls leave; without it HTTP/1.1 to the endpoint.

    Attributes:
        transport: how calls leave.
        timeout: as given.
    """

    def __init__(
        self,
        endpoint: str | None = None,
        *,
        api_token: str | None = None,
        timeout: float = 60.0,
        max_connections: int = 64,
        max_reply: int = MAX_REPLY,
        transport: Transport | None = None,
    ) -> None:
        self.transport: Transport = transport or RuntimeTransport(
            endpoint, token=api_token, max_connections=max_connections
        )
        self.timeout = timeout
        self._max_reply = max_reply

    @overload
    async def invoke(self, app: str, path: str, **options: Unpack[CallOptions]) -> Response: ...
    @overload
    async def invoke(
        self,
        app: str,
        path: str,
        *,
        type: type[T],
        **options: Unpack[CallOptions],
    ) -> T: ...
    @overload
    async def invoke(
        self,
        app: str,
        path: str,
        *,
        type: Any,
        **options: Unpack[CallOptions],
    ) -> Any: ...
    async def invoke(
        self,
        app: str,
        path: str,
        *,
        type: Any = Response,  # noqa: A002 - as above
        **options: Unpack[CallOptions],
    ) -> Any:
        """Call another app and read its whole reply.

        Inside a handler, the trace context of the request being handled goes along, and the call
        does not take longer than that request may.

        Args:
            app: its app id, ``app.namespace``, or the name of an HTTP endpoint.
            path: what to call there; a query in it is kept.
            type: what to read the reply as: a type for JSON, ``str`` or ``bytes`` for the body as
                it is. Without it the reply is returned as a Response.
            options: see :class:`CallOptions`.

        Raises:
            InvokeError: the answer was an error (400 and up), was not of the type, or there was
                none.
        """
        call = prepare(app, path, options, self.timeout)
        response = await self.exchange(call)
        if response.status >= 400:
            raise InvokeError.from_response(call, response)
        return _typed(call, response, type)

    async def exchange(self, call: OutgoingCall) -> Response:
        """Send a call as it is and return its whole reply, whatever its status.

        Raises:
            InvokeError: there was none in time.
        """
        try:
            with anyio.fail_after(call.timeout):
                async with self.transport.open(call) as reply:
                    body = await self._read(call, reply)
        except TimeoutError:
            raise timed_out(call) from None
        return Response(reply.status, body, reply.headers)

    async def _read(self, call: OutgoingCall, reply: IncomingReply) -> bytes:
        chunks: list[bytes] = []
        size = 0
        async for chunk in reply:
            chunks.append(chunk)
            size += len(chunk)
            if size > self._max_reply:
                raise InvokeError(
                    call,
                    502,
                    "ERR_BODY_TOO_LARGE",
                    f"the reply is over {self._max_reply} bytes; read it with client.stream",
                )
        return b"".join(chunks)

    @asynccontextmanager
    async def stream(
        self, app: str, path: str, **options: Unpack[CallOptions]
    ) -> AsyncIterator[IncomingReply]:
        """Call another app and read its reply as it arrives.

        The timeout covers the time until the reply's headers are there. Whatever the status, the
        reply is returned. A body given as an async iterator is sent while the reply is read.

        Args:
            app: as for :meth:`invoke`.
            path: as for :meth:`invoke`.
            options: see :class:`CallOptions`.

        Raises:
            InvokeError: there was no answer.
        """
        call = prepare(app, path, options, self.timeout, streamed=True)
        async with self.transport.open(call) as reply:
            yield reply

    def state(self, store: str) -> StateStore:
        """Return a state store of the runtime; nothing is asked yet.

        Args:
            store: its name, such as ``statestore``.
        """
        return StateStore(self, store)

    def lock(
        self, store: str, resource: str, *, ttl: float = 30.0, wait: float = 0.0
    ) -> AbstractAsyncContextManager[HeldLock]:
        """Hold a lock for the time of an ``async with``; see :func:`pillion_sdk.lock.holding`.

        Args:
            store: the lock store, such as ``lockstore``.
            resource: what is locked, a name of your choice.
            ttl: seconds after which the lock ends by itself if this process dies, rounded up to
                whole ones; while the process lives it renews the lock.
            wait: seconds to wait for another holder; ``math.inf`` for no limit.

        Raises:
            ValueError: the resource is empty, or a number is no good.
        """
        return holding(RuntimeApi(self), store, resource, ttl, wait)

    async def wait_ready(self, timeout: float = 60.0) -> None:  # noqa: ASYNC109 - the user's word
        """Wait until the runtime takes calls from this app.

        Args:
            timeout: seconds to wait at most.

        Raises:
            NotReady: it did not in that time.
        """
        pause = 0.02
        reason = "no answer"
        with anyio.move_on_after(timeout):
            while True:
                try:
                    await self._probe()
                except InvokeError as error:
                    reason = error.message
                else:
                    return
                await anyio.sleep(pause)
                pause = min(pause * 2, 0.25)
        raise NotReady(f"the runtime is not ready after {timeout:g} s: {reason}")

    async def _probe(self) -> None:
        call = OutgoingCall("", "healthz", "GET", "/v1.0/healthz/outbound", [], b"", math.inf)
        async with self.transport.open(call) as reply:
            said = await self._read(call, reply)
            if reply.status >= 300:
                raise InvokeError.from_response(call, Response(reply.status, said))

    async def aclose(self) -> None:
        """Close the connections that are not in use; the next call opens new ones."""
        await self.transport.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.aclose()


def _typed(call: OutgoingCall, response: Response, wanted: Any) -> Any:
    if wanted is Response:
        return response
    if wanted is bytes:
        return response.body
    if wanted is str:
        return response.text
    try:
        # An empty body stands for nothing, which Order | None takes and Order does not.
        return values.cached_json_reader(wanted)(response.body or b"null")
    except values.BadValue as error:
        raise InvokeError(
            call, 502, "ERR_MALFORMED_RESPONSE", f"the reply is not as expected: {error}", response
        ) from None
