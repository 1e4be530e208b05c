"""One HTTP/1.1 connection of the local API: requests in, replies out, in order.

The protocol object owns everything that belongs to the connection: the exchange being answered,
those that wait behind it (pipelining), their bodies, and the timers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias, cast

from pillion.body import BodyStream, discard
from pillion.call import Reply
from pillion.errors import Failure, TooLarge, Unavailable
from pillion.inline import Run
from pillion.net.hangup import hung_up
from pillion.net.reply_writer import ReplyWriter
from pillion.operation import Request
from pillion.wheel import Timer, Wheel
from pillion.wire.errors_json import error_reply, text_reply
from pillion.wire.http1 import Refused, reply_head
from pillion.wire.http1_requests import RequestReader

log = logging.getLogger("pillion.api")

WHOLE = 64 * 1024
"""A body announced with at most this many bytes is handed over in one piece."""
HIGH, LOW = 256 * 1024, 64 * 1024
"""Bytes of a streamed body that wait before the socket is paused, and when it is resumed."""
MAX_PIPELINED = 16
LINGER = 2.0
"""Seconds in which a client may go on sending a body that nobody wants, so it can read why."""

Serve: TypeAlias = Callable[[Request], Awaitable[Reply]]


@dataclass(slots=True)
class Limits:
    """What one listener allows.

    Attributes:
        head: bytes of a request line and headers.
        body: bytes of a body; -1 for no limit.
        head_timeout: seconds for a head to arrive, from its first byte or the connection's start.
        stall_timeout: seconds without any progress, reading a body or writing a reply.
        connections: open at one time.
    """

    head: int = 4096
    body: int = 4 * 1024 * 1024
    head_timeout: float = 10.0
    stall_timeout: float = 60.0
    connections: int = 8192


class Counters:
    """What the listeners of one server count."""

    __slots__ = ("malformed", "opened", "refused", "requests", "timeouts")

    def __init__(self) -> None:
        self.opened = 0
        self.refused = 0
        self.requests = 0
        self.malformed = 0
        self.timeouts = 0


class Exchange:
    """A request and where its body stands."""

    __slots__ = ("chunks", "complete", "received", "request", "stream")

    def __init__(self, request: Request) -> None:
        self.request = request
        self.chunks: list[bytes] = []
        self.stream: BodyStream | None = None
        self.received = 0
        self.complete = False


class ApiConnection(asyncio.Protocol):
    """Reads requests, has them answered by ``serve`` one after the other, writes the replies."""

    __slots__ = (
        "_counters",
        "_current",
        "_draining",
        "_half_closed",
        "_input",
        "_limits",
        "_on_closed",
        "_over",
        "_paused",
        "_reader",
        "_refusal",
        "_run",
        "_serve",
        "_timer",
        "_transport",
        "_turning",
        "_waiting",
        "_wheel",
        "_writer",
    )

    _transport: asyncio.Transport | None
    _writer: ReplyWriter

    def __init__(
        self,
        serve: Serve,
        limits: Limits,
        counters: Counters,
        wheel: Wheel,
        on_closed: Callable[[ApiConnection], None],
    ) -> None:
        self._serve = serve
        self._limits = limits
        self._counters = counters
        self._wheel = wheel
        self._on_closed = on_closed
        self._reader = RequestReader(self, limits.head)
        self._transport = None
        self._input: Exchange | None = None
        self._current: Exchange | None = None
        self._waiting: deque[Exchange] = deque()
        self._run: Run[None] | None = None
        self._refusal: Refused | None = None
        self._turning = False
        self._paused = False
        self._draining = False
        self._half_closed = False
        self._over = False
        self._timer: Timer | None = None

    @property
    def busy(self) -> bool:
        """True while a request is being answered."""
        return self._current is not None

    def drain(self) -> None:
        """Close now if nothing is being asked or answered, else behind the answer."""
        self._draining = True
        idle = self._current is None and self._input is None and not self._reader.in_head
        if idle and self._transport is not None:
            self._finish(lingering=False)

    def abort(self) -> None:
        """Close at once, whatever is being answered."""
        if self._transport is not None:
            self._transport.abort()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start with the time limit for the first head."""
        self._transport = cast("asyncio.Transport", transport)
        self._writer = ReplyWriter(self._transport, self._wheel, self._limits.stall_timeout)
        self._start_timer(self._limits.head_timeout, self._head_timed_out)

    def data_received(self, data: bytes) -> None:
        """Read, dispatch, and see whether reading must pause."""
        if self._refusal is not None or self._over:
            return
        if not self._reader.in_head:
            self._stop_timer()
        try:
            self._reader.feed(data)
        except Refused as refusal:
            self._refuse(refusal)
            return
        incoming = self._input
        if incoming is not None and incoming.request.length is None and incoming.stream is None:
            self._dispatch_stream(incoming)
        if not self._over:
            self._time_reading()
            self._adjust_reading()

    def eof_received(self) -> bool:
        """The client sends no more: it may be gone, or wait for its answers."""
        if self._over or self._current is None or self._input is not None:
            # Nothing is owed, or what is owed lacks its body.
            return False
        self._half_closed = True
        self._watch_for_hang_up(soon=True)
        return self._transport is not None and not self._transport.is_closing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel what is being done for this client."""
        self._transport = None
        self._stop_timer()
        # First the work, which sees a cancellation and not a failure; then the body it read.
        if self._run is not None:
            self._run.cancel()
        incoming, self._input = self._input, None
        if incoming is not None and incoming.stream is not None:
            incoming.stream.fail(
                Unavailable("the client hung up", code="ERR_BODY_READ", reason="client-gone")
            )
        for exchange in self._waiting:
            discard(exchange.request.body)
        self._waiting.clear()
        self._writer.resume()
        self._on_closed(self)

    def pause_writing(self) -> None:
        """The client reads slower than it is written to."""
        self._writer.pause()

    def resume_writing(self) -> None:
        """The client reads again."""
        self._writer.resume()

    # What the reader calls.

    def request_started(self, request: Request) -> None:
        """A head is complete: decide how its body travels."""
        self._stop_timer()
        self._counters.requests += 1
        exchange = Exchange(request)
        length = request.length
        limit = self._limits.body
        if length is not None and 0 <= limit < length:
            raise Refused(413, f"the request body is over the limit of {limit} bytes")
        self._input = exchange
        if length is not None and length > WHOLE:
            self._dispatch_stream(exchange)
        elif length != 0 and self._current is None:
            self._say_continue(exchange)

    def request_data(self, chunk: bytes) -> None:
        """A piece of the body."""
        exchange = self._input
        if exchange is None:
            return
        exchange.received += len(chunk)
        limit = self._limits.body
        if 0 <= limit < exchange.received:
            raise Refused(413, f"the request body is over the limit of {limit} bytes")
        if exchange.stream is not None:
            exchange.stream.feed(chunk)
        else:
            exchange.chunks.append(chunk)

    def request_ended(self) -> None:
        """The request is complete."""
        exchange, self._input = self._input, None
        if exchange is None:
            return
        exchange.complete = True
        if exchange.stream is not None:
            exchange.stream.finish()
            return
        chunks = exchange.chunks
        exchange.request.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        exchange.request.length = exchange.received
        self._dispatch(exchange)

    # Exchanges.

    def _dispatch_stream(self, exchange: Exchange) -> None:
        stream = BodyStream(exchange.request.length, self._body_consumed)
        exchange.stream = stream
        exchange.request.body = stream
        for chunk in exchange.chunks:
            stream.feed(chunk)
        exchange.chunks.clear()
        self._dispatch(exchange)

    def _dispatch(self, exchange: Exchange) -> None:
        self._waiting.append(exchange)
        if self._current is None and not self._turning:
            self._turn()

    def _turn(self) -> None:
        # A loop rather than one exchange beginning the next: a burst of pipelined requests that
        # are answered at once must not grow the stack.
        self._turning = True
        while self._waiting and self._current is None and not self._over:
            self._begin(self._waiting.popleft())
        self._turning = False
        if self._current is None and self._input is not None:
            self._say_continue(self._input)

    def _begin(self, exchange: Exchange) -> None:
        self._current = exchange
        if exchange.stream is not None:
            self._say_continue(exchange)
        run = Run(self._answer(exchange), self._answered)
        if not run.finished:
            self._run = run

    def _say_continue(self, exchange: Exchange) -> None:
        if self._over or self._transport is None:
            return
        if exchange.request.expects_continue and exchange.received == 0:
            exchange.request.expects_continue = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._time_reading()

    async def _answer(self, exchange: Exchange) -> None:
        request = exchange.request
        try:
            reply = await self._serve(request)
        except Failure as failure:
            reply = error_reply(failure)
        if self._transport is None:
            discard(reply.body)
            return
        if self._is_last(exchange) or (request.http10 and _ends_with_connection(reply)):
            # The client is told, so it happens, whatever changes until the reply is written.
            request.keep_alive = False
        if not self._writer.write(request, reply, last=not request.keep_alive):
            await self._writer.send(request, reply, last=not request.keep_alive)

    def _is_last(self, exchange: Exchange) -> bool:
        return (
            not exchange.request.keep_alive
            or not exchange.complete
            or self._draining
            or (self._half_closed and not self._waiting)
        )

    def _answered(self, _value: None, error: BaseException | None) -> None:
        exchange, self._current = self._current, None
        self._run = None
        if exchange is not None:
            discard(exchange.request.body)
        transport = self._transport
        if transport is None or exchange is None:
            return
        if error is not None:
            log.error("a request ended with its connection", exc_info=error)
            transport.abort()
        elif self._is_last(exchange):
            self._finish(lingering=not exchange.complete)
        elif self._refusal is not None and not self._waiting:
            self._say_refusal()
        else:
            if self._paused:
                self._adjust_reading()
            if not self._turning:
                self._turn()

    # Bad ends.

    def _refuse(self, refusal: Refused) -> None:
        latest = self._waiting[-1] if self._waiting else self._current
        if self._over or (latest is not None and latest.complete and not latest.request.keep_alive):
            # What follows a request with "Connection: close" is none of ours.
            return
        self._counters.malformed += 1
        self._refusal = refusal
        incoming, self._input = self._input, None
        if incoming is not None and incoming.stream is not None:
            incoming.stream.fail(_as_failure(refusal))
        # Failing the body may have had its request answered, and the connection ended, already.
        if self._current is None and not self._over:
            self._say_refusal()

    def _say_refusal(self) -> None:
        refusal = self._refusal
        if self._transport is None or refusal is None:
            return
        text = refusal.why.encode() + b"\n"
        reply = text_reply(refusal.status, "")
        length = b"Content-Length: %d\r\n" % len(text)
        head = reply_head(reply.status, reply.headers, length, b"Connection: close\r\n")
        self._transport.write(head + text)
        self._finish(lingering=True)

    def _finish(self, *, lingering: bool) -> None:
        transport = self._transport
        if transport is None:
            return
        self._over = True
        if not lingering or self._half_closed or not transport.can_write_eof():
            self._close()
            return
        # Closing while the client still sends would reset the connection under our answer.
        if self._paused:
            self._paused = False
            transport.resume_reading()
        transport.write_eof()
        self._start_timer(LINGER, self._close)

    def _close(self) -> None:
        transport = self._transport
        if transport is None:
            return
        transport.close()
        if transport.get_write_buffer_size():
            self._start_timer(self._limits.stall_timeout, transport.abort)
        else:
            self._stop_timer()

    # Reading, and time.

    def _adjust_reading(self) -> None:
        transport = self._transport
        if transport is None or self._over:
            return
        stream = self._input.stream if self._input is not None else None
        buffered = stream.buffered if stream is not None else 0
        bound = LOW if self._paused else HIGH
        crowded = len(self._waiting) >= MAX_PIPELINED or buffered > bound
        if crowded and not self._paused:
            # The client's clock stands still while it is we who do not read.
            self._paused = True
            self._stop_timer()
            transport.pause_reading()
        elif self._paused and not crowded:
            self._paused = False
            transport.resume_reading()
            self._time_reading()

    def _body_consumed(self, _size: int) -> None:
        if self._paused:
            self._adjust_reading()

    def _time_reading(self) -> None:
        """Give what is being read its time: a head once, a body from each piece to the next."""
        incoming = self._input
        if incoming is not None:
            if incoming.received or not incoming.request.expects_continue:
                self._start_timer(self._limits.stall_timeout, self._body_timed_out)
        elif self._reader.in_head and self._timer is None:
            self._start_timer(self._limits.head_timeout, self._head_timed_out)

    def _start_timer(self, delay: float, callback: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._wheel.after(delay, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _head_timed_out(self) -> None:
        if self._reader.in_head:
            self._counters.timeouts += 1
            self._refuse(Refused(408, "the request's headers did not arrive in time"))
        elif self._current is None:
            self._counters.timeouts += 1
            self._finish(lingering=False)

    def _body_timed_out(self) -> None:
        if self._input is not None:
            self._counters.timeouts += 1
            self._refuse(Refused(408, "the request's body stopped arriving"))

    def _watch_for_hang_up(self, *, soon: bool = False) -> None:
        transport = self._transport
        if transport is None or self._current is None:
            return
        if hung_up(transport.get_extra_info("socket")):
            transport.abort()
        else:
            # A client that closes just now may not have let go of its socket yet.
            self._start_timer(0.02 if soon else 1.0, self._watch_for_hang_up)


def _ends_with_connection(reply: Reply) -> bool:
    """Tell whether nothing but the connection's end can tell an HTTP/1.0 client the body's."""
    return isinstance(reply.body, BodyStream) and reply.body.length is None


def _as_failure(refusal: Refused) -> Failure:
    if refusal.status == 413:
        return TooLarge(refusal.why)
    return Unavailable(refusal.why, code="ERR_BODY_READ", reason="bad-body")
