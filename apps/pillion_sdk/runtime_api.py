"""Requests to the runtime itself: its state, its locks, and how they fail."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio

from pillion_sdk.headers import RawHeaders
from pillion_sdk.invocation import InvokeError, OutgoingCall, inherit, timed_out
from pillion_sdk.response import Response
from pillion_sdk.transport import IncomingReply

if TYPE_CHECKING:
    from pillion_sdk.client import Client


class ApiError(Exception):
    """The runtime could not do what it was asked for.

    Attributes:
        status: of its answer; without one 503 (no connection to the runtime), 504 (too late) or
            502 (the answer broke off or was not as expected).
        error_code: a stable word for programs, such as ``ERR_STATE_SAVE``.
        message: what it says.
    """

    def __init__(self, what: str, status: int, error_code: str, message: str) -> None:
        self.status = status
        self.error_code = error_code
        self.message = message
        code = f" {error_code}" if error_code else ""
        super().__init__(f"{what}: {status}{code}: {message}")


class RuntimeApi:
    """Asks the runtime, over the connections of a client.

    Args:
        client: whose transport and limits count.
    """

    __slots__ = ("_client",)

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(
        self,
        method: str,
        target: str,
        *,
        body: bytes = b"",
        headers: RawHeaders | None = None,
        once: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - bounds the request being handled, too
        detached: bool = False,
    ) -> Response:
        """Send a request and return the whole answer, which is no error.

        Args:
            method: the HTTP method.
            target: path and query, escaped.
            body: sent as it is.
            headers: sent along.
            once: never send it twice, whatever the method.
            timeout: seconds; without it, the client's.
            detached: do not end with the request being handled.

        Raises:
            InvokeError: it is an error, or there was none.
        """
        limit = self._client.timeout if timeout is None else timeout
        call = self._call(method, target, body, headers, limit, detached=detached)
        call.once = once
        response = await self._client.exchange(call)
        if response.status >= 400:
            raise InvokeError.from_response(call, response)
        return response

    @asynccontextmanager
    async def stream(self, target: str) -> AsyncIterator[IncomingReply]:
        """Send a GET and read the answer, which is no error, as it arrives.

        Raises:
            InvokeError: it is an error, or there was none.
        """
        call = self._call("GET", target, b"", None, self._client.timeout, detached=False)
        async with self._client.transport.open(call) as reply:
            if reply.status >= 400:
                with anyio.move_on_after(call.timeout):
                    said = b"".join([chunk async for chunk in reply])
                    raise InvokeError.from_response(call, Response(reply.status, said))
                raise timed_out(call)
            yield reply

    def _call(
        self,
        method: str,
        target: str,
        body: bytes,
        headers: RawHeaders | None,
        timeout: float,
        *,
        detached: bool,
    ) -> OutgoingCall:
        sent = list(headers or ())
        if body:
            sent.append((b"content-type", b"application/json"))
        remaining = inherit(sent)
        if not detached:
            timeout = min(timeout, remaining)
        call = OutgoingCall("", target, method, target, sent, body, timeout)
        if timeout <= 0:
            raise InvokeError(call, 504, "ERR_TIMED_OUT", "there is no time left for it")
        return call


def segment(name: str) -> str:
    """Return a name as one segment of a path."""
    return quote(name, safe="")


def whole_seconds(ttl: float) -> int:
    """Return a time to live as the API takes it, rounded up.

    Raises:
        ValueError: it is negative or endless.
    """
    if not 0 <= ttl < 2**31:
        raise ValueError(f"ttl is {ttl}: give seconds from 0 to {2**31 - 1}")
    return math.ceil(ttl)
