"""Servers, clients and apps on real sockets, and a log that must stay free of errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.raw_http import RawClient

from pillion.body import read_all
from pillion.call import Reply
from pillion.net.api_connection import Limits
from pillion.net.api_server import ApiServer
from pillion.net.router import Router
from pillion.operation import Endpoint, Operation, Request
from pillion.wheel import Wheel

LIMITS = Limits(body=1024 * 1024, head_timeout=2.0, stall_timeout=2.0)


class ErrorLog(logging.Handler):
    """Collects what is logged as an error, and what asyncio finds worth a warning."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR or record.name.startswith("asyncio"):
            self.records.append(record)

    def take(self) -> list[str]:
        """Return the messages so far; what a test has taken, it expected."""
        taken, self.records = self.records, []
        return [record.getMessage() for record in taken]


@pytest.fixture(autouse=True)
def error_log() -> Iterator[ErrorLog]:
    """What is logged as an error; a test must have taken all of it."""
    handler = ErrorLog()
    loggers = [logging.getLogger(name) for name in ("pillion", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    yield handler
    for logger in loggers:
        logger.removeHandler(handler)
    assert handler.take() == []


@pytest.fixture
async def wheel() -> AsyncIterator[Wheel]:
    """The timers of the test's loop."""
    wheel = Wheel(asyncio.get_running_loop())
    yield wheel
    wheel.close()


class Api:
    """A running server.

    Attributes:
        server: the server.
        port: its TCP port.
        requests: what its endpoint was asked, in order.
    """

    def __init__(self, server: ApiServer, requests: list[Request]) -> None:
        self.server = server
        self.requests = requests
        self.port = 0
        self.clients: list[RawClient] = []

    async def connect(self) -> RawClient:
        """Open a connection, closed with the test."""
        client = await RawClient.open(self.port)
        self.clients.append(client)
        return client

    async def connect_unix(self, path: Path) -> RawClient:
        """Listen on a Unix socket and open a connection to it."""
        await self.server.listen_unix(path)
        client = await RawClient.open(path)
        self.clients.append(client)
        return client


Starter = Callable[..., Any]


async def echo(request: Request) -> Reply:
    """Answer with what was asked."""
    body = await read_all(request.body, 64 * 1024 * 1024)
    line = b"%b %b" % (request.method, request.path)
    return Reply(200, [(b"X-Line", line)], body)


@pytest.fixture
async def start(wheel: Wheel) -> AsyncIterator[Starter]:
    """Start servers; closed at the end."""
    running: list[Api] = []

    async def starting(
        endpoint: Endpoint = echo,
        *,
        rows: tuple[Operation, ...] = (),
        allowed: Callable[[str, str], bool] = lambda _group, _version: True,
        sampling: float = 0.0,
        settings: dict[str, Any] | None = None,
        **limits: Any,
    ) -> Api:
        requests: list[Request] = []

        async def remembering(request: Request) -> Reply:
            requests.append(request)
            return await endpoint(request)

        server = ApiServer(
            Router(rows, remembering, allowed),
            wheel,
            replace(LIMITS, **limits),
            sampling=sampling,
            **(settings or {}),
        )
        api = Api(server, requests)
        running.append(api)
        api.port = await server.listen("127.0.0.1", 0)
        return api

    yield starting
    for api in running:
        for client in api.clients:
            await client.close()
        await api.server.drain(0.2)
        assert api.server.open_connections == 0 or await _settled(api.server)


async def _settled(server: ApiServer) -> bool:
    for _ in range(500):
        if server.open_connections == 0:
            return True
        await asyncio.sleep(0.002)
    return False


class Gate:
    """An endpoint that holds its requests until they are let go, and knows who was cancelled."""

    def __init__(self) -> None:
        self.arrived: list[bytes] = []
        self.cancelled: list[bytes] = []
        self._open = asyncio.Event()

    def open(self) -> None:
        self._open.set()

    async def __call__(self, request: Request) -> Reply:
        self.arrived.append(request.path)
        if request.path.startswith(b"/slow"):
            try:
                await self._open.wait()
            except asyncio.CancelledError:
                self.cancelled.append(request.path)
                raise
        body = await read_all(request.body, 64 * 1024 * 1024)
        return Reply(200, [], request.path + b" " + body)


@pytest.fixture
async def gate() -> Gate:
    return Gate()
