"""The receiving half of one ASGI request: its body, then the news that the caller hung up.

ASGI gives both through one ``receive``, which only one task may await. So the body belongs to the
handler, and only once it is read, or nobody wants it, :meth:`Inbound.hang_up` may listen.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import anyio

from pillion_sdk.asgi import Receive
from pillion_sdk.headers import Headers, number
from pillion_sdk.problems import TooLarge

UNLIMITED = -1

LINGER = 2.0
"""Seconds that a body which is refused may go on."""


class CallerGone(Exception):
    """The caller hung up before its body was complete; there is nobody to answer."""


class Inbound:
    """Body and hang-up of one request.

    Args:
        receive: of ASGI.
        headers: of the request.
        http_version: ``1.1`` and the like.
        limit: bytes the body may have, or UNLIMITED.
    """

    __slots__ = (
        "_body",
        "_length",
        "_limit",
        "_over",
        "_over_event",
        "_receive",
        "_size",
        "_started",
    )

    def __init__(self, receive: Receive, headers: Headers, http_version: str, limit: int) -> None:
        self._receive = receive
        self._limit = sys.maxsize if limit == UNLIMITED else limit
        self._size = 0
        self._started = False
        self._body: bytes | None = None
        self._over_event: anyio.Event | None = None
        length = headers.find(b"content-length")
        # Only HTTP/1 says in its headers whether a body follows (RFC 9112 section 6).
        self._over = http_version.startswith("1") and (
            length == b"0" or (length is None and headers.find(b"transfer-encoding") is None)
        )
        self._length = number(length) or 0

    def check_length(self) -> None:
        """Refuse a body that is announced as too long before a byte of it is read.

        Raises:
            TooLarge: it is over the limit.
        """
        self._check(self._length)

    def _check(self, size: int) -> None:
        if size > self._limit:
            raise TooLarge(f"the body is over the limit of {self._limit} bytes")

    async def read(self) -> bytes:
        """Return the whole body; see Request.body."""
        if self._body is None:
            chunks = [chunk async for chunk in self.stream()]
            self._body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        return self._body

    async def stream(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives; see Request.stream."""
        if self._body is not None:
            yield self._body
            return
        if self._started:
            raise RuntimeError("the body of this request is being read already")
        self._started = True
        more = not self._over
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise CallerGone
            chunk: bytes = message.get("body", b"")
            more = message.get("more_body", False)
            self._size += len(chunk)
            self._check(self._size)
            if not more:
                self._finish()
            if chunk:
                yield chunk

    @property
    def unread(self) -> bool:
        """True while there is more of the body to come."""
        return not self._over

    async def drain(self) -> None:
        """Drop what is left of the body, for as long as LINGER.

        A sender that still sends when its connection closes may never see the answer: the kernel
        resets a connection that is closed with bytes unread.
        """
        with anyio.move_on_after(LINGER):
            while not self._over:
                message = await self._receive()
                self._over = message["type"] == "http.disconnect" or not message.get("more_body")

    def discard(self) -> None:
        """Say that nobody will read the body."""
        if not self._started:
            self._started = True
            self._finish()

    def _finish(self) -> None:
        self._over = True
        if self._over_event is not None:
            self._over_event.set()

    async def hang_up(self) -> None:
        """Return when the caller has hung up."""
        if not self._over:
            self._over_event = anyio.Event()
            await self._over_event.wait()
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                return
            self._size += len(message.get("body", b""))
            if self._size > self._limit:
                # It sends without end what nobody reads: let it wait.
                await anyio.sleep_forever()
