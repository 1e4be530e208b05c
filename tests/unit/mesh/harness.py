"""Runtimes and raw peers for the tests of the mesh."""

from __future__ import annotations

import asyncio
import math
import ssl
import struct
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from tests.unit.mesh.certificates import Authority, identify

from pillion.body import Body, BodyStream
from pillion.call import Call, Handler, Headers, Reply, Target
from pillion.inline import Run
from pillion.kinds.registry import Instance
from pillion.mesh.listener import MeshListener
from pillion.mesh.pool import Peers
from pillion.mesh.settings import Settings
from pillion.wheel import Wheel
from pillion.wire.frames import Frame, FrameReader, Hello, Request, append

HELLO = Hello(1, 256 * 1024, 512, 64 * 1024, 64 * 1024)


def call(
    body: Body = b"",
    *,
    method: bytes = b"POST",
    path: bytes = b"/x",
    headers: Headers | None = None,
    seconds: float = math.inf,
    app_id: str = "orders",
) -> Call:
    """A call as the local API would make it."""
    return Call(
        "invocation.call",
        Target("app", app_id, "default"),
        method,
        path,
        b"",
        headers,
        body,
        deadline=time.monotonic() + seconds,
    )


def stream(*parts: bytes, length: int | None = None, end: bool = True) -> BodyStream:
    """A body stream that already holds ``parts``."""
    body = BodyStream(length)
    for part in parts:
        body.feed(part)
    if end:
        body.finish()
    return body


async def until(condition: Callable[[], object], seconds: float = 5.0) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        await asyncio.sleep(0.002)


def start(work: Coroutine[Any, Any, Reply]) -> tuple[Run[Reply], asyncio.Future[Reply]]:
    """Run a call the way the local API does; the future gets its outcome."""
    future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()

    def done(reply: Reply | None, error: BaseException | None) -> None:
        if error is None:
            future.set_result(reply)  # type: ignore[arg-type]
        elif isinstance(error, asyncio.CancelledError):
            future.cancel()
        else:
            future.set_exception(error)

    return Run(work, done), future


class Mesh:
    """Makes runtimes and closes them."""

    def __init__(self, authority: Authority) -> None:
        self.authority = authority
        self.wheel = Wheel(asyncio.get_running_loop())
        self.broken: list[Instance] = []
        self._closing: list[Callable[[], Awaitable[object]]] = []
        self._instances = 0

    def uri(self, app_id: str) -> str:
        return f"spiffe://public/ns/default/{app_id}"

    def contexts(self, app_id: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        """A server's and a client's context of an app."""
        return self.authority.contexts(self.uri(app_id))

    def instance(self, port: int, app_id: str = "orders") -> Instance:
        self._instances += 1
        return Instance(
            id=f"i{self._instances}",
            app_id=app_id,
            namespace="default",
            host="127.0.0.1",
            port=port,
        )

    async def listen(
        self,
        handler: Handler,
        *,
        app_id: str = "orders",
        settings: Settings | None = None,
        context: ssl.SSLContext | None = None,
        port: int = 0,
    ) -> tuple[MeshListener, Instance]:
        """Start a runtime that answers with ``handler``."""
        listener = MeshListener(
            handler,
            ssl_context=context or self.contexts(app_id)[0],
            identify=identify,
            accepts=("default", app_id),
            wheel=self.wheel,
            settings=settings or Settings(),
        )
        self._closing.append(listener.aclose)
        port = await listener.start("127.0.0.1", port)
        return listener, self.instance(port, app_id)

    def peers(
        self,
        *,
        app_id: str = "checkout",
        settings: Settings | None = None,
        context: ssl.SSLContext | None = None,
    ) -> Peers:
        """Return the calling part of a runtime."""
        peers = Peers(
            ssl_context=context or self.contexts(app_id)[1],
            identify=identify,
            trust_domain="public",
            wheel=self.wheel,
            on_broken=self.broken.append,
            settings=settings or Settings(),
            draw=lambda: 1.0,
        )
        self._closing.append(peers.aclose)
        return peers

    async def raw_client(self, port: int, *, greet: bool = True) -> Raw:
        """Connect by hand; with ``greet`` the Hellos are exchanged."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=self.contexts("checkout")[1]
        )
        raw = Raw(reader, writer)
        self._closing.append(raw.aclose)
        if greet:
            raw.send(HELLO)
            assert isinstance(await raw.next(), Hello)
        return raw

    async def raw_server(
        self, serve: Callable[[Raw], Awaitable[None]], *, app_id: str = "orders"
    ) -> Instance:
        """Answer connections by hand with ``serve``; returns when somebody can connect."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            raw = Raw(reader, writer)
            try:
                await serve(raw)
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass
            finally:
                await raw.aclose()

        server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=self.contexts(app_id)[0])

        async def close() -> None:
            server.close()

        self._closing.append(close)
        return self.instance(server.sockets[0].getsockname()[1], app_id)

    async def aclose(self) -> None:
        """Close everything, the youngest first."""
        for close in reversed(self._closing):
            await close()
        self.wheel.close()


class Raw:
    """A peer that speaks frames by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._frames = FrameReader(1 << 20)

    def send(self, *frames: Frame) -> None:
        """Send frames in one write."""
        out = bytearray()
        for frame in frames:
            append(frame, out)
        self.writer.write(bytes(out))

    async def next(self) -> Frame:
        """Return the next frame.

        Raises:
            IncompleteReadError: the other side has closed.
        """
        async with asyncio.timeout(5):
            head = await self.reader.readexactly(4)
            body = await self.reader.readexactly(struct.unpack(">I", head)[0])
        self._frames.feed(head + body)
        frame = self._frames.next()
        assert frame is not None
        return frame

    async def expect(self, kind: type[Frame]) -> Any:
        """Return the next frame of ``kind``; others are skipped."""
        while True:
            frame = await self.next()
            if isinstance(frame, kind):
                return frame

    async def closed(self) -> None:
        """Wait until the other side has closed."""
        async with asyncio.timeout(5):
            try:
                while await self.reader.read(65536):
                    pass
            except ConnectionError:
                pass

    async def greet(self) -> None:
        """Exchange Hellos."""
        self.send(HELLO)
        await self.expect(Hello)

    def abort(self) -> None:
        """Break the connection off."""
        self.writer.transport.abort()

    async def aclose(self) -> None:
        """Close without waiting for the other side."""
        self.writer.transport.abort()


def request(stream_id: int, body: bytes = b"", *, end: bool = True, **changes: Any) -> Request:
    """A Request frame for app ``orders``."""
    fields: dict[str, Any] = {
        "stream": stream_id,
        "operation": "invocation.receive",
        "namespace": "default",
        "app_id": "orders",
        "method": b"GET",
        "path": b"/x",
        "query": b"",
        "headers": [],
        "remaining": -1,
        "attempt": 0,
        "length": -1,
        "body": body,
        "end": end,
    }
    return Request(**{**fields, **changes})
