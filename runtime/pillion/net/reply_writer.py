"""Writes replies on one HTTP/1.1 connection, no faster than the client reads them."""

from __future__ import annotations

import asyncio
import logging

from pillion.body import BodyStream, discard
from pillion.call import Reply
from pillion.errors import Failure
from pillion.inline import Waiter
from pillion.operation import Request
from pillion.wheel import Timer, Wheel
from pillion.wire.http1 import reply_head

log = logging.getLogger("pillion.api")

HIGH_WATER = 64 * 1024
"""Bytes of replies that wait in memory for a client that reads slowly."""


class ReplyWriter:
    """The writing half of a connection.

    ``stall_timeout`` is the time, in seconds, in which a client must take something of what waits
    for it; one that does not is cut off.
    """

    __slots__ = ("_owed", "_stall_timeout", "_timer", "_transport", "_wheel", "_writable")

    def __init__(self, transport: asyncio.Transport, wheel: Wheel, stall_timeout: float) -> None:
        transport.set_write_buffer_limits(high=HIGH_WATER)
        self._transport = transport
        self._wheel = wheel
        self._stall_timeout = stall_timeout
        self._owed = 0
        self._writable: Waiter[None] | None = None
        self._timer: Timer | None = None

    def pause(self) -> None:
        """Hold back: the client reads slower than it is written to."""
        if self._writable is None:
            self._writable = Waiter()
            self._watch()

    def resume(self) -> None:
        """Go on: the client has read, or is gone."""
        writable, self._writable = self._writable, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if writable is not None:
            writable.set(None)

    def write(self, request: Request, reply: Reply, *, last: bool) -> bool:
        """Write ``reply`` if that needs no waiting, and tell whether it did.

        ``last`` says that the connection ends behind it.
        """
        body = reply.body
        if self._writable is not None:
            return False
        if request.method == b"HEAD" or reply.status in (204, 304):
            tail = _connection(request, last=last)
            self._transport.write(reply_head(reply.status, reply.headers, _bodiless(reply), tail))
            discard(body)
            return True
        if not isinstance(body, bytes):
            return False
        framing = b"Content-Length: %d\r\n%b" % (len(body), _connection(request, last=last))
        self._transport.write(reply_head(reply.status, reply.headers, framing) + body)
        return True

    async def send(self, request: Request, reply: Reply, *, last: bool) -> None:
        """Write ``reply``, waiting for the client and for the body."""
        if self._writable is not None:
            await self._writable
        if self.write(request, reply, last=last) or isinstance(reply.body, bytes):
            return
        await self._send_stream(request, reply, reply.body, _connection(request, last=last))

    async def _send_stream(
        self, request: Request, reply: Reply, body: BodyStream, tail: bytes
    ) -> None:
        transport = self._transport
        length = body.length
        chunked = length is None and not request.http10
        framing = b"Transfer-Encoding: chunked\r\n" if chunked else b""
        if length is not None:
            framing = b"Content-Length: %d\r\n" % length
        transport.write(reply_head(reply.status, reply.headers, framing, tail))
        sent = 0
        try:
            while chunk := await body.read():
                if self._writable is not None:
                    await self._writable
                sent += len(chunk)
                if length is not None and sent > length:
                    break
                transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            if chunked:
                transport.write(b"0\r\n\r\n")
            elif length is not None and sent != length:
                transport.abort()
        except Failure as failure:
            # The status is out already: a broken connection is the only way left to say it.
            log.warning("a reply broke off after %d bytes: %s", sent, failure.message)
            transport.abort()
        finally:
            body.close()

    def _watch(self) -> None:
        self._owed = self._transport.get_write_buffer_size()
        self._timer = self._wheel.after(self._stall_timeout, self._stalled)

    def _stalled(self) -> None:
        if self._transport.get_write_buffer_size() < self._owed:
            self._watch()
        else:
            self._transport.abort()


def _connection(request: Request, *, last: bool) -> bytes:
    if last:
        return b"Connection: close\r\n"
    return b"Connection: keep-alive\r\n" if request.http10 else b""


def _bodiless(reply: Reply) -> bytes:
    """Return the framing line of a reply that has no body on the wire."""
    body = reply.body
    if reply.status in (204, 304) or reply.header(b"content-length") is not None:
        return b""
    # An empty body says nothing of the length that GET would have given.
    length = len(body) if isinstance(body, bytes) else body.length
    return b"Content-Length: %d\r\n" % length if length else b""
