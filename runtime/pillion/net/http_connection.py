"""One kept-alive HTTP/1.1 connection to an app or an endpoint."""

from __future__ import annotations

import asyncio
import math
from typing import Protocol, cast

from pillion.body import Body, BodyStream
from pillion.call import Headers, Reply
from pillion.errors import Failure, TimedOut, TooLarge, Unavailable
from pillion.inline import Run, Waiter
from pillion.wheel import Timer, Wheel
from pillion.wire.http1 import Refused, request_head
from pillion.wire.http1_replies import ReplyReader

WHOLE = 64 * 1024
"""A body announced with at most this many bytes is handed over in one piece."""
HIGH, LOW = 256 * 1024, 64 * 1024
"""Bytes of a streamed body that wait before the socket is paused, and when it is resumed."""


class Owner(Protocol):
    """What a connection tells its pool."""

    def connection_idle(self, connection: ClientConnection) -> None:
        """The connection may be used again."""

    def connection_closed(self, connection: ClientConnection) -> None:
        """The connection is gone."""


class ClientConnection(asyncio.Protocol):
    """Sends one request at a time.

    Attributes:
        used: True when an earlier request was answered on it.
        heard: True once something of the reply to the present request has come.
    """

    __slots__ = (
        "_body_limit",
        "_chunks",
        "_head",
        "_headers",
        "_keep",
        "_length",
        "_owner",
        "_paused",
        "_reader",
        "_received",
        "_replied",
        "_sending",
        "_sent_all",
        "_status",
        "_stream",
        "_timer",
        "_transport",
        "_wheel",
        "_writable",
        "_written",
        "heard",
        "used",
    )

    def __init__(self, owner: Owner, wheel: Wheel, head_limit: int, body_limit: int) -> None:
        self._owner = owner
        self._wheel = wheel
        self._body_limit = body_limit
        self._reader = ReplyReader(self, head_limit)
        self._transport: asyncio.Transport | None = None
        self._head: Waiter[Reply] | None = None
        self._stream: BodyStream | None = None
        self._sending: Run[None] | None = None
        self._writable: Waiter[None] | None = None
        self._timer: Timer | None = None
        self._chunks: list[bytes] = []
        self._headers: Headers = []
        self._status = 0
        self._length: int | None = None
        self._received = 0
        self._paused = False
        self._keep = False
        self._written = False
        self._sent_all = True
        self._replied = True
        self.used = False
        self.heard = False

    async def send(
        self,
        host_line: bytes,
        method: bytes,
        target: bytes,
        headers: Headers,
        body: Body,
        deadline: float,
    ) -> Reply:
        """Send a request; see :meth:`HttpClient.send`."""
        transport = self._transport
        self.heard = False
        if transport is None or transport.is_closing():
            raise Unavailable("the connection is closed", reason="connection-broken", reached=False)
        head: Waiter[Reply] = Waiter()
        self._head = head
        self._reader.expect(head=method == b"HEAD")
        self._replied = False
        self._status = 0
        self._keep = False
        self._sent_all = True
        self._written = True
        if isinstance(body, bytes):
            transport.write(
                request_head(method, target, headers, host_line, _length(method, body)) + body
            )
        else:
            self._send_stream(
                transport, request_head(method, target, headers, host_line, _framing(body)), body
            )
        if deadline != math.inf:
            self._timer = self._wheel.at(deadline, self._timed_out)
        try:
            return await head
        except BaseException:
            self.abort()
            raise

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    # The request's body.

    def _send_stream(self, transport: asyncio.Transport, head: bytes, body: BodyStream) -> None:
        self._sent_all = False
        transport.write(head)
        run = Run(self._copy(transport, body), self._copied)
        self._sending = None if run.finished else run

    async def _copy(self, transport: asyncio.Transport, body: BodyStream) -> None:
        owed = body.length
        chunked = owed is None
        try:
            while chunk := await body.read():
                if owed is not None:
                    owed -= len(chunk)
                    if owed < 0:
                        raise _wrong_length()
                if self._writable is not None:
                    await self._writable
                transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk) if chunked else chunk)
            if owed:
                raise _wrong_length()
            if chunked:
                transport.write(b"0\r\n\r\n")
        finally:
            body.close()

    def _copied(self, _value: None, error: BaseException | None) -> None:
        self._sending = None
        if error is None:
            self._sent_all = True
            self._finish_if_done()
            return
        if isinstance(error, Failure) and self._head is not None:
            # The caller's side of the body broke off: that, not this connection, is the reason.
            head, self._head = self._head, None
            head.fail(error)
        self.abort()

    # The reply.

    def reply_started(self, status: int, headers: Headers, length: int | None) -> None:
        """The reply's head is here."""
        self._status, self._headers, self._length = status, headers, length
        self._received = 0
        if length is not None and 0 <= self._body_limit < length:
            raise Refused(413, f"the reply body is over the limit of {self._body_limit} bytes")
        if length is not None and length > WHOLE:
            self._start_stream()

    def reply_data(self, chunk: bytes) -> None:
        """A piece of the reply's body."""
        self._received += len(chunk)
        if 0 <= self._body_limit < self._received:
            raise Refused(413, f"the reply body is over the limit of {self._body_limit} bytes")
        if self._stream is not None:
            self._stream.feed(chunk)
        else:
            self._chunks.append(chunk)

    def reply_ended(self) -> None:
        """The reply is complete."""
        self._replied = True
        self._keep = self._reader.keep_alive
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _complete(self) -> None:
        # Not before the parser is through: it must not be used again in the middle of a callback,
        # nor the connection when bytes follow that answer nothing.
        stream, self._stream = self._stream, None
        head, self._head = self._head, None
        if stream is not None or head is None:
            self._finish_if_done()
            if stream is not None:
                stream.finish()
            return
        chunks = self._chunks
        body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        reply = Reply(self._status, self._headers, body)
        if not body and self._length and self._status != 204:
            # HEAD: the length that the body would have had is a header like any other.
            reply.headers.append((b"Content-Length", b"%d" % self._length))
        self._finish_if_done()
        head.set(reply)

    def _start_stream(self) -> None:
        stream = BodyStream(self._length, self._consumed, self.abort)
        self._stream = stream
        for chunk in self._chunks:
            stream.feed(chunk)
        self._chunks = []
        head, self._head = self._head, None
        if head is not None:
            head.set(Reply(self._status, self._headers, stream))

    def _finish_if_done(self) -> None:
        transport = self._transport
        if not self._replied or transport is None:
            return
        unsent = transport.get_write_buffer_size()
        if self._keep and self._sent_all and not unsent:
            self.used = True
            self._owner.connection_idle(self)
            return
        # The reply came before the request's body was through, or the peer will close. What is
        # not sent by now, nobody waits for.
        if unsent:
            transport.abort()
        else:
            transport.close()
        if self._sending is not None:
            self._sending.cancel()

    def _consumed(self, _size: int) -> None:
        stream = self._stream
        if not self._paused or self._transport is None:
            return
        if stream is None or stream.buffered <= LOW:
            self._paused = False
            self._transport.resume_reading()

    def _timed_out(self) -> None:
        self._break(TimedOut("the reply did not arrive within the deadline"))

    def _break(self, failure: Failure) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        head, self._head = self._head, None
        stream, self._stream = self._stream, None
        sending, self._sending = self._sending, None
        self._replied = True
        self.abort()
        if sending is not None:
            sending.cancel()
        if stream is not None:
            stream.fail(failure)
        if head is not None:
            head.fail(failure)

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=LOW)

    def data_received(self, data: bytes) -> None:
        """Read a reply; bytes that answer nothing end the connection."""
        if self._replied and self._head is None:
            self.abort()
            return
        self.heard = True
        try:
            self._reader.feed(data)
        except Refused as refusal:
            if self._replied:
                # The reply is whole; what follows it costs the connection.
                self._keep = False
                self._complete()
                return
            kind = TooLarge if refusal.status == 413 else Unavailable
            self._break(kind(refusal.why, reason="bad-reply"))
            return
        if self._replied:
            self._complete()
            return
        if self._head is not None and self._status and self._length is None:
            self._start_stream()
        stream = self._stream
        if stream is not None and stream.buffered > HIGH and not self._paused and self._transport:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The peer closed: the end of a body without a length, or a break."""
        if self._reader.end_of_stream():
            self._complete()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._transport = None
        self._owner.connection_closed(self)
        if not self._replied:
            self._break(
                Unavailable(
                    "the connection broke before the reply was complete",
                    reason="connection-broken",
                    reached=self._written,
                )
            )
        # Last, when nobody waits any more: a closed transport must not be written to.
        self.resume_writing()

    def pause_writing(self) -> None:
        """The peer reads slower than it is written to."""
        if self._writable is None:
            self._writable = Waiter()

    def resume_writing(self) -> None:
        """The peer reads again."""
        writable, self._writable = self._writable, None
        if writable is not None:
            writable.set(None)


def _wrong_length() -> Unavailable:
    return Unavailable("the body is not as long as its announced length", reason="body-length")


def _length(method: bytes, body: bytes) -> bytes:
    if body or method in (b"POST", b"PUT", b"PATCH"):
        return b"Content-Length: %d\r\n" % len(body)
    return b""


def _framing(body: BodyStream) -> bytes:
    if body.length is None:
        return b"Transfer-Encoding: chunked\r\n"
    return b"Content-Length: %d\r\n" % body.length
