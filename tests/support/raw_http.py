"""An HTTP/1.1 client that sends exactly the bytes it is told to, well-formed or not."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path

PATIENCE = 5.0
"""Seconds for anything that is expected to arrive."""
BODILESS = frozenset({204, 304})


@dataclass
class RawReply:
    """A reply as it was on the wire.

    Attributes:
        status: the status code.
        reason: the rest of the status line.
        headers: names as sent, and values.
        body: the content, with chunks joined.
        chunks: the sizes of the chunks, when it was chunked.
    """

    status: int
    reason: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    chunks: list[int] = field(default_factory=list)

    def all(self, name: str) -> list[bytes]:
        """Return every value of a header."""
        wanted = name.lower().encode()
        return [value for key, value in self.headers if key.lower() == wanted]

    def header(self, name: str) -> bytes | None:
        """Return the only value of a header, or None."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def closes(self) -> bool:
        """True when the reply announces the end of its connection."""
        return (self.header("connection") or b"").lower() == b"close"


class RawClient:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, place: int | Path, host: str = "127.0.0.1") -> RawClient:
        """Connect to a TCP port, or to a Unix socket when ``place`` is a path."""
        if isinstance(place, Path):
            return cls(*await asyncio.open_unix_connection(str(place)))
        return cls(*await asyncio.open_connection(host, place))

    async def send(self, data: bytes) -> None:
        """Send ``data`` and wait until the peer has room for it."""
        self.writer.write(data)
        await asyncio.wait_for(self.writer.drain(), PATIENCE)

    async def send_pieces(self, pieces: Iterable[bytes], pause: float = 0.0) -> None:
        """Send each piece on its own, ``pause`` seconds apart."""
        for piece in pieces:
            await self.send(piece)
            await asyncio.sleep(pause)

    def half_close(self) -> None:
        """Say that nothing more will be sent, and stay to read."""
        if not self.writer.is_closing():
            with contextlib.suppress(OSError):  # the peer was faster
                self.writer.write_eof()

    async def close(self) -> None:
        """Go away as a program does that ends."""
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()

    async def reset(self) -> None:
        """Go away with a TCP reset."""
        if not self.writer.is_closing():
            sock = self.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()
        await asyncio.sleep(0)

    async def head(self) -> RawReply:
        """Read a status line and headers."""
        raw = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE)
        status_line, *lines = raw[:-4].split(b"\r\n")
        version, status, reason = status_line.split(b" ", 2)
        assert version == b"HTTP/1.1", status_line
        headers = []
        for line in lines:
            name, colon, value = line.partition(b": ")
            assert colon, f"not a header: {line!r}"
            assert name, f"not a header: {line!r}"
            headers.append((name, value))
        return RawReply(int(status), reason, headers)

    async def reply(self, method: str = "GET") -> RawReply:
        """Read a whole reply to ``method``; its framing must be sound."""
        reply = await self.head()
        length, coding = reply.header("content-length"), reply.header("transfer-encoding")
        assert length is None or coding is None, reply.headers
        if method == "HEAD" or reply.status in BODILESS or reply.status < 200:
            return reply
        if coding is not None:
            assert coding == b"chunked"
            chunks = [chunk async for chunk in self.chunks()]
            reply.body = b"".join(chunks)
            reply.chunks = [len(chunk) for chunk in chunks]
        elif length is not None:
            body = self.reader.readexactly(int(length))
            reply.body = await asyncio.wait_for(body, PATIENCE)
        else:
            reply.body = await self.rest()
        return reply

    async def chunks(self) -> AsyncIterator[bytes]:
        """Read chunks until the last one."""
        while True:
            line = await asyncio.wait_for(self.reader.readuntil(b"\r\n"), PATIENCE)
            size = int(line, 16)
            data = await asyncio.wait_for(self.reader.readexactly(size + 2), PATIENCE)
            assert data[-2:] == b"\r\n"
            if size == 0:
                return
            yield data[:-2]

    async def rest(self) -> bytes:
        """Read until the peer closes; a reset counts as an end."""
        parts: list[bytes] = []
        with contextlib.suppress(ConnectionError):
            while part := await asyncio.wait_for(self.reader.read(65536), PATIENCE):
                parts.append(part)
        return b"".join(parts)

    async def ends(self, within: float = PATIENCE) -> bool:
        """Tell whether the peer closes within so many seconds, sending nothing more."""
        try:
            return await asyncio.wait_for(self.reader.read(1), within) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False

    async def ask(self, data: bytes, method: str = "GET") -> RawReply:
        """Send a request and read its reply."""
        await self.send(data)
        return await self.reply(method)


@contextlib.asynccontextmanager
async def connected(place: int | Path, host: str = "127.0.0.1") -> AsyncIterator[RawClient]:
    """Connect, and close at the end."""
    client = await RawClient.open(place, host)
    try:
        yield client
    finally:
        await client.close()


def request(
    method: str = "GET",
    target: str = "/",
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
    *,
    chunked: bool = False,
) -> bytes:
    """Return a request as bytes, with ``Host`` and the framing of its body."""
    lines = [f"{method} {target} HTTP/1.1", "Host: api"]
    lines += [f"{name}: {value}" for name, value in headers]
    if chunked:
        lines.append("Transfer-Encoding: chunked")
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
