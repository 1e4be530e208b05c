"""A small HTTP/1.1 app whose every byte and pause a test decides."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

PATIENCE = 5.0
"""Seconds for a request that is expected."""


@dataclass(frozen=True)
class AppRequest:
    """A request as the app saw it.

    Attributes:
        method, target: of the request line.
        headers: names as sent, and values.
        body: the content, with chunks joined.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        """Return every value of a header."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def header(self, name: str) -> str | None:
        """Return the only value of a header, or None."""
        values = self.all(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


class AppConnection:
    """One connection to the app."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.peer_gone = asyncio.Event()

    async def head(self) -> AppRequest:
        """Read a request's head.

        Raises:
            asyncio.IncompleteReadError: the peer closed.
        """
        raw = await self.reader.readuntil(b"\r\n\r\n")
        line, *fields = raw[:-4].decode("latin-1").split("\r\n")
        method, target, version = line.split(" ")
        assert version == "HTTP/1.1", line
        headers = [tuple(one.split(": ", 1)) for one in fields]
        return AppRequest(method, target, headers, b"")  # type: ignore[arg-type]

    async def request(self) -> AppRequest:
        """Read a whole request.

        Raises:
            asyncio.IncompleteReadError: the peer closed.
        """
        head = await self.head()
        length, coding = head.header("content-length"), head.header("transfer-encoding")
        assert length is None or coding is None, head.headers
        body = b""
        if coding is not None:
            assert coding == "chunked"
            while chunk := await self.chunk():
                body += chunk
        elif length is not None:
            body = await self.reader.readexactly(int(length))
        return AppRequest(head.method, head.target, head.headers, body)

    async def chunk(self) -> bytes:
        """Read one chunk; empty is the last."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        return (await self.reader.readexactly(size + 2))[:-2]

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, status: int = 200, body: bytes = b"", *headers: str) -> None:
        """Send a reply with ``Content-Length``; ``headers`` are whole lines."""
        lines = [f"HTTP/1.1 {status} Fine", f"Content-Length: {len(body)}", *headers]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def close(self) -> None:
        """Close in good order."""
        self.writer.close()

    def reset(self) -> None:
        """Close with a TCP reset."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def until_gone(self) -> None:
        """Return when the peer has closed, whatever it sends before."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass


Script: TypeAlias = Callable[[AppConnection], Awaitable[None]]


class ScriptedApp:
    """A server that runs a script for each connection.

    Attributes:
        port: where it listens.
        opened: connections accepted so far.
        open: connections open now.
        errors: what scripts raised, other than for a peer that closed.
    """

    def __init__(self, script: Script, tls: ssl.SSLContext | None = None) -> None:
        self.script = script
        self.tls = tls
        self.port = 0
        self.opened = 0
        self.open = 0
        self.errors: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(
            self._connected, "127.0.0.1", self.port, ssl=self.tls
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and close every connection."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.opened += 1
        self.open += 1
        try:
            await self.script(AppConnection(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        except Exception as error:  # noqa: BLE001 - shown by the test that runs the app
            self.errors.append(error)
        finally:
            self._tasks.discard(task)
            self.open -= 1
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def app_running(
    script: Script, tls: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedApp]:
    """Run an app; a script's own failure fails the test."""
    app = ScriptedApp(script, tls)
    await app.start()
    try:
        yield app
    finally:
        await app.stop()
    assert not app.errors, app.errors


def answering(answer: Callable[[AppRequest], tuple[int, bytes]]) -> Script:
    """Return a script that keeps its connection and answers every request."""

    async def script(connection: AppConnection) -> None:
        while True:
            await connection.reply(*answer(await connection.request()))

    return script
