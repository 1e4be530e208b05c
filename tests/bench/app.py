"""The app behind the proxies, in Python: ``python -m tests.bench.app --port N``.

It answers 1 KiB to everything, the number of bytes it was sent to ``…/sink``, and ``N`` bytes to
``…/source?bytes=N``. nginx takes its place in the invocation benchmark when it is installed,
because it costs less.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from typing import cast
from urllib.parse import parse_qs, urlsplit

import httptools
import uvloop

PAYLOAD = b"x" * 1024
BLOCK = b"x" * (256 * 1024)


def answer(body: bytes) -> bytes:
    """A complete 200 reply that keeps the connection open."""
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


SMALL = answer(PAYLOAD)


class AppProtocol(asyncio.Protocol):
    """One connection; requests are answered in the order they come."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport | None = None
        self._url = b""
        self._received = 0
        self._unsent = 0
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._unsent = 0

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.abort()

    def on_message_begin(self) -> None:
        self._url = b""
        self._received = 0

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._received += len(body)

    def on_message_complete(self) -> None:
        if self._transport is None:
            return
        parts = urlsplit(self._url) if b"/s" in self._url else None
        if parts is not None and parts.path.endswith(b"/sink"):
            self._transport.write(answer(b"%d" % self._received))
        elif parts is not None and parts.path.endswith(b"/source"):
            self._unsent = int(parse_qs(parts.query)[b"bytes"][0])
            self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % self._unsent)
            self._pour()
        else:
            self._transport.write(SMALL)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pour()

    def _pour(self) -> None:
        while self._unsent and not self._paused and self._transport is not None:
            block = BLOCK[: self._unsent]
            self._unsent -= len(block)
            self._transport.write(block)


async def serve(port: int) -> None:
    """Serve on ``127.0.0.1:port`` until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    server = await loop.create_server(AppProtocol, "127.0.0.1", port, backlog=1024)
    try:
        await ended.wait()
    finally:
        server.close()


def main() -> None:
    """Read the port and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    port: int = parser.parse_args().port
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(port))


if __name__ == "__main__":
    main()
