"""Real servers and raw connections for the SDK's tests."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import uvicorn
from anyio.abc import SocketAttribute, SocketStream

from pillion_sdk import App


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait until something is true; fail when it does not become so in time."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.005)


@asynccontextmanager
async def serving(app: App) -> AsyncIterator[int]:
    """Serve an app with uvicorn on a free port of this machine; give the port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    config = uvicorn.Config(app, log_config=None, log_level="error", lifespan="on", ws="none")
    server = uvicorn.Server(config)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server.serve, [listener])
        await until(lambda: server.started)
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True


class Wire:
    """A raw HTTP/1.1 connection: bytes out, bytes in."""

    def __init__(self, stream: SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        await self.stream.send(data)

    async def read_until(self, mark: bytes) -> bytes:
        """Return everything up to and with a mark."""
        with anyio.fail_after(5):
            while mark not in self._buffer:
                self._buffer += await self.stream.receive()
        found, _, self._buffer = self._buffer.partition(mark)
        return found + mark

    async def read_exactly(self, size: int) -> bytes:
        """Return so many bytes."""
        with anyio.fail_after(5):
            while len(self._buffer) < size:
                self._buffer += await self.stream.receive()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def read_to_end(self) -> bytes:
        """Return what comes until the other side closes."""
        data, self._buffer = self._buffer, b""
        with anyio.fail_after(5):
            try:
                while True:
                    data += await self.stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                return data

    async def read_response(self) -> tuple[int, dict[str, str], bytes]:
        """Return one response whose length is in its head."""
        head = (await self.read_until(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        body = await self.read_exactly(int(headers.get("content-length", "0")))
        return int(first.split()[1]), headers, body


@asynccontextmanager
async def wire(port: int) -> AsyncIterator[Wire]:
    """Connect to a port of this machine."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        yield Wire(stream)


Script = Callable[[Wire], Awaitable[None]]


@asynccontextmanager
async def scripted(*scripts: Script) -> AsyncIterator[int]:
    """Listen on a free port; each connection in turn gets the next script, the last one stays."""
    remaining = list(scripts)

    async def handle(stream: SocketStream) -> None:
        script = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        async with stream:
            try:
                await script(Wire(stream))
            except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                return

    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handle)
        yield listener.extra(SocketAttribute.local_port)
        tasks.cancel_scope.cancel()


def reply(body: bytes = b"{}", status: str = "200 OK", *headers: str) -> bytes:
    """Return a response as bytes."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
