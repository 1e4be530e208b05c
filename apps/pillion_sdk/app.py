"""The app: a table of functions, served over ASGI."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, TypeVar

from pillion_sdk.asgi import Receive, Scope, Send
from pillion_sdk.blocking import SyncClient
from pillion_sdk.client import Client
from pillion_sdk.dispatch import Dispatcher
from pillion_sdk.environment import app_port
from pillion_sdk.handler import Handler
from pillion_sdk.inbound import UNLIMITED
from pillion_sdk.lifespan import Lifespan, serve_lifespan
from pillion_sdk.lock import HeldLock
from pillion_sdk.problems import ErrorTable, RegistrationError
from pillion_sdk.response import Response
from pillion_sdk.routing import RouteTable, Template
from pillion_sdk.state import StateStore

F = TypeVar("F", bound=Callable[..., object])
Hook = TypeVar("Hook", bound=Callable[[], object])
E = TypeVar("E", bound=Exception)

MAX_BODY = 4 * 1024 * 1024
"""Bytes a request body may have unless the app says otherwise."""


class App:
    """An app made of functions.

    It is an ASGI 3 application, so any ASGI server can serve it; :meth:`run` does so with uvicorn.

    Args:
        name: the app id, as other apps call it.
        lifespan: an async context manager, open while the app runs, outside the start and stop
            hooks.
        max_body: bytes a request body may have; -1 for no limit. A longer one is answered 413.
        threads: how many functions that are not async may run at once; more wait.
        client: how calls leave; without it, through the runtime the environment names.

    Raises:
        RegistrationError: the name or a limit is no good.
    """

    def __init__(
        self,
        name: str,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
        max_body: int = MAX_BODY,
        threads: int = 40,
        client: Client | None = None,
    ) -> None:
        if not name or "/" in name or "." in name:
            raise RegistrationError(f"{name!r} is no app id: use letters, digits and dashes")
        if threads < 1:
            raise RegistrationError(f"threads is {threads}: give at least 1")
        self.name = name
        self.client = Client() if client is None else client
        self.sync_client = SyncClient(self.client)
        self._max_body = _limit(max_body)
        self._lifespan = Lifespan(lifespan)
        self._errors = ErrorTable()
        self._routes: RouteTable[Handler] = RouteTable()
        self._dispatcher = Dispatcher(self._routes, self._errors, threads)
        for path, function in _CONTROL.items():
            self._add(path, ["GET"], function, {}, max_body=MAX_BODY, default=True)

    def call(
        self, path: str, *, methods: Sequence[str] = ("POST",), max_body: int | None = None
    ) -> Callable[[F], F]:
        """Register the decorated function as the handler of a path.

        Args:
            path: a template such as ``orders/{id}``, or ``files/{name:path}`` for the rest of a
                path.
            methods: HTTP methods; a GET handler answers HEAD too.
            max_body: bytes the body may have, -1 for no limit; without it, the app's limit.

        Raises:
            RegistrationError: the path is malformed or taken, or a parameter cannot be bound.
        """
        frame = inspect.currentframe()
        caller = frame.f_back if frame is not None else None
        local_names = dict(caller.f_locals) if caller is not None else {}
        limit = self._max_body if max_body is None else _limit(max_body)

        def register(function: F) -> F:
            self._add(path, methods, function, local_names, max_body=limit)
            return function

        return register

    def error(
        self,
        kind: type[E],
        *,
        status: int,
        code: str | None = None,
        message: Callable[[E], str] = str,
    ) -> None:
        """Give an exception of your own, and those derived from it, a status.

        Args:
            kind: the class.
            status: 400 to 599.
            code: the ``errorCode``; without it ``ERR_`` and the class's name in capitals.
            message: makes the ``message``; ``str`` without it.

        Raises:
            RegistrationError: the status is no error, or the class is mapped already.
        """
        make: Callable[[Any], str] = message
        self._errors.add(kind, status, code or f"ERR_{_capitals(kind.__name__)}", make)

    def on_start(self, hook: Hook) -> Hook:
        """Run the decorated function, async or not, before the first request."""
        self._lifespan.on_start.append(hook)
        return hook

    def on_stop(self, hook: Hook) -> Hook:
        """Run the decorated function, async or not, after the last request."""
        self._lifespan.on_stop.append(hook)
        return hook

    def state(self, store: str) -> StateStore:
        """Return a state store of the runtime; see :class:`pillion_sdk.StateStore`."""
        return self.client.state(store)

    def lock(
        self, store: str, resource: str, *, ttl: float = 30.0, wait: float = 0.0
    ) -> AbstractAsyncContextManager[HeldLock]:
        """Hold a lock for the time of an ``async with``; see :meth:`Client.lock`."""
        return self.client.lock(store, resource, ttl=ttl, wait=wait)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Run the lifespan and the hooks; the client's connections are closed at the end."""
        try:
            async with self._lifespan.running():
                yield
        finally:
            await self.client.aclose()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI scope."""
        if scope["type"] == "http":
            await self._dispatcher.serve(scope, receive, send)
        elif scope["type"] == "lifespan":
            await serve_lifespan(self.running(), receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000, "reason": ""})
        else:
            raise RuntimeError(f"an ASGI server offers {scope['type']!r}, which is not known here")

    def run(
        self,
        host: str = "127.0.0.1",
        port: int | None = None,
        *,
        access_log: bool = False,
        stop_timeout: float = 10.0,
    ) -> None:
        """Serve the app with uvicorn until SIGTERM or SIGINT.

        Requests in flight are finished, then the stop hooks run, then this returns.

        Args:
            host: the address to listen on.
            port: 0 picks a free one; without it ``PILLION_APP_PORT``, then ``APP_PORT``, then
                8000.
            access_log: log a line for each request.
            stop_timeout: seconds that requests in flight may take after the signal; those that
                take longer are cancelled.

        Raises:
            SystemExit: the port cannot be had, or a start hook failed.
        """
        from pillion_sdk.serve import run

        if port is None:
            try:
                port = app_port()
            except ValueError as error:
                raise SystemExit(f"{self.name}: {error}") from None
        run(self, self.name, host, port, access_log=access_log, stop_timeout=stop_timeout)

    def _add(
        self,
        path: str,
        methods: Sequence[str],
        function: Callable[..., Any],
        local_names: Mapping[str, Any],
        *,
        max_body: int,
        default: bool = False,
    ) -> None:
        template = Template.parse(path)
        handler = Handler(function, template.names, local_names, max_body=max_body)
        self._routes.add(template, methods, handler, default=default)

    def __repr__(self) -> str:
        return f"<App {self.name}>"


def _limit(max_body: int) -> int:
    if max_body < 0 and max_body != UNLIMITED:
        raise RegistrationError(f"max_body is {max_body}: give bytes, or -1 for no limit")
    return max_body


def _capitals(name: str) -> str:
    words = "".join(f"_{letter}" if letter.isupper() else letter for letter in name)
    return words.strip("_").upper()


async def _healthz() -> Response:
    return Response(200, "ok")


async def _config() -> dict[str, object]:
    return {}


async def _subscribe() -> list[object]:
    return []


_CONTROL: Mapping[str, Callable[..., Any]] = {
    "healthz": _healthz,
    "dapr/config": _config,
    "dapr/subscribe": _subscribe,
}
"""What the runtime asks every app; each gives way to a handler of the user's own."""
