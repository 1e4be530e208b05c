"""The server's side of ASGI for one request, as the test client plays it."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator

import anyio

from pillion_sdk.app import App
from pillion_sdk.asgi import Message, Scope
from pillion_sdk.headers import Headers
from pillion_sdk.transport import IncomingReply


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
