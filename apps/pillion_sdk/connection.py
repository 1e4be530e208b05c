"""One HTTP/1.1 connection to the runtime: h11 for the protocol, anyio for the bytes."""

from __future__ import annotations

import select
import time
from collections.abc import AsyncIterable

import anyio
import h11
from anyio.abc import ByteStream, SocketAttribute

from pillion_sdk.environment import Endpoint
from pillion_sdk.headers import HOP_BY_HOP, RawHeaders
from pillion_sdk.pool import ConnectionBroken

READ_SIZE = 64 * 1024
MAX_HEAD = 64 * 1024
"""Bytes the head of a reply may have."""


class Connection:
    """One connection that carries one exchange at a time.

    Attributes:
        idle_since: when its last exchange ended, on ``time.monotonic()``; 0 for a fresh one.
    """

    __slots__ = ("_host", "_intact", "_protocol", "_socket_number", "_stream", "idle_since")

    def __init__(self, stream: ByteStream, host: bytes) -> None:
        self._stream = stream
        self._host = host
        self._socket_number = stream.extra(  # noqa: S610 - anyio's, not Django's
            SocketAttribute.raw_socket
        ).fileno()
        self._protocol = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD)
        self._intact = True
        self.idle_since = 0.0

    @classmethod
    async def open(cls, endpoint: Endpoint) -> Connection:
        """Connect.

        Raises:
            OSError: nobody listens there, or the way there is blocked.
        """
        stream: ByteStream
        if endpoint.unix_path is not None:
            return cls(await anyio.connect_unix(endpoint.unix_path), b"localhost")
        if endpoint.tls:
            stream = await anyio.connect_tcp(endpoint.host, endpoint.port, tls=True)
        else:
            stream = await anyio.connect_tcp(endpoint.host, endpoint.port)
        return cls(stream, str(endpoint).partition("://")[2].encode())

    def is_stale(self) -> bool:
        """Tell whether something happened on it while idle: it was closed, or garbage came."""
        poll = select.poll()
        poll.register(self._socket_number, select.POLLIN)
        return bool(poll.poll(0))

    @property
    def reusable(self) -> bool:
        """True when the exchange is over and both sides keep the connection open."""
        ended = self._protocol.our_state is h11.DONE and self._protocol.their_state is h11.DONE
        return ended and self._intact

    def reset(self) -> None:
        """Make ready for the next exchange."""
        self._protocol.start_next_cycle()
        self.idle_since = time.monotonic()

    async def send(self, method: str, target: str, headers: RawHeaders, body: bytes) -> None:
        """Send a complete request. A connection that breaks on the way may still hold a reply."""
        fields = [(b"host", self._host), *headers]
        if body or method in ("POST", "PUT", "PATCH"):
            fields.append((b"content-length", b"%d" % len(body)))
        head = self._protocol.send(_request(method, target, fields))
        data = self._protocol.send(h11.Data(data=body)) if body else b""
        end = self._protocol.send(h11.EndOfMessage())
        await self._write(b"".join((head or b"", data or b"", end or b"")))

    async def send_head(self, method: str, target: str, headers: RawHeaders) -> None:
        """Send the head of a request whose body follows in chunks."""
        fields = [(b"host", self._host), *headers, (b"transfer-encoding", b"chunked")]
        await self._write(self._protocol.send(_request(method, target, fields)) or b"")

    async def send_chunks(self, body: AsyncIterable[bytes]) -> None:
        """Send the body after :meth:`send_head`; the iterator waits while the socket is full."""
        async for chunk in body:
            if chunk:
                await self._write(self._protocol.send(h11.Data(data=chunk)) or b"")
            if not self._intact:
                return
        await self._write(self._protocol.send(h11.EndOfMessage()) or b"")

    async def _write(self, data: bytes) -> None:
        try:
            await self._stream.send(data)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            # A server that refuses a body answers first and then closes: the reply decides.
            self._intact = False

    async def read_head(self) -> tuple[int, RawHeaders]:
        """Return status and headers of the reply.

        Raises:
            ConnectionBroken: there is none.
        """
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                fields = [pair for pair in event.headers if pair[0] not in HOP_BY_HOP]
                return event.status_code, fields

    async def read(self) -> bytes:
        """Return the next chunk of the reply's body; empty at its end.

        Raises:
            ConnectionBroken: the body broke off.
        """
        while True:
            if self._protocol.their_state is not h11.SEND_BODY:
                return b""
            event = await self._next()
            if isinstance(event, h11.Data) and event.data:
                return bytes(event.data)

    async def _next(self) -> object:
        while True:
            try:
                event = self._protocol.next_event()
                if event is not h11.NEED_DATA:
                    return event
                try:
                    data = await self._stream.receive(READ_SIZE)
                except anyio.EndOfStream:
                    if self._protocol.their_state is h11.SEND_RESPONSE:
                        raise ConnectionBroken(
                            "it closed the connection instead of answering"
                        ) from None
                    data = b""
                self._protocol.receive_data(data)
            except h11.RemoteProtocolError as error:
                raise ConnectionBroken(f"it broke off, or broke the protocol: {error}") from None
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                raise ConnectionBroken("the connection was reset") from None

    async def aclose(self) -> None:
        """Close at once."""
        await anyio.aclose_forcefully(self._stream)


def _request(method: str, target: str, fields: RawHeaders) -> h11.Request:
    try:
        return h11.Request(method=method.encode(), target=target.encode(), headers=fields)
    except h11.LocalProtocolError as error:
        raise ValueError(f"HTTP does not allow that method, path or header: {error}") from None
