"""The server's side of ASGI for one request, as the test client plays it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterable, AsyncIterator
from typing import Any, TypedDict
from urllib.parse import unquote

import anyio

from pillion_sdk.app import App
from pillion_sdk.asgi import Message, Scope
from pillion_sdk.dispatch import UNEXPECTED
from pillion_sdk.headers import Headers, HeaderSource, RawHeaders, encode
from pillion_sdk.invocation import (
    CallOptions,
    Data,
    QuerySource,
    encode_body,
    encode_query,
    escape_path,
    join,
)
from pillion_sdk.request import DEADLINE_HEADER
from pillion_sdk.transport import IncomingReply


class RequestOptions(TypedDict, total=False):
    """The options of a test's request.

    Attributes:
        query: names and values; a list gives a name several times, None leaves it out.
        json: the body, sent as JSON.
        data: the body as it is: bytes, text, or an async iterator of bytes.
        headers: sent along.
        caller: the app id the runtime would vouch for.
        remaining: seconds the caller has left.
    """

    query: QuerySource | None
    json: Any
    data: Data | None
    headers: HeaderSource | None
    caller: str
    remaining: float


class Exchange:
    """One request and its response.

    Args:
        body: sent to the app chunk by chunk, as it asks for it.
    """

    def __init__(self, body: bytes | AsyncIterable[bytes]) -> None:
        self._chunks = _chunks(body)
        self._more = True
        self._gone = anyio.Event()
        self._failure: Exception | None = None
        # Without a buffer, so that the app waits for its reader as on a slow connection.
        self._sender, self._receiver = anyio.create_memory_object_stream[Message](0)

    async def run(self, app: App, scope: Scope) -> None:
        """Let the app answer; what it raises is kept for the reader."""
        with self._sender:
            try:
                await app(scope, self._receive, self._send)
            except Exception as error:  # noqa: BLE001 - raised where the response is read
                self._failure = error

    async def _receive(self) -> Message:
        if self._more and not self._gone.is_set():
            chunk = await anext(self._chunks, None)
            self._more = chunk is not None
            return {"type": "http.request", "body": chunk or b"", "more_body": self._more}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        try:
            await self._sender.send(message)
        except anyio.BrokenResourceError:
            # As a server does: what is sent to nobody is dropped.
            return

    async def reply(self) -> IncomingReply:
        """Return the response once its head is there."""
        start = await self._next()
        if start is None:
            raise self._failure or RuntimeError("the app ended without an answer")
        return IncomingReply(start["status"], Headers(list(start["headers"])), self._read)

    async def _read(self) -> bytes:
        while True:
            message = await self._next()
            if message is None:
                if self._failure is not None:
                    raise self._failure
                return b""
            if message.get("body"):
                body: bytes = message["body"]
                return body

    async def _next(self) -> Message | None:
        try:
            return await self._receiver.receive()
        except anyio.EndOfStream:
            return None

    def hang_up(self) -> None:
        """Read no more; the app is told."""
        self._gone.set()
        self._receiver.close()


async def _chunks(body: bytes | AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        if body:
            yield body
        return
    async for chunk in body:
        yield chunk


def build_request(
    method: str, path: str, options: RequestOptions, errors: list[Exception] | None = None
) -> tuple[Scope, bytes | AsyncIterable[bytes]]:
    """Return the ASGI scope and the body of a request.

    Args:
        method: the HTTP method.
        path: the path, with or without a query.
        options: see :class:`RequestOptions`.
        errors: collects what the app did not expect.
    """
    headers: RawHeaders = []
    body = encode_body(_body_options(options), headers)
    if isinstance(body, bytes) and body:
        headers.append((b"content-length", b"%d" % len(body)))
    elif not isinstance(body, bytes):
        headers.append((b"transfer-encoding", b"chunked"))
    if "caller" in options:
        headers.append((b"dapr-caller-app-id", options["caller"].encode()))
    if "remaining" in options:
        headers.append((DEADLINE_HEADER, b"%d" % math.ceil(options["remaining"] * 1000)))
    join(headers, encode(options.get("headers")))
    path, _, given = path.partition("?")
    raw = b"/" + escape_path(path.lstrip("/")).encode()
    query = "&".join(part for part in (given, encode_query(options.get("query"))) if part)
    scope: Scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method.upper(),
        "scheme": "http",
        "path": unquote(raw),
        "raw_path": raw,
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"test"), *headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "extensions": {} if errors is None else {UNEXPECTED: errors},
    }
    return scope, body


def _body_options(options: RequestOptions) -> CallOptions:
    chosen: CallOptions = {}
    if "json" in options:
        chosen["json"] = options["json"]
    if "data" in options:
        chosen["data"] = options["data"]
    return chosen
